"""Tagging whole libraries: a folder against its files one by one, and the time for 22,000 songs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import soundfile

from musictag.models.checkpoint import write_tagger
from tests.benchmarks.figures import Figure
from tests.benchmarks.inference import network_of
from tests.benchmarks.prepare import make_song
from tests.helpers.audio_files import encoded
from tests.helpers.experiments import ROOT

#: The architecture of musicnn-msd; trained weights would take as long.
MODEL = "musicnn"
SECONDS = 240
#: What every twelve songs of a library are stored as, and their bits per second.
DOZEN = {".mp3": (6, 192_000), ".m4a": (3, 128_000), ".opus": (2, 96_000), ".flac": (1, None)}
DOZENS = 6
ROUNDS = 3
LIBRARY = 22_000
_OPTIONS = {"": (), " --hop 15": ("--hop", "15")}

_ONE_AFTER_ANOTHER = """
import sys, time
import musictag
tagger = musictag.load("tagger.safetensors")
tagger.tag(sys.argv[1])
began = time.perf_counter()
for path in sys.argv[1:]:
    tagger.tag(path)
print(time.perf_counter() - began)
"""


def benchmark() -> Iterator[Figure]:
    """Seconds per song with all cores: each round tags a folder of its own with the command line, then a dozen of its
    files with a command for each, both also with patches further apart, and in one process with ``Tagger.tag``, whose
    start is not counted. Medians."""
    with tempfile.TemporaryDirectory() as folder:
        write_tagger(Path(folder, "tagger.safetensors"), network_of(MODEL))
        rounds = _songs(Path(folder))
        seconds: dict[str, list[float]] = {}
        for number, names in enumerate(rounds):
            some = names[: len(names) // DOZENS]
            for hop, options in _OPTIONS.items():
                out = f"{number}{hop}.jsonl"
                together = _seconds(folder, f"round{number}", "--out", out, *options) / len(names)
                seconds.setdefault(f"folder{hop}", []).append(together)
                rows = map(json.loads, Path(folder, out).read_text().splitlines())
                assert len({row["content"] for row in rows}) == len(names)
                alone = sum(_seconds(folder, name, *options) for name in some) / len(some)
                seconds.setdefault(f"a command for each{hop}", []).append(alone)
            in_turn = float(_run(folder, "-c", _ONE_AFTER_ANOTHER, *some)) / len(some)
            seconds.setdefault("one after another in a process", []).append(in_turn)
        yield Figure(
            f"{len(rounds)} folders of {len(rounds[0])} songs of {SECONDS} s", len(rounds) * len(rounds[0]), "songs"
        )
        for what, found in seconds.items():
            yield Figure(f"{what}: a song", statistics.median(found), "s")
        for hop in _OPTIONS:
            together = seconds[f"folder{hop}"]
            for what in (f"a command for each{hop}", *(() if hop else ("one after another in a process",))):
                ratios = [one / all_ for one, all_ in zip(seconds[what], together, strict=True)]
                yield Figure(f"{what} / folder{hop}", statistics.median(ratios), "x")
            yield Figure(f"folder{hop}: {LIBRARY:,} of these songs", statistics.median(together) * LIBRARY / 3600, "h")


def _songs(folder: Path) -> list[list[str]]:
    """The files of each round. No two hold the same audio, which would be analysed once: those of one format are one
    recording, each begun a little later."""
    found: list[list[str]] = [[] for _ in range(ROUNDS)]
    make_song(folder / "song.flac", 1.1 * SECONDS, 44100, 2, seed=0)
    for suffix, (number, bit_rate) in DOZEN.items():
        samples, rate = soundfile.read(folder / "song.flac", dtype="float32")
        rate = 48000 if suffix == ".opus" else rate  # it knows no other; a little faster will do
        whole = folder / f"whole{suffix}"
        whole.write_bytes(encoded(suffix, samples, rate, bit_rate))
        for skipped in range(number * DOZENS * ROUNDS):
            place = skipped % ROUNDS
            name = f"round{place}/{skipped // number // ROUNDS:02} {skipped}{suffix}"
            (folder / f"round{place}").mkdir(exist_ok=True)
            found[place].append(name)
            if suffix == ".flac":  # its header counts samples, which packets that are left out would belie
                begun = samples[skipped * 1000 :][: SECONDS * rate]
                soundfile.write(folder / name, begun, rate)
            else:
                _begun_later(whole, folder / name, skipped)
    return [sorted(names) for names in found]


def _begun_later(whole: Path, part: Path, skipped: int) -> None:
    """``SECONDS`` of a file, without its first packets, as they are."""
    with av.open(str(whole)) as source, av.open(str(part), "w") as target:
        stream = source.streams.audio[0]
        copy, begin = target.add_stream_from_template(stream), None
        for number, packet in enumerate(source.demux(stream)):
            if number < skipped or packet.pts is None:
                continue
            begin = packet.pts if begin is None else begin
            packet.pts, packet.dts, packet.stream = packet.pts - begin, packet.pts - begin, copy
            if packet.pts * stream.time_base < SECONDS:
                target.mux(packet)


def _seconds(folder: str, *words: str) -> float:
    began = time.perf_counter()
    _run(folder, "-m", "musictag.cli", "tag", *words, "--model", "tagger.safetensors")
    return time.perf_counter() - began


def _run(folder: str, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment | {"PYTHONPATH": str(ROOT)}, check=True,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return done.stdout
