"""State between training steps: scalars copied asynchronously, the mean loss, requests to save or stop."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from musictag.common.processes import rank_and_world


class AsyncScalars:
    """A few numbers on their way from the device: whoever asks for them a step later waits for nothing else."""

    def __init__(self, numbers: Tensor) -> None:
        self._event = None
        if numbers.is_cuda:
            # asking the tensor itself would wait for all that was queued after it, too
            self._here = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._here.copy_(numbers, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._here = numbers

    def get(self) -> list[float]:
        if self._event is not None:
            self._event.synchronize()
        return self._here.tolist()


class StopRequest:
    """What this process wishes, to save or to save and stop, and what all processes together have agreed on."""

    def __init__(self) -> None:
        self.save = self.stop = False
        self._own = (False, False)
        self._tensor: Tensor | None = None

    def request(self, save: bool, stop: bool) -> None:
        """Sent along with the next batch; granted to all processes after the same one."""
        if (save, stop) != self._own:
            self._own, self._tensor = (save, stop), None

    def tensor(self, device: torch.device) -> Tensor:
        """int64 2: sums of them over processes say how many wish to save and to stop."""
        if self._tensor is None or self._tensor.device != device:
            self._tensor = torch.tensor(self._own, dtype=torch.int64, device=device)
        return self._tensor

    def agree(self, save: bool, stop: bool) -> None:
        """Called with what all processes together wish."""
        self.save, self.stop = save, stop


class EpochLoss:
    """The mean of an epoch's training loss over its patches, which also counts what came before an interruption."""

    def __init__(self) -> None:
        self._sum: Tensor | float = 0.0
        self._patches = 0

    def add(self, loss: Tensor, patches: int) -> None:
        """``loss``: scalar, on any device; the mean over the ``patches`` of a batch."""
        # Apple's GPUs have no float64
        self._sum = self._sum + loss.to(torch.float32 if loss.device.type == "mps" else torch.float64) * patches
        self._patches += patches

    def mean(self) -> float:
        """Over all processes, each of which must call; NaN before the first batch."""
        sums = self._of_all()
        patches = sum(count for _, count in sums)
        return sum(total for total, _ in sums) / patches if patches else float("nan")

    def state(self) -> list[list[float]]:
        """For a checkpoint: (sum, patches) of each process, all of which must call."""
        return self._of_all()

    def restore(self, state: Any) -> None:
        """Each process its own sum; where there are more or fewer processes now, the first one has all of it."""
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
