"""Untrusted Parquet files, checked before they are read: a few bytes can stand for a billion cells."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

#: Text of one column with every cell written out. A path takes about 60 bytes.
MAX_TEXT_BYTES = 2**30


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file with its text dictionary-encoded: text shared by a million cells is stored once.

    Raises ArrowInvalid for a file that claims far more cells than its bytes can hold.
    """
    schema = pq.read_metadata(path).schema
    leaves = [schema.column(i) for i in range(len(schema))]
    names = [leaf.path for leaf in leaves if leaf.path == leaf.name and leaf.physical_type == "BYTE_ARRAY"]
    file = pq.ParquetFile(path, read_dictionary=list(dict.fromkeys(names)), page_checksum_verification=True)
    cells, most = file.metadata.num_rows * max(1, len(leaves)), 2**24 + 1000 * os.path.getsize(path)
    if cells > most:
        raise pa.ArrowInvalid(f"it claims {cells:,} cells, more than its size allows")
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    if sum(group.num_rows for group in groups) != file.metadata.num_rows:
        raise pa.ArrowInvalid("its row groups do not add up to its number of rows")
    largest = max(
        (group.column(i).total_uncompressed_size for group in groups for i in range(group.num_columns)), default=0
    )
    if largest > MAX_TEXT_BYTES:
        raise pa.ArrowInvalid(f"a column claims {largest:,} bytes; at most {MAX_TEXT_BYTES:,} are read")
    return file


def flat_column(file: pq.ParquetFile, name: str, which: int = 0) -> pa.ChunkedArray:
    """One column, by name (number ``which`` of several with the same name); raises ArrowInvalid if too large."""
    schema = file.schema_arrow  # once, as pyarrow makes it anew each time
    if pa.types.is_nested(schema.field(schema.get_all_field_indices(name)[which]).type):
        raise pa.ArrowInvalid(f"column {name!r} holds lists or records; each cell must be one text or number")
    column = file.read([name]).column(which)
    if pa.types.is_dictionary(column.type):
        written_out = sum(_text_bytes(chunk) for chunk in column.chunks)
        if written_out > MAX_TEXT_BYTES:
            raise pa.ArrowInvalid(
                f"column {name!r} holds {written_out:,} bytes of text; at most {MAX_TEXT_BYTES:,} are read"
            )
        column = column.cast(column.type.value_type)
    # Python has no nanoseconds, and no column of times is ever a number here
    return column.cast(pa.string()) if pa.types.is_temporal(column.type) else column


def _text_bytes(chunk: pa.DictionaryArray) -> int:
    if not (pa.types.is_string(chunk.type.value_type) or pa.types.is_binary(chunk.type.value_type)):
        return 0
    lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
    return pc.sum(lengths.take(chunk.indices)).as_py() or 0
