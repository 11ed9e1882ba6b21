"""`musictag catalogue` from tables with words: one or several per cell, one row per tag, other column names."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from musictag.data.catalogue.making.columns import read_table
from musictag.data.catalogue.making.words import find_separator, tags_in
from tests.helpers.catalogues import write_table
from tests.helpers.labelled import make, refuse, tag_table, trainable, write_folders, write_song

#: Nine songs, and the tags of each.
SONGS = {f"m/{i:05d}.wav": tags for i, tags in enumerate([["rock"], ["rock", "loud"], ["pop"]] * 3)}
EXPECTED = {
    "rock": {path for path, tags in SONGS.items() if "rock" in tags},
    "loud": {path for path, tags in SONGS.items() if "loud" in tags},
    "pop": {path for path, tags in SONGS.items() if "pop" in tags},
}


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """A folder with these songs."""
    write_folders(tmp_path, {"m": len(SONGS)})
    return tmp_path


@pytest.mark.parametrize(
    "written",
    [
        ";".join,
        "; ".join,
        " | ".join,
        ", ".join,
        "/".join,
        repr,
        json.dumps,
        lambda tags: str(np.array(tags)),
        lambda tags: "{" + ",".join(tags) + "}",
        lambda tags: f"[{', '.join(tags)}]",
    ],
    ids=["semicolon", "space", "bar", "comma", "slash", "python", "json", "numpy", "postgres", "unquoted"],
)
def test_several_tags_in_a_cell(songs: Path, capsys: pytest.CaptureFixture[str], written: object) -> None:
    rows = [{"path": path, "artist": f"a{i}", "tags": written(tags)} for i, (path, tags) in enumerate(SONGS.items())]
    make(capsys, write_table(songs / "t.csv", rows), "-o", songs / "c.csv")
    manifest = trainable(songs / "c.csv", capsys)
    assert tag_table(manifest) == EXPECTED
    assert manifest.groups[0] == "a0"


def test_one_genre_in_a_cell_under_other_names(songs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"": i, "Filename": path, "Title": f"t{i}", "Main Genre": tags[-1], "Artist Name": "x" if i < 2 else f"a{i}"}
        for i, (path, tags) in enumerate(SONGS.items())
    ]
    report = make(capsys, write_table(songs / "t.tsv", rows), "-o", songs / "c.tsv", "--min-songs", "2")
    assert "columns that are not tags, left out: Title" in report
    manifest = trainable(songs / "c.tsv", capsys)
    assert {tag: len(paths) for tag, paths in tag_table(manifest).items()} == {"loud": 3, "pop": 3, "rock": 3}
    assert manifest.groups[0] == manifest.groups[1] == "x"


def test_one_row_per_tag(songs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"path": path, "tag": tag, "n": n} for path, tags in SONGS.items() for n, tag in enumerate(tags)]
    rows += [{"path": "./m/../m/00000.wav", "tag": "rock", "n": 7}]
    report = make(capsys, write_table(songs / "t.csv", rows), "-o", songs / "c.csv")
    assert "several rows for a song" in report
    assert tag_table(trainable(songs / "c.csv", capsys)) == EXPECTED


def test_one_row_per_pair_with_a_value(songs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"path": path, "tag": tag, "value": tag in tags} for path, tags in SONGS.items() for tag in EXPECTED]
    report = make(capsys, write_table(songs / "t.csv", rows), "-o", songs / "c.csv")
    assert "column value marks the rows that count with 1" in report
    assert tag_table(trainable(songs / "c.csv", capsys)) == EXPECTED


def test_lists_of_parquet(songs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = {"file": list(SONGS), "tags": [[*tags, None] for tags in SONGS.values()]}
    pq.write_table(pa.table(columns), songs / "t.parquet")
    make(capsys, songs / "t.parquet", "-o", songs / "c.parquet")
    assert tag_table(trainable(songs / "c.parquet", capsys)) == EXPECTED


def test_a_parquet_file_is_opened_once_however_many_columns_it_has(
    songs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, read_metadata = [], pq.read_metadata
    monkeypatch.setattr(pq, "read_metadata", lambda path: opened.append(path) or read_metadata(path))
    columns = {"path": list(SONGS), "tags": list(SONGS.values())} | {f"tag {n}": [0, 1, 0] * 3 for n in range(9)}
    pq.write_table(pa.table(columns), songs / "t.parquet")
    assert len(read_table(songs / "t.parquet", None, ()).numbers) == 9
    assert opened == [songs / "t.parquet"]


def test_columns_of_numbers_are_kept(songs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {
            "song_id": f"s{i}",
            "path": path,
            "split": ("Training", "dev", "testing")[i // 3],
            "duration": 1,
            "energy": i / 10 if i else "",
            "live": ("Yes", "no")[i % 2],
            "ones": 1 if i % 3 == 1 else "",
            "same": 0,
            "year": 1990 + i,
            "genre": tags[0],
        }
        for i, (path, tags) in enumerate(SONGS.items())
    ]
    report = make(capsys, write_table(songs / "t.csv", rows), "-o", songs / "c.csv")
    for line in (
        "column ones had 1 or empty cells: 0 is written for the empty ones",
        "columns that are not tags, left out: year",
        "columns of numbers with one value only (1)",
    ):
        assert line in report
    manifest = trainable(songs / "c.csv", capsys)
    assert {tag.name: tag.kind for tag in manifest.tags} == {
        "energy": "regression", "live": "classification", "ones": "classification", "rock": "classification",
        "pop": "classification",
    }  # fmt: skip
    assert manifest.song_ids[0] == "s0"
    assert len(manifest.split("validation")) == 3
    assert np.isnan(manifest.values("energy")[0])
    assert manifest.values("ones").sum() == 3
    assert manifest.values("duration")[0] == 1


def test_classes_that_are_numbers(songs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"path": path, "label": i % 3} for i, path in enumerate(SONGS)]
    make(capsys, write_table(songs / "t.csv", rows), "-o", songs / "c.csv")
    tags = tag_table(trainable(songs / "c.csv", capsys))
    assert {tag: len(paths) for tag, paths in tags.items()} == {"label 0": 3, "label 1": 3, "label 2": 3}


def test_files_are_found_below_another_folder_and_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folders(tmp_path / "audio", {"deep/m": len(SONGS)})
    (tmp_path / "tables").mkdir()
    rows = [{"path": f"C:\\music\\{path[2:]}", "genre": tags[-1]} for path, tags in SONGS.items()]
    table = write_table(tmp_path / "tables" / "t.csv", [*rows, {"path": "gone.wav", "genre": "pop"}])
    report = make(capsys, table, "-o", tmp_path / "c.csv", "--audio", tmp_path / "audio")
    assert "9 files were found by their names" in report
    assert "files that do not exist (1)" in report
    assert trainable(tmp_path / "c.csv", capsys).paths[0] == "audio/deep/m/00000.wav"
    rows = [{"path": path, "genre": tags[-1]} for path, tags in SONGS.items()]
    report = make(capsys, write_table(table, rows), "-o", tmp_path / "d.csv", "--audio", tmp_path / "audio" / "deep")
    assert "found by" not in report
    assert len(trainable(tmp_path / "d.csv", capsys)) == 9


def test_an_ambiguous_table_is_refused(songs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"path": path, "one": tags[0], "two": tags[-1]} for path, tags in SONGS.items()]
    table = write_table(songs / "t.csv", rows)
    assert "name one or more with --column" in refuse(capsys, table, "-o", songs / "c.csv")
    assert "has no column three" in refuse(capsys, table, "-o", songs / "c.csv", "--column", "three")
    make(capsys, table, "-o", songs / "c.csv", "--column", "one", "--column", "two")
    assert tag_table(trainable(songs / "c.csv", capsys)) == EXPECTED
    write_table(table, [{"what": "x", "tag": "y"}])
    assert "Name it with --path-column" in refuse(capsys, table, "-o", songs / "d.csv")
    write_table(table, [{"path": path, "tag": tags[0], "split": "fold 3"} for path, tags in SONGS.items()])
    assert "column split holds fold 3" in refuse(capsys, table, "-o", songs / "d.csv")
    (songs / "t.csv").write_text("path,tag\na.wav\n")
    assert "row 1: 1 cells" in refuse(capsys, table, "-o", songs / "d.csv")


def test_a_split_without_all_parts_is_left_out(songs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"path": p, "split": ("train", "test")[i % 2], "tag": t[-1]} for i, (p, t) in enumerate(SONGS.items())]
    report = make(capsys, write_table(songs / "t.csv", rows), "-o", songs / "c.csv")
    assert "has no songs for validation, so it is left out" in report
    assert (songs / "c.csv").read_text().startswith("path,loud,pop,rock\n")


def test_a_custom_separator(songs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"path": path, "tags": "::".join(tags)} for path, tags in SONGS.items()]
    make(capsys, write_table(songs / "t.csv", rows), "-o", songs / "c.csv", "--separator", "::")
    assert tag_table(trainable(songs / "c.csv", capsys)) == EXPECTED
    rows = [{"path": path, "tags": ";".join(tags)} for path, tags in SONGS.items()]
    make(capsys, write_table(songs / "t.csv", rows), "-o", songs / "d.csv", "--separator", "none")
    assert set(tag_table(trainable(songs / "d.csv", capsys))) == {"pop", "rock", "rock;loud"}


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (["rock", "pop"], None),
        (["rock;pop", "a/b"], ";"),
        (["Folk, World, & Country", "Rock"], None),
        (["Folk, World, & Country", "rock, pop", "pop"], ","),
        (["Hip-Hop/Rap", "R&B/Soul", "Rock"], None),
        (["rock/loud", "jazz/loud"], "/"),
        (["rock,loud", "jazz,loud", "blues,loud"], ","),
        (["['rock', 'pop']", "[]"], None),
        ([], None),
    ],
)
def test_what_separates(cells: list[str], separator: str | None) -> None:
    assert find_separator(cells) == separator


@pytest.mark.parametrize(
    ("cell", "tags"),
    [
        (" rock ; pop;;rock", ["rock", "pop"]),
        ("nan", []),
        ("None; Unknown;-", []),
        ("""["drum 'n' bass", 'r\\'n\\'b']""", ["drum 'n' bass", "r'n'b"]),
        ("[21, 3.5, null]", ["21", "3.5"]),
        ("[rock 'n' roll, pop]", ["rock 'n' roll", "pop"]),
        ("['rock' 'pop']", ["rock", "pop"]),
        ("()", ["()"]),
        ("(live)", ["(live)"]),
        ("[]", []),
        ("e\u0301lectro\t\x00x", ["\u00e9lectro x"]),
        ("\udce9", ["\\udce9"]),
    ],
)
def test_tags_of_a_cell(cell: str, tags: list[str]) -> None:
    assert tags_in(cell, ";") == tags


def test_a_row_that_contradicts_another_marks_nothing(songs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"path": path, "genre": tags[-1], "live": i % 2} for i, (path, tags) in enumerate(SONGS.items())]
    rows.append(rows[0] | {"live": 1})
    report = make(capsys, write_table(songs / "t.csv", rows), "-o", songs / "c.csv")
    assert "column live differs between rows of a song: left out" in report
    tags = tag_table(trainable(songs / "c.csv", capsys))
    assert {tag: len(paths) for tag, paths in tags.items()} == {"loud": 3, "pop": 3, "rock": 3}


def test_songs_with_the_same_file_name_stay_apart(songs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"path": path.replace("m/", "/old/m/"), "genre": tags[-1]} for path, tags in SONGS.items()]
    write_song(songs / "m" / "01.wav", 50)
    write_song(songs / "m" / "here.wav", 51)
    odd = [("/old/A/01.wav", "pop"), ("/old/B/01.wav", "rock"), ("/old/B/here.wav", "rock"), ("m/here.wav", "pop")]
    rows += [{"path": path, "genre": genre} for path, genre in odd]
    report = make(capsys, write_table(songs / "t.csv", rows), "-o", songs / "c.csv")
    assert "9 files were found by their names" in report
    assert "rows whose path does not exist, while several songs or files have its file name (3)" in report
    assert "row 10: /old/A/01.wav" in report
    assert trainable(songs / "c.csv", capsys).paths.tolist() == [*SONGS, "m/here.wav"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_are_found_in_either_encoding(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    names = [f"é{i}/Björk.wav" for i in range(9)] + ["ü.wav"]
    for number, name in enumerate(names):
        write_song(tmp_path / unicodedata.normalize(form, name), number)
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    rows = [{"path": unicodedata.normalize(other, n), "genre": ("a", "b", "c")[i % 3]} for i, n in enumerate(names)]
    make(capsys, write_table(tmp_path / "t.csv", rows), "-o", tmp_path / "c.csv")
    assert trainable(tmp_path / "c.csv", capsys).paths.tolist() == [unicodedata.normalize(form, n) for n in names]


def test_unknown_artists_are_nobody(songs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["Unknown", "nan", "N/A", "unknown", "a", "b", "c", "d", "e"]
    rows = [
        {"path": path, "genre": tags[-1], "artist": name, "album": "x" if name == "nan" else ""}
        for name, (path, tags) in zip(names, SONGS.items(), strict=True)
    ]
    make(capsys, write_table(songs / "t.csv", rows), "-o", songs / "c.csv")
    assert trainable(songs / "c.csv", capsys).groups.tolist() == [None, "x", None, None, "a", "b", "c", "d", "e"]


@pytest.mark.parametrize("header", ["path,rock,rock", "path,rock, rock", "path,tag,tag"])
def test_columns_of_the_same_name_are_refused(songs: Path, capsys: pytest.CaptureFixture[str], header: str) -> None:
    (songs / "t.csv").write_text(f"{header}\n" + "".join(f"{path},0,1\n" for path in SONGS))
    assert "duplicate column names" in refuse(capsys, songs / "t.csv", "-o", songs / "c.csv")


def test_carriage_returns_are_left_out(songs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_song(songs / "m" / "a\rb.wav", 50)
    rows = [{"path": path, "genre": tags[-1]} for path, tags in (SONGS | {"m/a\rb.wav": ["pop"]}).items()]
    report = make(capsys, write_table(songs / "t.csv", rows), "-o", songs / "c.csv")
    assert "paths with a NUL byte or a carriage return (1)" in report
    assert trainable(songs / "c.csv", capsys).paths.tolist() == list(SONGS)
