"""Tables as people and programs write them: delimiters, decimal commas, yes and no, empty cells, similar names."""

from __future__ import annotations

import codecs
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from musictag import cli
from musictag.common.errors import MusictagError
from musictag.data.catalogue.names import alike, listed_alike
from musictag.data.catalogue.tables import catalogue_command
from musictag.data.datasets.catalogue import CatalogueFile
from tests.helpers.catalogues import write_songs, write_table

TARGETS = np.array([[1, 0.5], [0, 0.25], [1, np.nan]], dtype=np.float32)


def read(path: Path) -> np.ndarray:
    """The targets as training reads them."""
    return CatalogueFile(path).manifest().targets()


def check(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    return cli.main(["data", "check", str(path)]), capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.csv", "sep=;\npath;x;y\n0.wav;1;0.5\n1.wav;0;0.25\n2.wav;1;\n"),
        ("c.csv", "\ufeffSEP=;\r\npath;x;y\r\n0.wav;1;0,5\r\n1.wav;0;,25\r\n2.wav;1;\r\n".replace(",25", "0,25")),
        ("c.csv", '"sep=;"\npath;x;y\n0.wav;yes;0,5\n1.wav;no;0,25\n2.wav;yes;\n'),
        ("c.csv", "sep=\t\npath\tx\ty\n0.wav\t1\t0.5\n1.wav\t0\t0.25\n2.wav\t1\t\n"),
        ("c.csv", "sep=,,,\npath,x,y\n0.wav,1,0.5\n1.wav,0,0.25\n2.wav,1,\n"),
        ("c.csv", "sep=|\npath|x|y\n0.wav|1|0.5\n1.wav|0|0.25\n2.wav|1|\n"),
        ("c.csv", "path;x;y\n0.wav;1;0,5\n1.wav;0;0,25\n2.wav;1;\n"),
        ("c.csv", "path\tx\ty\n0.wav\t1\t0.5\n1.wav\t0\t0.25\n2.wav\t1\t\n"),
        ("c.tsv", "path;x;y\n0.wav;1;0.5\n1.wav;0;0.25\n2.wav;1;\n"),
        ("c.tsv", "path,x,y\n0.wav,1,0.5\n1.wav,0,0.25\n2.wav,1,\n"),
        ("c.csv", 'y;path;"x"\n0,5;0.wav;1\n0,25;1.wav;0\n;2.wav;1\n'),
    ],
)
def test_separators_and_decimal_commas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str
) -> None:
    write_songs(tmp_path, 3)
    (tmp_path / name).write_bytes(content.encode())
    targets = read(tmp_path / name)
    np.testing.assert_array_equal(targets if not content.startswith("y") else targets[:, ::-1], TARGETS)
    status, shown = check(tmp_path / name, capsys)
    assert status == 0, shown
    assert "3 songs" in shown


def test_rows_keep_their_numbers_below_a_separator_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.csv"
    path.write_text("sep=;\npath;x\n0.wav;1\n1.wav\n2.wav;maybe\n")
    write_songs(tmp_path, 3)
    _, shown = check(path, capsys)
    assert "row 2: 1 cells" in shown
    assert "row 3: x 'maybe'" in shown
    path.write_text("sep=;\npath;x\n0.wav;1\n2.wav;maybe\n")
    with pytest.raises(MusictagError, match="row 2: x 'maybe'"):
        read(path)


