"""Helpers for tests of the published data sets: their real index files, and folders of audio."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.helpers.catalogues import synthetic_song
from tests.helpers.experiments import ROOT

#: Index files as published by their owners; not part of the repository.
PUBLIC = ROOT.parent / "shared" / "data"


def public_file(name: str) -> Path:
    """One of these files; skips the test if it is missing."""
    path = PUBLIC / name
    if not path.is_file():
        pytest.skip(f"the published file {name} is not on this machine")
    return path


def make_files(root: Path, paths: Iterable[str]) -> Path:
    """Make empty files, tens of thousands in a second or two: enough for a manifest, which does not open them."""
    for folder in {path.rpartition("/")[0] for path in paths}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for path in paths:
        os.mknod(root / path)
    return root


def make_audio(root: Path, paths: Iterable[str]) -> Path:
    """Make real MP3 files of two seconds, each with a different tone."""
    for seed, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        audio = synthetic_song(2.0, high=seed % 2 == 0, noisy=False, brightness=0.5, seed=seed)
        soundfile.write(root / path, np.asarray(audio), 16000, format="MP3")
    return root
