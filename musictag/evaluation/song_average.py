"""Song scores: the mean over the patches of each song."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from musictag.common.errors import MusictagError


class SongAverage(Metric):
    """Mean over a song's patches of the tags' probabilities, for ``num_songs`` songs and ``num_tags`` tags.

    Sums are kept by song and added up over ranks, so the patches of a song may come from any rank in any order, and a
    whole song evaluated twice counts as if evaluated once. The sums are float64, in which float32 probabilities add up
    almost always exactly: the order leaves no trace in the float32 means. Use ``update``, ``compute`` and ``reset``;
    calling the metric itself would ask for all songs in every batch.
    """

    full_state_update = False
    sum: Tensor
    count: Tensor

    def __init__(self, num_songs: int, num_tags: int) -> None:
        super().__init__()
        self.add_state("sum", torch.zeros(num_songs, num_tags, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(num_songs, dtype=torch.int64), dist_reduce_fx="sum")

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> SongAverage:
        # A model turned to bfloat16 takes its metrics along; the sums move to its device but keep their precision.
        return super()._apply(lambda tensor: fn(tensor).to(tensor.dtype), exclude_state)

    def update(self, song: Tensor, probabilities: Tensor) -> None:
        """Adds patches: ``song`` (B, int64) is each one's row among the songs, ``probabilities`` is B×K.

        Raises ValueError where the shapes do not fit, RuntimeError for a row that does not exist.
        """
        if probabilities.shape != (len(song), self.sum.shape[1]):
            raise ValueError(
                f"probabilities of shape {(len(song), self.sum.shape[1])} expected, got {tuple(probabilities.shape)}"
            )
        # first to the sums' device, then to their type: not every device has float64
        song, probabilities = song.to(self.sum.device), probabilities.detach().to(self.sum.device)
        self.sum.index_add_(0, song, probabilities.to(self.sum.dtype))
        self.count.index_add_(0, song, torch.ones_like(song, dtype=self.count.dtype))

    def compute(self) -> Tensor:
        """Song scores, S×K float32. Raises MusictagError while songs are missing: a part is not the evaluation."""
        missing = torch.nonzero(self.count == 0).flatten().tolist()
        if missing:
            rows = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            raise MusictagError(
                f"{len(missing)} of {len(self.count)} songs have no patch (rows {rows}): the evaluation is incomplete. "
                "Every song has to be evaluated; leave limit_val_batches and limit_test_batches at 1.0."
            )
        return (self.sum / self.count[:, None]).to(torch.float32)
