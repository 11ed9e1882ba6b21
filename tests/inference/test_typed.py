"""What a program sees of musictag: types, and an import that costs little."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.experiments import ROOT

SNIPPET = """
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from torch import Tensor, nn

import musictag

tagger: musictag.Tagger = musictag.load("musicnn-msd", device="cpu")
scores: dict[str, float] = tagger.tag(Path("song.mp3"), top=5)
scores = tagger.tag((np.zeros(44100), 44100), threshold=0.5)
scores = tagger.tag(BytesIO(b""))
songs: Iterator[musictag.TaggedSong] = tagger.tag_many(["a.mp3", "b.mp3"], workers=2)
for song in songs:
    best: list[str] = list(song.tags)
    why: Exception | None = song.error
taggram: musictag.Taggram = tagger.taggram("song.mp3", hop_seconds=1.0)
times: np.ndarray = taggram.times
features: np.ndarray = tagger.embed("song.mp3")
network: nn.Module = tagger.network
probabilities: Tensor = tagger.network.probabilities(tagger.network(Tensor()))
wrong: int = tagger.tag("song.mp3")
"""


@pytest.mark.slow
def test_types_are_strict(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "snippet.py").write_text(SNIPPET)
    options = ["--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache"), "--python-executable"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, sys.executable, str(tmp_path / "snippet.py")],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1, done.stdout + done.stderr
    assert 'expression has type "dict[str, float]", variable has type "int"' in errors[0]


def test_the_import_is_cheap() -> None:
    code = "import sys, musictag; print(sorted({'torch', 'numpy', 'av', 'scipy', 'mutagen'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr
