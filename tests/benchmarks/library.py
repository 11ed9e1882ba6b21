"""Tagging whole libraries: a folder against one command per file, and the time for 22,000 songs."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from musictag.models.checkpoint import write_tagger
from tests.benchmarks.figures import Figure
from tests.benchmarks.inference import network_of
from tests.benchmarks.prepare import Kind, MadeFiles
from tests.helpers.experiments import ROOT

#: The architecture of musicnn-msd; trained weights would take as long.
MODEL = "musicnn"
SHORT = Kind("MP3 44.1 kHz stereo, 30 s", (30.0, 30.0), 44100, 2, 12)
LONG = Kind("MP3 44.1 kHz stereo, 4 min", (240.0, 240.0), 44100, 2, 200)
LIBRARY = 22_000
_REPETITIONS = 3


def benchmark() -> Iterator[Figure]:
    """With the command line and all cores. The long songs are tagged once; starting the program is taken off, as it
    would count a hundred times."""
    with tempfile.TemporaryDirectory() as folder:
        write_tagger(Path(folder, "tagger.safetensors"), network_of(MODEL))
        ratios = []
        paths = _files(folder, SHORT)
        for _ in range(_REPETITIONS):
            together = _seconds(folder, [SHORT.name])
            ratios.append(sum(_seconds(folder, [path]) for path in paths) / together)
        yield Figure(f"{SHORT.name}: {SHORT.songs} files one by one / their folder", statistics.median(ratios), "x")
        paths = _files(folder, LONG)
        started = _seconds(folder, paths[:1])
        seconds = (_seconds(folder, [LONG.name]) - started) / (len(paths) - 1)
        yield Figure(f"{LONG.name}: a song, from {len(paths)}", seconds, "s")
        yield Figure(f"{LIBRARY:,} of them", seconds * LIBRARY / 3600, "h")


def _files(folder: str, kind: Kind) -> list[str]:
    """A folder with songs of this kind, each a file of its own."""
    root = Path(folder, kind.name)
    root.mkdir()
    made = MadeFiles(root, kind, kind.songs)
    sources = [root / path for path in made.manifest().paths]
    for number, source in enumerate(sources):
        os.link(source, root / f"song {number:03}.mp3")
    for source in set(sources):
        source.unlink()
    return sorted(f"{kind.name}/{path.name}" for path in root.iterdir())


def _seconds(folder: str, names: Sequence[str]) -> float:
    command = [sys.executable, "-m", "musictag.cli", "tag", *names, "--model", "tagger.safetensors", "--threshold", "1"]
    began = time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    subprocess.run(
        command, cwd=folder, env=environment | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - began
