"""Song scores: the mean over each song's patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from musictag.common.errors import MusictagError
from musictag.common.text import some


class SongAverage(Metric):
    """Mean tag probabilities over each song's patches, for ``num_songs`` songs and ``num_tags`` tags.

    Sums are kept per song and reduced over ranks, so the patches of a song may come from any rank in any order, and a
    whole song that is evaluated twice counts as one. The sums are float64, in which adding float32 probabilities is
    almost always exact, so the float32 means do not depend on the order. Use ``update``, ``compute`` and ``reset``;
    calling the metric itself would require all songs in every batch.
    """

    full_state_update = False
    sum: Tensor
    count: Tensor

    def __init__(self, num_songs: int, num_tags: int) -> None:
        super().__init__()
        self.add_state("sum", torch.zeros(num_songs, num_tags, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(num_songs, dtype=torch.int64), dist_reduce_fx="sum")

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> SongAverage:
        # Converting a model to bfloat16 converts its metrics, too; the sums follow its device but keep their precision.
        return super()._apply(lambda tensor: fn(tensor).to(tensor.dtype), exclude_state)

    def update(self, song: Tensor, probabilities: Tensor) -> None:
        """Adds patches: ``song`` (B, int64) is the row of each patch's song, ``probabilities`` is B×K.

        Raises ValueError for wrong shapes, RuntimeError for a row that does not exist.
        """
        if probabilities.shape != (len(song), self.sum.shape[1]):
            raise ValueError(
                f"probabilities of shape {(len(song), self.sum.shape[1])} expected, got {tuple(probabilities.shape)}"
            )
        # device first, then dtype: not every device supports float64
        song, probabilities = song.to(self.sum.device), probabilities.detach().to(self.sum.device)
        self.sum.index_add_(0, song, probabilities.to(self.sum.dtype))
        self.count.index_add_(0, song, torch.ones_like(song, dtype=self.count.dtype))

    def compute(self) -> Tensor:
        """Song scores, S×K float32. Raises MusictagError while songs are missing."""
        missing = torch.nonzero(self.count == 0).flatten().tolist()
        if missing:
            rows = some([str(row) for row in missing])
            raise MusictagError(
                f"{len(missing)} of {len(self.count)} songs have no patch (rows {rows}): the evaluation is incomplete. "
                "Every song must be evaluated; leave limit_val_batches and limit_test_batches at 1.0."
            )
        return (self.sum / self.count[:, None]).to(torch.float32)
