"""Helpers for fuzz tests: damaging bytes, and separate processes that read the results."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.helpers.experiments import ROOT
from tests.helpers.processes import program

#: Extreme values for numbers in a header.
EXTREMES = (
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    b"\1\0\0\0",
    b"\0\0\0\1",
    b"\x7f\xff\xff\xff",
)


def flip_bits(rng: np.random.Generator, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 17))):
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def cut_short(rng: np.random.Generator, data: bytes) -> bytes:
    return data[: int(rng.integers(len(data)))]


def splice(rng: np.random.Generator, data: bytes) -> bytes:
    """Copies a part of the file to another place, overwriting or inserting it."""
    begin, place = (int(rng.integers(len(data))) for _ in range(2))
    part = data[begin : begin + int(rng.integers(1, 400))]
    return data[:place] + part + data[place + (len(part) if rng.random() < 0.5 else 0) :]


def extreme_header(rng: np.random.Generator, data: bytes) -> bytes:
    """Sets one to three numbers near the beginning to extreme values."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        place, extreme = int(rng.integers(min(len(data), 120))), EXTREMES[rng.integers(len(EXTREMES))]
        length = int(rng.choice([1, 2, 4]))
        changed[place : place + length] = extreme[:length]
    return bytes(changed)


DAMAGES: tuple[Callable[[np.random.Generator, bytes], bytes], ...] = (flip_bits, cut_short, splice, extreme_header)


def damage(rng: np.random.Generator, data: bytes) -> bytes:
    return DAMAGES[rng.integers(len(DAMAGES))](rng, data)


@dataclass
class Outcomes:
    """Files by outcome; ``ended`` contains those that ended their process, with its status."""

    used: list[Path] = field(default_factory=list)
    refused: dict[Path, str] = field(default_factory=dict)
    bugs: dict[Path, str] = field(default_factory=dict)
    ended: dict[Path, int] = field(default_factory=dict)

    def hung(self) -> list[Path]:
        return [path for path, status in self.ended.items() if status == -signal.SIGALRM]

    def check(self, total: int) -> None:
        """Only "used" and "refused", both at least once, and all files accounted for."""
        assert not self.bugs, "\n".join(f"{path}:\n{why}" for path, why in list(self.bugs.items())[:5])
        assert not self.ended, self.ended
        assert len(self.used) + len(self.refused) == total
        assert self.refused


def read_all(kind: str, paths: Sequence[Path], folder: Path, megabytes: int = 512, seconds: int = 10) -> Outcomes:
    """The outcome of each file, read one after the other by processes that run in the empty ``folder``.

    A file that ends its process is recorded, and a new process continues after it. Nothing may be written nearby.
    """
    folder.mkdir(exist_ok=True)
    near = sorted({path.parent for path in paths} | {folder})
    before = [listing(place) for place in near]
    outcomes, left = Outcomes(), list(paths)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    while left:
        done = program(
            "tests.helpers.fuzz_worker", kind, str(megabytes), str(seconds), environment=environment, folder=folder,
            stdin="".join(f"{path}\n" for path in left),
        )  # fmt: skip
        said = [json.loads(line) for line in done.stdout.splitlines()]
        assert said, done.stderr
        for line in said[1:]:
            if "outcome" in line:
                path = left.pop(0)
                assert str(path) == line["path"]
                if line["outcome"] == "used":
                    outcomes.used.append(path)
                else:
                    (outcomes.refused if line["outcome"] == "refused" else outcomes.bugs)[path] = line["why"]
        if left:
            assert done.returncode, done.stderr
            outcomes.ended[left.pop(0)] = done.returncode
    assert [listing(place) for place in near] == before
    return outcomes


def listing(folder: Path) -> list[tuple[str, int, int]]:
    """Everything below a folder, with sizes and times, except the splits written for a catalogue without them."""
    found = [path for path in folder.rglob("*") if not path.name.endswith(".split")]
    return sorted((str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in found)


def write_all(folder: Path, contents: Sequence[bytes], suffix: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04d}{suffix}" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths
