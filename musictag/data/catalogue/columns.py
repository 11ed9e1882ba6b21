"""What the columns of a catalogue hold."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

#: A column of this name is read as ``group`` where there is no such column.
ARTIST = "artist"


def kind_of(values: pa.ChunkedArray) -> str:
    """What a tag with these values (null or NaN: unknown) is, unless somebody says otherwise."""
    numbers = values.to_numpy()
    is_binary = ((numbers == 0) | (numbers == 1) | np.isnan(numbers)).all()
    return "classification" if is_binary else "regression"
