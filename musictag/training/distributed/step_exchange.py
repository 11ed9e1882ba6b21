"""State between training steps: scalars copied asynchronously, the mean loss, requests to save or stop."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from musictag.common.processes import rank_and_world


class AsyncScalars:
    """An asynchronous copy of a few numbers from the device: reading it one step later does not wait for other work."""

    def __init__(self, numbers: Tensor) -> None:
        self._event = None
        if numbers.is_cuda:
            # reading the tensor itself would also wait for everything that was queued after it
            self._copy = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._copy.copy_(numbers, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._copy = numbers

    def get(self) -> list[float]:
        if self._event is not None:
            self._event.synchronize()
        return self._copy.tolist()


class StopRequest:
    """The requests of this process, to save or to save and stop, and the agreement of all processes on them."""

    def __init__(self) -> None:
        self.save = self.stop = False
        self._own = (False, False)
        self._tensor: Tensor | None = None

    def request(self, save: bool, stop: bool) -> None:
        """Make a request, which is sent with the next batch; all processes agree on it after the same batch."""
        if (save, stop) != self._own:
            self._own, self._tensor = (save, stop), None

    def tensor(self, device: torch.device) -> Tensor:
        """int64 2: summed over processes, how many request to save and to stop."""
        if self._tensor is None or self._tensor.device != device:
            self._tensor = torch.tensor(self._own, dtype=torch.int64, device=device)
        return self._tensor

    def agree(self, save: bool, stop: bool) -> None:
        """Record the requests of all processes together."""
        self.save, self.stop = save, stop


class EpochLoss:
    """The mean training loss over the patches of an epoch, including those before an interruption."""

    def __init__(self) -> None:
        self._sum: Tensor | float = 0.0
        self._patches = 0

    def add(self, loss: Tensor, patches: int) -> None:
        """``loss``: scalar, on any device; the mean over the ``patches`` of a batch."""
        # GPUs of Apple have no float64
        self._sum = self._sum + loss.to(torch.float32 if loss.device.type == "mps" else torch.float64) * patches
        self._patches += patches

    def mean(self) -> float:
        """The mean over all processes, all of which must call it; NaN before the first batch."""
        sums = self._of_all()
        patches = sum(count for _, count in sums)
        return sum(total for total, _ in sums) / patches if patches else float("nan")

    def state(self) -> list[list[float]]:
        """For a checkpoint: (sum, patches) of each process, all of which must call it."""
        return self._of_all()

    def restore(self, state: Any) -> None:
        """Restore the sum of each process, or on rank 0 the total if the number of processes has changed."""
        rank, world = rank_and_world()
        state = state or []
        mine = state[rank] if len(state) == world else [sum(column) for column in zip(*state, strict=True)]
        has_some = mine and (rank == 0 or len(state) == world)
        self._sum, self._patches = (mine[0], int(mine[1])) if has_some else (0.0, 0)

    def _of_all(self) -> list[list[float]]:
        own = [float(self._sum), self._patches]
        if rank_and_world()[1] == 1:
            return [own]
        sums: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(sums, own)
        return sums
