"""Damaged audio of many formats: each file is used or refused, quickly, in little memory, and nothing else happens."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musictag import cli
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.preparation.prepare import prepare
from tests.helpers.audio_files import encoded
from tests.helpers.catalogues import synthetic_song
from tests.helpers.fuzzing import DAMAGES, read_all, write_all
from tests.inference.test_tagger import make_network, save

FORMATS = {
    ".wav": {"format": "WAV", "subtype": "PCM_16"},
    ".flac": {"format": "FLAC", "subtype": "PCM_16"},
    ".mp3": {"format": "MP3", "subtype": "MPEG_LAYER_III"},
    ".ogg": {"format": "OGG", "subtype": "VORBIS"},
}
#: Written by PyAV (see audio_files.py).
ENCODED = (".m4a", ".fragmented.mp4", ".mka", ".webm", ".aac", ".wma", ".wv", ".opus")
RATES = {".webm": 48000, ".opus": 48000}


def damaged(suffix: str, count: int) -> list[bytes]:
    """A whole clip, then others with every kind of damage in turn, of different rates and numbers of channels."""
    rng = np.random.default_rng([len(suffix), *suffix.encode()])
    clips = []
    for rate, channels in ((8000, 1), (44100, 2), (16000, 2)):
        song = synthetic_song(0.4, True, True, 0.5, seed=rate)[:, None].repeat(channels, axis=1)
        if suffix in ENCODED:
            clips.append(encoded(suffix, song, RATES.get(suffix, rate), 64_000))
            continue
        file = io.BytesIO()
        soundfile.write(file, song, rate, **FORMATS[suffix])
        clips.append(file.getvalue())
    return [clips[0], *(DAMAGES[i % len(DAMAGES)](rng, clips[i % len(clips)]) for i in range(count - 1))]


def read_damaged(suffix: str, count: int, folder: Path) -> None:
    paths = write_all(folder / "music", damaged(suffix, count), suffix)
    outcomes = read_all("audio", paths, folder / "empty", megabytes=256)
    crashes = dict(outcomes.ended)
    assert not outcomes.hung()
    if crashes:  # the library's own; preparation must live on, and name them
        prepared_without(list(crashes), folder)
    outcomes.ended.clear()
    outcomes.check(count - len(crashes))
    assert outcomes.used


def prepared_without(crashing: list[Path], folder: Path) -> None:
    good = folder / "music" / "good.wav"
    soundfile.write(good, synthetic_song(1, True, False, 0.5, seed=0), 16000)
    table = folder / "crashing.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", "x"])
        writer.writerows([path, "train", 1] for path in (good, *crashing))
    prepared = prepare(CatalogueFile(table, root=folder), folder / "data", workers=2, max_bad_fraction=1)
    assert {Path(path) for _, path, _ in prepared.problems} == {path.relative_to(folder) for path in crashing}


@pytest.mark.parametrize(
    "suffix",
    [pytest.param(s, marks=[pytest.mark.slow] if i % 6 else []) for i, s in enumerate([*FORMATS, *ENCODED])],
)
def test_a_few_damaged_files(suffix: str, tmp_path: Path) -> None:
    read_damaged(suffix, 12, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [*FORMATS, *ENCODED])
def test_five_hundred_damaged_files(suffix: str, tmp_path: Path) -> None:
    read_damaged(suffix, 500, tmp_path)


def test_the_command_line_names_every_file_that_it_cannot_tag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save(tmp_path / "tagger.safetensors", make_network())
    paths = write_all(
        tmp_path / "music", [content for suffix in [*FORMATS, *ENCODED] for content in damaged(suffix, 3)], ".bin"
    )
    readable = {path.name for path in read_all("audio", paths, tmp_path / "empty").used}
    assert cli.main(["tag", *map(str, paths), "--model", str(model), "--json"]) == 1
    told = capsys.readouterr()
    for path in paths:
        assert (str(path) in told.out) == (path.name in readable)
        assert (f"musictag: {path}: " in told.err) == (path.name not in readable)
