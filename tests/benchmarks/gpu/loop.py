"""Training with Lightning and the real loader: the share of time that waits for batches, and synchronisations.

The songs are those of ``million``, fewer: files of full length without content, in the page cache and verified before
measuring. A device runs on silence at least as fast as on music, so that the loader's share is not understated.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from itertools import product
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor

from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.loading.datamodule import SongDataModule
from musictag.experiment.compose import compose
from musictag.training.instantiate import make, make_partial
from musictag.training.losses import Loss
from musictag.training.module import TaggingModule
from musictag.training.trainer import quieten_lightning
from tests.benchmarks.million import write_million
from tests.benchmarks.tables import Table, in_short

_SONGS, _PATCHES_PER_SONG = 2000, 4
_SECONDS = 2.5  # of training per configuration, after _WARM_UP steps
_WARM_UP = 12
_WATCHED = range(4, 10)  # steps whose synchronisations are counted
_WORKERS = (0, 2, 8)
_BATCHES = (32, 256)
_PRECISION = "bf16-mixed"
_MODELS = ("pons_waveform", "pons_spectrogram")
COLUMNS = (
    "preset", "batch", "workers", "patches / s", "one batch again and again", "lost %", "blocked %",
    "synchronisations a step",
)  # fmt: skip
_CAPTION = (
    f"Lightning's loop over patches of 3 s, {_PRECISION}. Lost: time beyond that of the same loop over one batch that "
    "is on the device already, so to loader and transfer. Blocked: the loop's thread waits for a batch, while the "
    "device may still have work. Synchronisations: those that torch.cuda.set_sync_debug_mode reports."
)


def run(device: torch.device, out: Path | None, deadline: float) -> None:
    """One row per preset, batch and number of workers, until ``deadline`` (time.monotonic)."""
    quieten_lightning()
    skipped, where = [], Counter()
    with tempfile.TemporaryDirectory() as folder, Table("loop", COLUMNS, _CAPTION, out) as table:
        path = write_million(Path(folder), _SONGS)
        alone: dict[tuple[str, int], float] = {}
        for batch, preset, workers in product(_BATCHES, _MODELS, _WORKERS):
            if time.monotonic() > deadline:
                skipped.append(f"{preset} {batch} {workers}")
                continue
            try:
                if (preset, batch) not in alone:
                    alone[preset, batch] = _fit(preset, path, batch, 0, device, repeated=True).seconds
                fit, best = _fit(preset, path, batch, workers, device), alone[preset, batch]
            except Exception as error:
                table.row(preset, batch, workers, f"failed: {in_short(error)}")
                continue
            table.row(
                preset, batch, workers, batch / fit.seconds, batch / best, 100 * (1 - best / fit.seconds),
                100 * fit.blocked / fit.seconds, fit.synchronised.total() / len(_WATCHED),
            )  # fmt: skip
            where += fit.synchronised
        if where:
            table.note("Synchronised: " + "; ".join(f"{count} x {line}" for line, count in where.most_common(8)))
        if skipped:
            table.note(f"Skipped, because the time was over: {', '.join(skipped)}")


def _fit(preset: str, path: Path, batch: int, workers: int, device: torch.device, repeated: bool = False) -> _Meter:
    """Trains ``preset`` for some seconds; ``repeated``: on one batch, which is on the device already."""
    config = compose([f"model={preset}", "data.patch_seconds=3", f"trainer.precision={_PRECISION}"])
    data = SongDataModule(
        CatalogueFile(path), path.parent / "data", patch_seconds=3.0, batch_size=batch, num_workers=workers,
        patches_per_song=_PATCHES_PER_SONG,
    )  # fmt: skip
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        data.prepare_data()
        data.setup()
    spec = {
        "frontend": config["frontend"],
        "backend": config["backend"],
        "tags": [{"name": tag.name, "kind": tag.kind} for tag in data.tags],
        "patch_seconds": 3.0,
    }
    module = TaggingModule(
        spec, loss=make("loss", config["loss"], Loss), optimizer=make_partial("optimizer", config["optimizer"])
    )
    data.margin_samples = module.tagger.frontend.margin_samples
    module.tagger.fit_normalisation([torch.randn(8, module.tagger.input_samples)])
    loader = _Loader(data, device if repeated else None)
    meter = _Meter(loader)
    settings = {key: value for key, value in config["trainer"].items() if key not in ("_target_", "max_epochs")}
    trainer = pl.Trainer(
        **settings | {"accelerator": "gpu" if device.type == "cuda" else "cpu"}, max_epochs=1, callbacks=[meter],
        limit_val_batches=0, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, train_dataloaders=loader)
    return meter


class _Loader:
    """Epoch after epoch of a loader, or one batch on ``device``; measures how long its caller is blocked."""

    def __init__(self, data: SongDataModule, device: torch.device | None) -> None:
        self._data, self._loader, self.blocked = data, data.train_dataloader(), 0.0
        self._repeated = None
        if device is not None:
            self._repeated = {name: value.to(device) for name, value in next(iter(self._loader)).items()}
        else:
            deque(self._loader, maxlen=0)  # a whole epoch: later ones find their songs verified

    def __len__(self) -> int:
        return 10**9  # known, so that Lightning fetches nothing ahead, as with the real loader

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while self._repeated is not None:
            yield self._repeated
        while True:
            self._data.epoch += 1
            batches = iter(self._loader)
            began = time.perf_counter()
            for batch in batches:
                self.blocked += time.perf_counter() - began
                yield batch
                began = time.perf_counter()


class _Meter(pl.Callback):
    """Stops after some seconds; ``seconds`` and ``blocked`` seconds are means over the steps after the warm-up."""

    def __init__(self, loader: _Loader) -> None:
        self._loader = loader
        self.synchronised: Counter[str] = Counter()
        self._synchronisations = Synchronisations()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        steps = trainer.global_step
        if trainer.strategy.root_device.type == "cuda":
            if steps == _WATCHED.start:
                self._synchronisations.start()
            elif steps == _WATCHED.stop:
                self.synchronised = self._synchronisations.stop()
            if steps == _WARM_UP:
                torch.cuda.synchronize()
        now = time.perf_counter()
        if steps == _WARM_UP:
            self._began, self._blocked = now, self._loader.blocked
        elif steps > _WARM_UP and now - self._began > _SECONDS:
            if trainer.strategy.root_device.type == "cuda":
                torch.cuda.synchronize()
            self.seconds = (time.perf_counter() - self._began) / (steps - _WARM_UP)
            self.blocked = (self._loader.blocked - self._blocked) / (steps - _WARM_UP)
            trainer.should_stop = True


class Synchronisations:
    """Counts where the host waits for the device, between ``start`` and ``stop``."""

    def __init__(self) -> None:
        self._catching = warnings.catch_warnings(record=True)

    def start(self) -> None:
        self._warnings = self._catching.__enter__()
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")

    def stop(self) -> Counter[str]:
        torch.cuda.set_sync_debug_mode("default")
        self._catching.__exit__(None, None, None)
        seen = (warning for warning in self._warnings if "called a synchronizing" in str(warning.message))
        return Counter(f"{Path(warning.filename).name}:{warning.lineno}" for warning in seen)
