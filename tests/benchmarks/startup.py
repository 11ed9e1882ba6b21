"""How long programs take to start: commands, ``musictag.load``, and train.py to the end of its first step."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import soundfile

from tests.benchmarks.figures import Figure

_ROOT = Path(__file__).resolve().parents[2]
_REPETITIONS = 5
_RUN = ("train.py", "model=spectrogram_small", "data.num_workers=0", "trainer.accelerator=cpu")
_DATA: tuple[str, ...] = ("recipe=quick",)  #: further settings of the run
_CLI = ("-m", "musictag.cli")


class EndAfterTheFirstStep(pl.Callback):
    """For the benchmark: ends the process."""

    def on_train_batch_end(self, *_: object) -> None:
        os._exit(0)


def benchmark() -> Iterator[Figure]:
    """Median seconds and processor seconds of new processes, all programs in turn; imports alone as the lower bound."""
    with tempfile.TemporaryDirectory() as folder:
        run = [*_RUN, *_DATA, f"data_dir={folder}/data", f"runs_dir={folder}/runs", "callbacks.checkpoint.minutes=null"]
        _seconds([*run, "trainer.max_epochs=1", "+trainer.limit_train_batches=1"])  # prepares audio, makes a tagger
        (model,) = Path(folder, "runs").glob("*/*/tagger.safetensors")
        song = Path(folder, "song.wav")
        soundfile.write(song, 0.1 * np.random.default_rng(0).standard_normal(30 * 44100), 44100)
        programs = {
            "python -c pass": ["-c", "pass"],
            "import musictag": ["-c", "import musictag"],
            "musictag --help": [*_CLI, "--help"],
            "import torch": ["-c", "import torch"],
            "musictag.load": ["-c", f"import musictag; musictag.load({str(model)!r})"],
            "musictag tag, one song of 30 s": [*_CLI, "tag", str(song), "--model", str(model)],
            "import pytorch_lightning": ["-c", "import pytorch_lightning"],
            "train.py, to the first step": [
                *run,
                f"+callbacks.end._target_={__name__}.{EndAfterTheFirstStep.__name__}",
            ],
        }
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
        for _ in range(_REPETITIONS):
            for name, program in programs.items():
                seconds[name].append(_seconds(program))
        for name, taken in seconds.items():
            wall, processor = map(statistics.median, zip(*taken, strict=True))
            yield Figure(name, wall, "s")
            yield Figure(f"{name}: of a processor", processor, "s")


def _seconds(words: list[str]) -> tuple[float, float]:
    """Of the clock and of processors, that ``python WORDS`` takes with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *words], cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)}:\n{process.stderr.read().decode()}")
    process.stderr.close()
    return wall, used.ru_utime + used.ru_stime