def test_names_with_other_separators_are_names(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("path,rock;pop,a|b\n0.wav,1,0\n1.wav,0,1\n2.wav,1,1\n")
    assert [tag.name for tag in CatalogueFile(path).manifest().tags] == ["rock;pop", "a|b"]
    path.write_text('path;"rock, pop";x\n0.wav;1;0\n1.wav;0;1\n2.wav;1;1\n')
    assert [tag.name for tag in CatalogueFile(path).manifest().tags] == ["rock, pop", "x"]


def test_where_commas_separate_a_decimal_comma_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_table(tmp_path / "c.csv", [{"path": f"{i}.wav", "x": x} for i, x in enumerate(("0,5", "1", "0"))])
    write_songs(tmp_path, 3)
    with pytest.raises(MusictagError, match=r"(?s)write decimals with a point: 0\.5.*row 1: x '0,5'"):
        read(path)
    status, shown = check(path, capsys)
    assert status == 1
    assert "row 1: x '0,5'" in shown
    path.write_text("path;x\n0.wav;1.000,5\n1.wav;0\n2.wav;1\n")
    with pytest.raises(MusictagError, match=r"row 1: x '1\.000,5'"):
        read(path)


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        ("True", "False"), ("TRUE", "FALSE"), ("true", "false"), ("Yes", "No"), ("YES", "no"), ("y", "N"), ("T", "f"),
        (" true ", "0"), ("1", "False"), ("1.0", "no"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_yes_and_no_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, yes: str, no: str
) -> None:
    write_songs(tmp_path, 12)
    values = [yes, no, ""] * 4
    path = tmp_path / f"c{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"path": [f"{i}.wav" for i in range(12)], "x": values}), path)
    else:
        mark = "," if suffix == ".csv" else "\t"
        path.write_text(
            "".join(f"{a}{mark}{b}\n" for a, b in [("path", "x"), *((f"{i}.wav", v) for i, v in enumerate(values))])
        )
    expected = np.array([[1], [0], [np.nan]] * 4, dtype=np.float32)
    np.testing.assert_array_equal(read(path), expected)
    assert CatalogueFile(path).manifest().tags[0].kind == "classification"
    status, shown = check(path, capsys)
    assert status == 0, shown
    assert "tags: 1 classification" in shown


def test_truth_values_are_the_same_in_both_kinds_of_file(tmp_path: Path) -> None:
    values = [True, False, None] * 4
    paths = [f"{i}.wav" for i in range(12)]
    pq.write_table(pa.table({"path": paths, "x": values}), tmp_path / "c.parquet")
    write_table(
        tmp_path / "d.csv", [{"path": p, "x": "" if v is None else v} for p, v in zip(paths, values, strict=True)]
    )
    np.testing.assert_array_equal(read(tmp_path / "c.parquet"), read(tmp_path / "d.csv"))


def test_a_duration_is_not_yes_or_no(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"path": f"{i}.wav", "duration": d, "x": i % 2} for i, d in enumerate(("true", "1.5", "2"))]
    write_songs(tmp_path, 3)
    path = write_table(tmp_path / "c.csv", rows)
    with pytest.raises(MusictagError, match="row 1: duration 'true'"):
        read(path)
    assert "row 1: 'true'" in check(path, capsys)[1]


@pytest.mark.parametrize("empty", ["", " "])
def test_columns_of_one_or_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], empty: str) -> None:
    write_songs(tmp_path, 12)
    rows = [
        {"path": f"{i}.wav", "a": 1 if i % 2 else empty, "b": "yes" if i % 3 else empty, "fine": (1, 0, empty)[i % 3]}
        for i in range(12)
    ]
    path = write_table(tmp_path / "c.csv", rows)
    status, shown = check(path, capsys)
    assert status == 1
    warning = shown[shown.index("warning: columns of 1 or empty cells") :]
    assert warning.splitlines()[:3] == [
        "warning: columns of 1 or empty cells, which mean unknown. Write 0 for songs that do not have the tag, or "
        f"use this command to write it: musictag catalogue {path} -o {tmp_path / 'catalogue.csv'} (2)",
        "  a: 1 or empty",
        "  b: 1 or empty",
    ]
    capsys.readouterr()
    source = CatalogueFile(path)
    source.manifest()
    assert "a, b: columns of 1 or empty cells, which mean unknown. Write 0 for" in capsys.readouterr().err
    assert [tag.name for tag in source.learnable_manifest().tags] == ["fine"]
    left_out = capsys.readouterr().err
    assert "a, b (no negative song)" in left_out
    assert "empty cells, which mean unknown. Write 0 for" in left_out
    with pytest.raises(
        MusictagError, match=r"asks for .*a \(no negative song\).*empty cells, which mean unknown\. Write 0"
    ):
        CatalogueFile(path, tags="a").learnable_manifest()
    assert cli.main(["catalogue", str(path), "-o", str(tmp_path / "catalogue.csv")]) == 0
    assert check(tmp_path / "catalogue.csv", capsys)[0] == 0


def test_ones_alone_get_no_advice_on_empty_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_songs(tmp_path, 6)
    path = write_table(tmp_path / "c.csv", [{"path": f"{i}.wav", "a": 1, "x": i % 2} for i in range(6)])
    assert "empty cell" not in check(path, capsys)[1]
    CatalogueFile(path).learnable_manifest()
    said = capsys.readouterr().err
    assert "a (no negative song)" in said
    assert "empty cell" not in said


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["Rock", "rock", "ROCK"], "'Rock', 'rock', 'ROCK'"),
        (["rock", " rock"], "'rock', ' rock'"),
        (["hip hop", "Hip  Hop"], "'hip hop', 'Hip  Hop'"),
        (["caf\u00e9", "cafe\u0301"], r"'caf\xe9', 'cafe\u0301'"),
        (["Stra\u00dfe", "STRASSE"], "'Stra\u00dfe', 'STRASSE'"),
        (["hip-hop", "hip hop"], None),
        (["cafe", "caf\u00e9"], None),
    ],
)
def test_names_that_differ_little(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: list[str], line: str | None
) -> None:
    assert listed_alike([*names, "other"]) == ([line] if line else [])
    assert alike(names) == ([names] if line else [])
    write_songs(tmp_path, 6)
    path = write_table(tmp_path / "c.csv", [{"path": f"{i}.wav"} | dict.fromkeys(names, i % 2) for i in range(6)])
    status, shown = check(path, capsys)
    assert status == 0, shown
    capsys.readouterr()
    CatalogueFile(path).manifest()
    said = capsys.readouterr().err
    what = "tags whose names differ only in case, spaces or the encoding of characters: each is learned separately"
    assert (f"warning: {what} (1)\n  {line}\n" in shown) == (f"  {what}: {line}\n" in said) == bool(line)
    CatalogueFile(path, tags=[names[0]]).manifest()
    assert what not in capsys.readouterr().err


