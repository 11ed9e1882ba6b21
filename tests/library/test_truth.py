"""What a data set knows about a song that comes from elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from musictag import MusictagError, cli
from musictag.data.audio.decode import read
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.library.fields import write_field
from musictag.library.truth import Truth
from tests.helpers.audio_files import encoded
from tests.helpers.embeddings import make_network, save, write_song


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """music/a.mp3, b.mp3 and one that is missing."""
    (tmp_path / "music").mkdir()
    for name in "ab":
        samples = read(write_song(tmp_path / "x.wav", 1.0, seed=ord(name))).samples / 32768
        (tmp_path / "music" / f"{name}.mp3").write_bytes(encoded(".mp3", samples, 16000))
    rows = "path,split,jazz,reel,energy\na.mp3,train,1,0,0.5\nb.mp3,test,0,,1\ngone.mp3,validation,1,1,0.25\n"
    (tmp_path / "music" / "catalogue.csv").write_text(rows)
    return tmp_path / "music" / "catalogue.csv"


def test_a_copy_is_known_by_its_audio(catalogue: Path, tmp_path: Path) -> None:
    truth, other = Truth(CatalogueFile(catalogue)), str(tmp_path / "upload")
    shutil.copy(catalogue.parent / "a.mp3", other)
    known = truth.of(other, "renamed.mp3")
    assert known.about == "a.mp3, a song of catalogue (split train):"
    assert known.marks == {"jazz": "✓", "reel": "✗", "energy": "0.50"}
    write_field(other, "genre", ["tagged since", "which changes its size"])
    assert truth.of(other, "a.mp3") == known
    shutil.copy(catalogue.parent / "b.mp3", other)
    assert truth.of(other, "a.mp3").marks == {"jazz": "✗", "energy": "1.00"}
    with open(other, "r+b") as file:  # as long and with the same name, but other audio
        file.seek(-1, 2)
        file.write(b"x")
    assert truth.of(other, "b.mp3") == ("This is no song of catalogue.", {})


def test_nothing_to_compare_with(catalogue: Path, tmp_path: Path) -> None:
    with pytest.raises(MusictagError, match=r"none of the files of catalogue is in .*; see data.root"):
        Truth(CatalogueFile(catalogue, root=tmp_path))


@pytest.mark.parametrize(
    ("words", "told"),
    [(["data=songbook"], "the songs of songbook are not files"), (["missing.csv"], "missing.csv")],
)
def test_no_truth_no_page(words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save(tmp_path / "tagger.safetensors", make_network())
    assert cli.main(["serve", "--model", model, "--port", "0", "--truth", *words]) == 1
    assert told in capsys.readouterr().err
