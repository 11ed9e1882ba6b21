"""Audio and tables made to do harm: what their headers claim is refused by name before memory is made for it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from tests.helpers.fuzzing import read_all
from tests.security.test_checkpoints import refused


def wav(channels: int = 1, rate: int = 16000, data_bytes: int = 32000, frames: int = 16000) -> bytes:
    samples = (np.sin(np.arange(frames) / 9) * 9000).astype("<i2").tobytes()
    block = struct.pack("<HHIIHH", 1, channels % 2**16, rate % 2**32, 2 * rate % 2**32, 2 * channels % 2**16, 16)
    return b"RIFF" + struct.pack("<I", 36 + data_bytes % 2**31) + b"WAVEfmt " + struct.pack("<I", 16) + block + (
        b"data" + struct.pack("<I", data_bytes % 2**32) + samples
    )  # fmt: skip


def rf64(frames: int) -> bytes:
    sizes = b"ds64" + struct.pack("<IQQQI", 28, 2 * frames + 60, 2 * frames, frames, 0)
    return b"RF64\xff\xff\xff\xffWAVE" + sizes + wav()[12:].replace(struct.pack("<I", 32000), b"\xff\xff\xff\xff", 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (wav(channels=10_000), "cannot be read as audio"),
        pytest.param(wav(channels=0), "cannot be read as audio", marks=pytest.mark.slow),
        pytest.param(wav(rate=1), "declares 1 samples per second", marks=pytest.mark.slow),
        pytest.param(wav(rate=2**31), "cannot be read as audio", marks=pytest.mark.slow),
        (wav(rate=2**31 - 1), "declares 2,147,483,647 samples per second"),
    ],
    ids=["10,000 channels", "no channel", "1 Hz", "2^31 Hz", "2^31 - 1 Hz"],
)  # fmt: skip
def test_headers_of_audio(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    path.write_bytes(content)
    refused("audio", path, message, megabytes=64)


def test_a_header_of_terabytes_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    path.write_bytes(rf64(2**40))
    outcomes = read_all("audio", [path], tmp_path / "empty", megabytes=64)
    assert not outcomes.bugs
    assert not outcomes.ended


@pytest.mark.slow
@pytest.mark.parametrize("declared", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_days_of_one_value_in_a_small_file(declared: bool, tmp_path: Path) -> None:
    path = tmp_path / "song.flac"
    with soundfile.SoundFile(path, "w", 1000, 1, "PCM_16") as file:
        for _ in range(13):
            file.write(np.full(3600 * 1000, 0.5, dtype=np.float32))
    content = bytearray(path.read_bytes())
    assert len(content) < 2**18
    if not declared:
        content[21] &= 0xF0
        content[22:26] = bytes(4)
        path.write_bytes(content)
    refused("audio", path, "longer than 12 hours", megabytes=2048, seconds=120)


@pytest.mark.slow
def test_tables_that_unfold(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("path,x\n" + "a" * 2**26 + ",1\n")
    refused("catalogue", path, "one.csv cannot be read as csv")
    path.write_text("a" * 2**26 + "\n")
    refused("catalogue", path, "the first row has more than")
    path.write_text("path," + ",".join(f"t{i}" for i in range(10**6)) + "\n")
    refused("catalogue", path, "columns; at most 10,000")

    path = tmp_path / "one.parquet"
    cell = pa.array(["a" * 2**20]).dictionary_encode().dictionary
    songs = pa.DictionaryArray.from_arrays(pa.array(np.zeros(4000, dtype=np.int32)), cell)
    pq.write_table(pa.table({"path": songs, "x": [1.0] * 4000}), path, compression="zstd")
    assert path.stat().st_size < 2**20
    refused("catalogue", path, "bytes of text; at most")
    ones = pa.array(np.ones(2**25, dtype=np.float32))
    pages = {"row_group_size": 2**25, "data_page_size": 2**30, "max_rows_per_page": 2**25, "write_statistics": False}
    pq.write_table(pa.table({"path": ones, "x": ones}), path, compression="zstd", **pages)
    assert path.stat().st_size < 2**15
    refused("catalogue", path, "cells, more than its size allows")