def test_messages_name_a_command_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my $ongs"
    folder.mkdir()
    path = write_table(
        folder / "catalogue.csv", [{"path": f"{i}.wav", "genre": ("rock", "pop")[i % 2]} for i in range(8)]
    )
    write_songs(folder, 8)
    command = f"musictag catalogue '{path}' -o '{folder / 'catalogue-tags.csv'}'"
    assert catalogue_command(path) == command
    with pytest.raises(MusictagError, match="not numbers, so not tags") as error:
        CatalogueFile(path).manifest()
    assert command in str(error.value)
    status, shown = check(path, capsys)
    assert status == 1
    assert command in shown
    for wrong in (folder, tmp_path / "lists.parquet"):
        if wrong.suffix:
            pq.write_table(pa.table({"path": ["a.wav"], "tags": [["rock", "pop"]]}), wrong)
        with pytest.raises(MusictagError) as error:
            CatalogueFile(wrong).manifest()
        assert catalogue_command(wrong) in str(error.value)
        assert cli.main(["data", "check", str(wrong)]) == 1
        assert catalogue_command(wrong) in "".join(capsys.readouterr())
    write_table(path, [{"file": "0.wav", "genre": "rock"}])
    with pytest.raises(MusictagError, match="no column path") as error:
        CatalogueFile(path).manifest()
    assert command in str(error.value)


def test_songs_of_two_artists_cannot_be_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_songs(tmp_path, 8)
    rows = [{"path": f"{i}.wav", "artist": f"a{i // 4}", "x": i % 2} for i in range(8)]
    path = write_table(tmp_path / "c.csv", rows)
    assert "2 groups cannot be split into train, validation, test without dividing one" in check(path, capsys)[1]
    with pytest.raises(MusictagError, match="cannot be split"):
        CatalogueFile(path).manifest()


def test_other_encodings_are_refused_as_before(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes(codecs.BOM_UTF16_LE + "sep=;\npath;x\na;1\n".encode("utf-16-le"))
    with pytest.raises(MusictagError, match="is UTF-16 text"):
        CatalogueFile(tmp_path / "c.csv").manifest()


def test_text_of_windows_below_the_first_row_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "my c.csv"
    path.write_bytes("path,x\n0.wav,0\nbé.wav,1\n".encode("cp1252"))
    with pytest.raises(MusictagError, match=r"`iconv -f CP1252 -t UTF-8`.*`musictag data check '.*my c.csv'` names"):
        read(path)


def test_blank_lines_above_the_first_row_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.csv"
    for above in ("\n\n", "\r\n", "\ufeff\n"):
        path.write_bytes(f"{above}path;x;y\n0.wav;1;0,5\n1.wav;0;0,25\n2.wav;1;\n".encode())
        np.testing.assert_array_equal(read(path), TARGETS)
    path.write_text("sep=;\n\npath;x\n0.wav;1\n1.wav\n2.wav;maybe\n")
    write_songs(tmp_path, 3)
    shown = check(path, capsys)[1]
    assert "row 2: 1 cells" in shown
    assert "row 3: x 'maybe'" in shown


def test_a_first_row_may_be_longer_than_a_block_of_the_reader(tmp_path: Path) -> None:
    names = [f'{number} "quoted" ' + "x" * 100_000 for number in range(20)]
    rows = [{"path": f"{i}.wav", "split": "train"} | dict.fromkeys(names, i) for i in (0, 1)]
    path = write_table(tmp_path / "c.csv", rows)
    assert [tag.name for tag in CatalogueFile(path).manifest().tags] == names


def test_the_index_of_pandas_is_not_a_tag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = {"path": [f"{i}.wav" for i in range(12)], "x": [0, 1] * 6, "__index_level_0__": [1, 0] * 6}
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    write_songs(tmp_path, 12)
    assert [tag.name for tag in CatalogueFile(tmp_path / "c.parquet").manifest().tags] == ["x"]
    assert "tags: 1 classification" in check(tmp_path / "c.parquet", capsys)[1]


def test_paths_of_windows_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_songs(tmp_path / "m", 3)
    rows = [{"path": f"m\\{i}.wav", "split": "train", "x": i % 2} for i in range(3)]
    read(write_table(tmp_path / "c.csv", rows))
    assert r"3 paths with backslashes, such as m\0.wav: use / on every system" in capsys.readouterr().err
    (tmp_path / "m\\0.wav").write_bytes(b"x")  # elsewhere, a name may have one
    read(tmp_path / "c.csv")
    assert "backslash" not in capsys.readouterr().err
