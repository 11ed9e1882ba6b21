"""What the columns of a catalogue hold."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

#: Name of a column that is read as ``group`` if there is no such column.
ARTIST = "artist"


def kind_of(values: pa.ChunkedArray) -> str:
    """The kind of a tag with these values (null or NaN: unknown), unless it is declared."""
    numbers = values.to_numpy()
    is_binary = ((numbers == 0) | (numbers == 1) | np.isnan(numbers)).all()
    return "classification" if is_binary else "regression"
