"""Fetches batches ahead, and passes worker errors on unchanged."""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from musictag.common.errors import MusictagError

_READY_BATCHES = 4
_PREFETCHED_BATCHES = 4
#: Forked workers share the songs and their targets with the main process; otherwise each would hold a copy, 800 MB for
#: a million songs. Where forking is not safe (macOS, Windows), Python's own default.
_WORKER_CONTEXT = "fork" if sys.platform == "linux" else None


class _Failure(NamedTuple):
    """Takes a batch's place and is raised in the main process."""

    error: BaseException


def propagate_errors(get_items: Callable) -> Callable:
    """Wrap a dataset's ``__getitems__`` so that its MusictagErrors reach the main process unchanged.

    A DataLoader would put "Caught MusictagError in DataLoader worker process" and a traceback into the message, which
    is written for the user. ``PrefetchingLoader`` raises what is returned here.
    """

    @functools.wraps(get_items)
    def tell(dataset: Dataset, batch: Any) -> Any:
        try:
            return get_items(dataset, batch)
        except MusictagError as error:
            if get_worker_info() is None:
                raise
            return _Failure(error)

    return tell


class PrefetchingLoader(DataLoader):
    """A DataLoader that fetches ahead in a thread, so that a training step finds its batch ready.

    Receiving a batch from a worker process takes some milliseconds, which a step on a fast device would wait for;
    copying memory releases Python's lock. Fetching begins when the first batch is requested: Lightning calls ``iter``
    on the loader of a resumed run before it has restored the epoch, and earlier fetching would use an epoch that is
    over.
    """

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        # here and not in the thread: starting worker processes from a thread could copy locks held by other threads
        batches = super().__iter__()
        thread = ThreadPoolExecutor(1, "prefetch")
        ready = deque(thread.submit(next, batches, None) for _ in range(_READY_BATCHES))
        try:
            while (batch := ready.popleft().result()) is not None:
                ready.append(thread.submit(next, batches, None))
                if isinstance(batch, _Failure):
                    raise batch.error
                yield batch
        finally:
            thread.shutdown(cancel_futures=True)


def batch_loader(dataset: Dataset, batches: Iterable[Any], workers: int) -> PrefetchingLoader:
    """Loads each of ``batches`` with ``dataset.__getitems__``, in ``workers`` processes or, with none, in a thread."""
    return PrefetchingLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=_unchanged,
        num_workers=workers,
        multiprocessing_context=_WORKER_CONTEXT if workers else None,
        persistent_workers=workers > 0,
        prefetch_factor=_PREFETCHED_BATCHES if workers else None,
        pin_memory=torch.cuda.is_available(),
        # its own generator: starting workers would draw from the global one, which dropout uses
        generator=torch.Generator(),
    )


def _unchanged(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return batch
