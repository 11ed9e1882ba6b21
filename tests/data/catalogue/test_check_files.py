"""`musictag data check`: damaged tables, folders, permissions, and that it agrees with training."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from musictag.common.errors import MusictagError
from musictag.data.datasets.catalogue import CatalogueFile
from tests.data.catalogue.test_check import LINKS, good_rows, run, words
from tests.helpers.catalogues import read_rows, write_songs, write_table


def test_bad_bytes_and_torn_rows_hide_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"s{i},{i}.wav,x,{i % 2}".encode() for i in range(6)]
    rows[1] = b"s1,1.wav,1"
    rows[3] = "s3,3.wav,Beyoncé,1".encode("cp1252")
    rows[5] = b"s5,5.wav,x,maybe"
    (tmp_path / "c.csv").write_bytes(b"\n".join([b"song_id,path,artist,happy", *rows[:3], b"", *rows[3:], b""]))
    write_songs(tmp_path, 6)
    (tmp_path / "4.wav").unlink()
    _, found, shown = run(capsys, tmp_path / "c.csv")
    assert "6 songs" in shown
    assert found["error: rows whose number of cells is not 4, the number of columns; skipped below (1)"] == [
        "row 2: 3 cells"
    ]
    (line,) = found["error: text in column artist that is not UTF-8 (1)"]
    assert line.startswith(r"row 4: artist b'Beyonc\xe9' is not UTF-8 (byte 0xe9)")
    assert found["error: missing files (1)"] == ["row 5: '4.wav'"]
    assert found["error: tag cells that are not numbers (1)"] == ["row 6: happy 'maybe'"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", None, "no catalogue at"),
        ("c.xlsx", b"x", r"a .csv, .tsv or .parquet file"),
        ("c.csv", b"", "it is empty"),
        ("c.csv", codecs.BOM_UTF16_BE + "path,x\n".encode("utf-16-be"), "is UTF-16 text"),
        ("c.csv", b'path,x\n"a,1\n' + b"b,0\n" * 600_000, "a quotation mark is never closed"),
        ("c.parquet", b"PAR1 nothing", "cannot be read as parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    status, found, _ = run(capsys, tmp_path / name)
    assert status == 1
    (heading,) = found
    assert message in heading


def test_the_root_can_be_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tables").mkdir()
    path = write_table(tmp_path / "tables" / "c.csv", good_rows(tmp_path))
    assert run(capsys, path)[1]["error: missing files (60)"]
    assert run(capsys, path, "--root", tmp_path)[0] == 0
    (heading,) = run(capsys, path, "--root", tmp_path / "nowhere")[1]
    assert heading == f"error: the folder {tmp_path / 'nowhere'} that paths are relative to does not exist"


def test_a_folder_that_links_out_of_the_root_is_an_error_for_check_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = good_rows(tmp_path / "disk")
    (tmp_path / "music").mkdir()
    os.symlink(tmp_path / "disk" / "audio", tmp_path / "music" / "audio")
    path = write_table(tmp_path / "music" / "c.csv", rows)
    status, found, _ = run(capsys, path)
    assert status == 1
    assert len(found[f"error: links that lead out of {path.parent} {LINKS} (60)"]) == 21
    assert len(CatalogueFile(path).manifest()) == 60


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything may be read here")
def test_files_without_permission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_table(tmp_path / "c.csv", good_rows(tmp_path))
    (tmp_path / "audio" / "3.wav").chmod(0)
    assert run(capsys, path)[1] == {"error: files without read permission (1)": ["row 4: 'audio/3.wav'"]}


@pytest.mark.parametrize(
    "change",
    [
        {"song_id": "s1"}, {"song_id": ""}, {"path": ""}, {"path": "/etc/passwd"}, {"split": "dev"}, {"split": ""},
        {"happy": "2"}, {"happy": "x"}, {"energy": "-0.1"}, {"energy": "inf"}, {"duration": "0"}, {"duration": "long"},
    ],
)  # fmt: skip
def test_what_training_refuses_is_an_error_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict
) -> None:
    rows = [row | {"duration": 1} for row in good_rows(tmp_path)]
    path = write_table(tmp_path / "c.csv", rows)
    CatalogueFile(path).manifest()
    assert run(capsys, path)[0] == 0
    rows[7] |= change
    write_table(path, rows)
    with pytest.raises(MusictagError):
        CatalogueFile(path).manifest()
    status, found, _ = run(capsys, path)
    assert status == 1
    assert any("row 8" in line for lines in found.values() for line in lines)


def test_parquet_columns_of_any_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = good_rows(tmp_path)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    columns["path"] = pa.array(columns["path"], pa.large_string())
    columns["split"] = pa.array(columns["split"]).dictionary_encode()
    columns["happy"] = [bool(value) for value in columns["happy"]]
    columns["energy"][4] = 3.5
    columns["listened"] = pa.array([0] * 60, pa.timestamp("s"))
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    _, found, _ = run(capsys, tmp_path / "c.parquet")
    assert found == {
        words(tmp_path / "c.parquet"): ["listened: '1970-01-01 00:00:00.000'"],
        "error: tag values outside [0, 1] (percentages: divide by 100) (1)": ["row 5: energy 3.5"],
    }


def test_the_small_catalogue_of_the_tests_is_read_as_training_reads_it(
    tiny_catalogue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found, shown = run(capsys, tiny_catalogue)
    assert status == 0
    assert set(found) == {"warning: fewer than 5 songs to learn or score a tag from (9)"}
    assert "tags: 2 classification and 1 regression" in shown
    assert len(read_rows(tiny_catalogue)) == 24
