"""Names of files are printed, never obeyed by the terminal; models of baselines are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

import musictag
from musictag import cli
from musictag.common.errors import MusictagError
from tests.helpers.catalogues import write_songs
from tests.inference.test_tagger import make_network, save


def test_names_of_files_do_not_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save(tmp_path / "tagger.safetensors", make_network())
    (name,) = write_songs(tmp_path, 1)
    song = tmp_path / "\x1b]0;x\x07.wav"
    (tmp_path / name).rename(song)
    assert cli.main(["tag", str(song), str(tmp_path / "no\x1b[2J.wav"), "--model", str(model)]) == 1
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err
    assert "no\\x1b[2J.wav: file not found" in told.err
    assert cli.main(["tag", str(song), "--model", str(tmp_path / "\x1b[2J.safetensors")]) == 1
    assert "\\x1b[2J.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[" * 10**6, "{}", '{"what": "musictag baseline 1"}', "null", "1" * 5000])
def test_a_bomb_is_no_model_of_a_baseline(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(MusictagError, match=r"model\.json is not a model of a baseline"):
        musictag.load(tmp_path)
