"""Every `musictag catalogue` command of README and docs/data.md does what stands beside it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from musictag import cli
from tests.data.catalogue.making.test_label_fma import fma
from tests.helpers.catalogues import write_table
from tests.helpers.experiments import ROOT
from tests.helpers.labelled import trainable, write_folders, write_tags

COMMANDS = [
    command.strip()
    for page in ("README.md", "docs/data.md")
    for command in re.findall(r"^ {4,}musictag (catalogue [^#\n]*)", (ROOT / page).read_text(), re.M)
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folders(Path("genres"), {"blues": 3, "rock": 3})
    write_folders(Path("music"), {"blues": 3, "rock": 3})
    write_folders(Path("library"), {"ana/first": 3, "bo/second": 3, "cleo/third": 3})
    for number, path in enumerate(sorted(Path("library").rglob("*.wav"))):
        write_tags(path, genre=[("blues", "rock")[number % 2]])
    files = sorted(Path("genres").rglob("*.wav"))
    write_table(Path("labels.csv"), [{"path": str(path), "artist": "", "genre": path.parent.name} for path in files])
    fma(Path("fma"))
    words = shlex.split(command)
    assert cli.main(words) == 0
    written = words[words.index("-o") + 1] if "-o" in words else "catalogue.csv"
    assert len(trainable(Path(written), capsys)) >= 6


def test_there_are_commands_for_every_form() -> None:
    assert len(COMMANDS) == 6
