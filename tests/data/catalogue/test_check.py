"""`musictag data check`: every problem at once with its row, and nothing if there is none."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from musictag import cli
from musictag.common.errors import MusictagError
from musictag.data.datasets.catalogue import CatalogueFile
from tests.helpers.catalogues import write_songs, write_table


def words(path: Path) -> str:
    """The heading about a column without numbers in the table ``path``."""
    return (
        "error: columns without numbers. If their words are tags (rock, or rock;pop), this makes a column for each: "
        f"musictag catalogue {path} -o {path.parent / 'catalogue.csv'}; otherwise choose the tags with --tags and "
        "data.tags (1)"
    )


RENAMED = (
    "error: columns to be renamed: their names differ from song_id, path, split, group, duration, artist in case or "
    "spaces only (or, if one is a tag, name all tags in data.tags)"
)
LINKS = "(--root and data.root set the folder that really holds the files)"


def findings(shown: str) -> dict[str, list[str]]:
    """Parse the output: heading (``error: ...`` or ``warning: ...``) to its lines."""
    found: dict[str, list[str]] = {}
    heading = None
    for line in shown.splitlines():
        if line.startswith(("error: ", "warning: ")):
            heading = line
            found[heading] = []
        elif line.startswith("  ") and heading:
            found[heading].append(line.strip())
        else:
            heading = None
    return found


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, list[str]], str]:
    """Exit status, findings, and the whole output."""
    status = cli.main(["data", "check", *map(str, arguments)])
    shown = capsys.readouterr().out
    return status, findings(shown), shown


def good_rows(folder: Path) -> list[dict]:
    names = write_songs(folder / "audio", 2)
    for number in range(2, 60):  # their content does not matter here
        (folder / "audio" / f"{number}.wav").write_bytes(b"%d" % number)
        names.append(f"{number}.wav")
    splits = ["train"] * 30 + ["validation"] * 15 + ["test"] * 15
    return [
        {
            "song_id": f"s{i}",
            "path": f"audio/{name}",
            "split": split,
            "group": f"g{i}",
            "happy": i % 2,
            "energy": i / 100,
        }
        for i, (name, split) in enumerate(zip(names, splits, strict=True))
    ]


def test_a_good_catalogue_has_no_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_table(tmp_path / "c.csv", good_rows(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    status, found, shown = run(capsys, path)
    assert (status, found) == (0, {})
    assert shown.splitlines() == [
        f"{path}: 60 songs; the first song is row 1",
        "",
        "column split: train 30, validation 15, test 15",
        "60 groups",
        "tags: 1 classification and 1 regression",
        "no errors",
    ]
    assert sorted(tmp_path.rglob("*")) == before
    table = CatalogueFile(path).manifest().table
    pq.write_table(table, tmp_path / "c.parquet")
    assert run(capsys, tmp_path / "c.parquet")[:2] == (0, {})


def test_everything_that_is_wrong_is_reported_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = good_rows(tmp_path)
    audio = tmp_path / "audio"
    rows[1] |= {"song_id": "s0", "happy": "maybe"}
    rows[2] |= {"song_id": " ", "energy": "1.5"}
    rows[3] |= {"path": "audio/nowhere.wav", "energy": "inf"}
    rows[4] |= {"path": "../outside.wav", "energy": "nan"}
    rows[5] |= {"path": "audio\\5.wav"}
    rows[6] |= {"path": "./audio//0.wav"}
    (audio / "7.wav").write_bytes(b"")
    (audio / "8.wav").unlink()
    (audio / "8.wav").mkdir()
    (audio / "9.wav").unlink()
    (tmp_path.parent / "elsewhere.wav").write_bytes(b"x")
    os.symlink(tmp_path.parent / "elsewhere.wav", audio / "9.wav")
    rows[10] |= {"split": "valid"}
    rows[11] |= {"split": " train"}
    rows[12] |= {"split": ""}
    rows[13] |= {"group": "g50", "path": ""}
    rows[14] |= {"group": "BjÃ¶rk", "song_id": "a\N{REPLACEMENT CHARACTER}b"}
    path = write_table(tmp_path / "c.csv", rows)
    status, found, shown = run(capsys, path)
    assert status == 1
    assert found == {
        "error: song_id already used above (1)": ["row 2: 's0', as row 1"],
        "error: empty cells in column song_id (1)": ["row 3"],
        "error: empty cells in column path (1)": ["row 14"],
        f"error: paths that lead out of {tmp_path} (--root and data.root set the folder that holds all files) (1)": [
            "row 5: '../outside.wav'"
        ],
        "error: missing files (1)": ["row 4: 'audio/nowhere.wav'"],
        "error: missing files whose paths have backslashes; use / on every system (1)": [
            r"row 6: 'audio\\5.wav'; there is 'audio/5.wav'"
        ],
        "error: not a file (1)": ["row 9: 'audio/8.wav'"],
        "error: empty files (1)": ["row 8: 'audio/7.wav'"],
        "error: file already named above (1)": ["row 7: 'audio/0.wav', as row 1"],
        "error: empty cells in column split (1)": ["row 13"],
        "error: split is not one of train, validation, test, unlabelled (spelled like this, without spaces) (2)": [
            "row 11: 'valid'",
            "row 12: ' train'",
        ],
        "error: groups in more than one split: test scores would be too high (1)": ["g50: 1 in train, 1 in test"],
        "error: tag cells that are not numbers (1)": ["row 2: happy 'maybe'"],
        "error: tag cells that are not finite (1)": ["row 4: energy 'inf'"],
        "error: tag values outside [0, 1] (percentages: divide by 100) (1)": ["row 3: energy '1.5'"],
        "warning: text in column song_id damaged by a conversion (1)": ["row 15: 'a\N{REPLACEMENT CHARACTER}b'"],
        f"error: links that lead out of {tmp_path} {LINKS} (1)": ["row 10: 'audio/9.wav'"],
        "warning: text in column group damaged by a conversion (1)": ["row 15: 'BjÃ¶rk'"],
        "warning: cells with NaN, which is read as unknown (1)": ["row 5: energy 'nan'"],
    }
    assert shown.splitlines()[-1] == "16 kinds of errors, 3 kinds of warnings"


def test_long_lists_are_cut_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row | {"path": f"nowhere/{i}.wav", "happy": 7} for i, row in enumerate(good_rows(tmp_path))]
    _, found, _ = run(capsys, write_table(tmp_path / "c.csv", rows))
    for heading in (
        "error: missing files (60)",
        "error: tag values outside [0, 1] (percentages: divide by 100) (60)",
    ):
        assert len(found[heading]) == 21
        assert found[heading][-1] == "... and 40 more"


def test_tags_that_cannot_be_learned_or_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = good_rows(tmp_path)
    for number, row in enumerate(rows):
        in_training = row["split"] == "train"
        row |= {
            "never": 0,
            "unknown": "",
            "untrained": int(not in_training and number % 2),
            "untested": int(number % 2 and row["split"] != "test"),
            "few": int(number in (3, 35, 36, 37, 38, 39, 50)),
            "flat": 0.5,
            "unmeasured": "" if in_training else number / 100,
            "slip": 0.9 if number == 20 else number % 2,
        }
    status, found, _ = run(capsys, write_table(tmp_path / "c.csv", rows))
    assert status == 1
    assert found == {
        "error: tags with one value only: nothing can be learned (2)": ["never (always 0)", "unknown (no known value)"],
        "error: tags that cannot be learned from the training split (2)": [
            "untrained (no positive song)",
            "unmeasured (no known value)",
        ],
        "warning: a few values that turn a tag into a regression tag (1)": [
            "row 21: slip '0.9', in a tag that is otherwise 0 and 1"
        ],
        "error: tags that cannot be scored on the test split (1)": ["untested (no positive song)"],
        "warning: regression tags with one value only (1)": ["flat (always 0.5)"],
        "warning: fewer than 5 songs to learn or score a tag from (2)": [
            "few: 1 positive song in train",
            "few: 1 positive song in test",
        ],
    }
    status, found, _ = run(capsys, tmp_path / "c.csv", "--tags", "happy=regression", "slip=classification")
    assert found == {
        "error: values that are neither 0 nor 1 in tags declared as classification (1)": ["row 21: slip '0.9'"]
    }
    status, found, _ = run(capsys, tmp_path / "c.csv", "--tags", "happy", "energy")
    assert (status, found) == (0, {})


def test_an_empty_split_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row | {"split": "train"} for row in good_rows(tmp_path)]
    _, found, _ = run(capsys, write_table(tmp_path / "c.csv", rows))
    assert found == {"error: splits without songs; training needs all three (2)": ["validation", "test"]}


def test_without_a_split_it_says_what_training_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"path": row["path"], "artist": row["group"], "happy": row["happy"]} for row in good_rows(tmp_path)]
    path = write_table(tmp_path / "c.csv", rows)
    status, found, shown = run(capsys, path)
    assert (status, found) == (0, {})
    assert f"{tmp_path / 'c.split-0.csv'} will be made when first needed" in shown
    assert "60 groups" in shown
    CatalogueFile(path).manifest()
    assert f"{tmp_path / 'c.split-0.csv'} is used" in run(capsys, path)[2]


def test_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_songs(tmp_path, 1)
    (tmp_path / "c.csv").write_text(",path, split,happy,happy, sad ,title,duration\n0,0.wav,train,1,1,0,la la,-3\n")
    status, found, _ = run(capsys, tmp_path / "c.csv", "--tags", "loud")
    columns = ", path,  split, happy, happy,  sad , title, duration"
    assert found[f"error: tags without a column; the columns are {columns} (1)"] == ["loud"]
    status, found, _ = run(capsys, tmp_path / "c.csv")
    assert status == 1
    for heading, lines in {
        "error: duplicate column names (1)": ["happy"],
        RENAMED + " (1)": ["' split' to split"],
        "error: columns without a name; remove them, or choose the tags with data.tags (pandas writes such a column "
        "without index=False) (1)": ["column 1"],
        "error: duration is not a number of seconds above 0 (1)": ["row 1: '-3'"],
        words(tmp_path / "c.csv"): ["title: 'la la'"],
        "warning: tag names with surrounding spaces (1)": ["' sad '"],
    }.items():
        assert found[heading] == lines
    (tmp_path / "c.csv").write_text("file,split\n0.wav,train\n")
    _, found, _ = run(capsys, tmp_path / "c.csv")
    (heading,) = (heading for heading in found if "no column path" in heading)
    assert heading.startswith("error: there is no column path; the columns are file, split. Required are path and one")
    assert f"musictag catalogue {tmp_path / 'c.csv'} -o {tmp_path / 'catalogue.csv'}" in heading
    (tmp_path / "c.csv").write_text("path,split\n")
    _, found, _ = run(capsys, tmp_path / "c.csv")
    assert "error: the table has no rows" in found
    assert "error: no tag column: add one per tag, with 0, 1, or a value in between" in found


@pytest.mark.parametrize(("name", "meant"), [("Split", "split"), ("split ", "split"), ("Artist", "artist")])
def test_a_split_or_artists_spelled_otherwise_are_not_overlooked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, meant: str
) -> None:
    rows = [
        {"path": row["path"], "Artist" if meant == "artist" else "artist": row["group"], "happy": row["happy"]}
        | ({"split": row["split"]} if meant == "artist" else {name: row["split"]})
        for row in good_rows(tmp_path)
    ]
    rows[0]["Artist" if meant == "artist" else "artist"] = "g59"
    path = write_table(tmp_path / "c.csv", rows)
    for tags in (None, ["happy"]):
        with pytest.raises(MusictagError, match=f"columns to be renamed.*: {name!r} to {meant}$"):
            CatalogueFile(path, tags=tags).manifest()
        _, found, shown = run(capsys, path, *(["--tags", *tags] if tags else []))
        assert found[f"{RENAMED} (1)"] == [f"{name!r} to {meant}"]
        # what the column holds is checked, too
        assert found["error: groups in more than one split: test scores would be too high (1)"] == [
            "g59: 1 in train, 1 in test"
        ]
        assert "column split: train 30, validation 15, test 15" in shown
    assert not list(tmp_path.glob("*.split-*"))


def test_a_tag_may_have_any_name_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row | {"Artist": row["happy"], " sad ": row["happy"]} for row in good_rows(tmp_path)]
    path = write_table(tmp_path / "c.csv", rows)
    assert [tag.name for tag in CatalogueFile(path, tags=["Artist"]).manifest().tags] == ["Artist"]
    assert run(capsys, path, "--tags", "Artist")[:2] == (0, {})
    # in training, too, spaces belong to the name of a tag
    assert run(capsys, path, "--tags", "sad", "Artist")[0] == 1
    assert run(capsys, path, "--tags", " sad ", "Artist")[0] == 0


def test_names_and_identifiers_that_training_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row | {"hip\nhop": row["happy"]} for row in good_rows(tmp_path)]
    path = write_table(tmp_path / "c.csv", rows)
    with pytest.raises(MusictagError, match="one line of text"):
        CatalogueFile(path).manifest()
    assert run(capsys, path)[1] == {"error: a tag name must be one line of text (1)": [r"'hip\nhop'"]}
    assert run(capsys, path, "--tags", "happy")[0] == 0
    rows = good_rows(tmp_path)
    rows[3]["song_id"] = "s\r3"
    with pytest.raises(MusictagError, match=r"row 4: song_id 's\\r3' holds a NUL byte or a carriage return"):
        CatalogueFile(write_table(path, rows)).manifest()
    assert run(capsys, path)[1] == {
        "error: cells in column song_id with a NUL byte or a carriage return (1)": [r"row 4: 's\r3'"]
    }


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tag_cells_of_unlabelled_songs_may_hold_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    rows = [row | {"ones": 1, "duration": 1} for row in good_rows(tmp_path)]
    for row, happy in zip(rows[:5], ("?", "7", "0.5", "-inf", "nan"), strict=True):
        row |= {"split": "unlabelled", "happy": happy, "ones": ""}
    path = tmp_path / f"c{suffix}"
    if suffix == ".csv":
        write_table(path, rows)
    else:
        pq.write_table(pa.table({name: [str(row[name]) for row in rows] for name in rows[0]}), path)
    manifest = CatalogueFile(path).manifest()
    assert [tag.name for tag in manifest.tags if tag.kind == "classification"] == ["happy", "ones"]
    assert np.isnan(manifest.targets()[:5]).all()
    assert not np.isnan(manifest.targets()[5:]).any()
    said = capsys.readouterr().err
    assert "unlabelled 5 (for a teacher; their tag cells are not read)" in said
    assert "empty cell" not in said
    _, found, shown = run(capsys, path)
    assert found == {"error: tags with one value only: nothing can be learned (1)": ["ones (always 1)"]}
    assert "tags: 2 classification and 1 regression" in shown
    for row, column in ((7, "happy"), (3, "duration")):
        broken = [dict(other) for other in rows]
        broken[row][column] = "?"
        with pytest.raises(MusictagError, match=rf"row {row + 1}: {column} '\?'"):
            CatalogueFile(write_table(tmp_path / "d.csv", broken)).manifest()
        assert any(f"row {row + 1}" in str(lines) for lines in run(capsys, tmp_path / "d.csv")[1].values())
