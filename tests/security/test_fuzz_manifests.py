"""Damaged tables: CSV, TSV and Parquet, each used or refused by name."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from musictag import cli
from tests.helpers.fuzzing import damage, read_all, write_all

HEADER = ["song_id", "path", "split", "group", "duration", "rock", "tempo"]
#: What a cell may hold that it should not.
NASTY = (
    "", " ", "nan", "inf", "-1", "1e400", "0x10", "2", "1,5",
    "../../etc/passwd", "/etc/passwd", "C:\\x.wav", "a\0b", "~",
    "=1+1", "\x1b[2J", "\n", "\r", "\"", "\ufeff", "\u202e", "é" * 1000, "x" * 40_000, "train ", "TRAIN", "🎵",
)  # fmt: skip


def rows() -> list[list[str]]:
    splits = ["train"] * 6 + ["validation"] * 3 + ["test"] * 3
    return [
        [f"s{i}", f"a/{i}.wav", split, f"g{i}", str(1.5 + i), str(i % 2), str(i / 12)] for i, split in enumerate(splits)
    ]


def as_csv(table: list[list[str]], delimiter: str = ",") -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(table)
    return file.getvalue().encode("utf-8", "surrogatepass")


def as_parquet(columns: dict[str, Any], **settings: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **settings)
    return file.getvalue()


def parquet_columns() -> dict[str, Any]:
    ids, paths, splits, groups, seconds, rock, tempo = zip(*rows(), strict=True)
    numbers = {"duration": seconds, "rock": rock, "tempo": tempo}
    texts = {"song_id": ids, "path": paths, "split": splits, "group": groups}
    return texts | {name: [float(value) for value in column] for name, column in numbers.items()}


#: Columns of other types than they should be.
ODD: tuple[Any, ...] = (
    [[1, 2]] * 12, [{"a": 1}] * 12, [b"\xff\xfe"] * 12, [True] * 12, [None] * 12, [2**62] * 12, ["x"] * 12,
    pa.array([1] * 12, pa.timestamp("ns")), pa.array([1] * 12, pa.decimal128(38, 30)),
    pa.array(["x"] * 12).dictionary_encode(),
    pa.array([1.0] * 12, pa.float16()), pa.array([[1.0]] * 12, pa.list_(pa.float32(), 1)),
    pa.nulls(12), [float("nan")] * 12,
)  # fmt: skip


def damaged(count: int) -> dict[str, list[bytes]]:
    """Contents by kind of file; the first of each is whole."""
    rng = np.random.default_rng(0)
    table = [HEADER, *rows()]
    found: dict[str, list[bytes]] = {".csv": [as_csv(table)], ".tsv": [as_csv(table, "\t")]}
    found[".parquet"] = [as_parquet(parquet_columns())]
    while sum(map(len, found.values())) < count:
        kind = (".csv", ".tsv", ".parquet", ".parquet")[sum(map(len, found.values())) % 4]
        if rng.random() < 0.5:
            found[kind].append(damage(rng, found[kind][0]))
        elif kind == ".parquet":
            columns, odd = parquet_columns(), ODD[rng.integers(len(ODD))]
            columns[HEADER[rng.integers(len(HEADER))]] = odd
            found[kind].append(as_parquet(columns, compression=("none", "snappy", "zstd")[rng.integers(3)]))
        else:
            changed = [list(row) for row in table]
            for _ in range(int(rng.integers(1, 4))):
                row = changed[rng.integers(len(changed))]
                row[rng.integers(len(row))] = NASTY[rng.integers(len(NASTY))]
            found[kind].append(as_csv(changed, "," if kind == ".csv" else "\t"))
    return found


def read_damaged(count: int, folder: Path) -> None:
    contents = damaged(count)
    paths = [path for kind, files in contents.items() for path in write_all(folder / kind[1:], files, kind)]
    outcomes = read_all("catalogue", paths, folder / "empty", megabytes=256)
    outcomes.check(count)
    whole = {folder / kind[1:] / f"0000{kind}" for kind in contents}
    assert whole <= set(outcomes.used)


def test_a_few_damaged_catalogues(tmp_path: Path) -> None:
    read_damaged(40, tmp_path)


@pytest.mark.slow
def test_five_hundred_damaged_catalogues(tmp_path: Path) -> None:
    read_damaged(500, tmp_path)


def test_the_command_line_names_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, files in damaged(16).items():
        for path in write_all(tmp_path / kind[1:], files, kind):
            assert cli.main(["data", "check", str(path)]) in (0, 1)
            told = capsys.readouterr()
            assert path.name in told.out + told.err
