"""Where the prepared audio of a data set is stored: a folder named after what is in it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from musictag.common.errors import MusictagError
from musictag.data.datasets import Source

#: Part of the folder's name: another layout of the store is another folder.
STORE_VERSION = 2


def prepared_folder(source: Source, data_dir: str | Path, sample_rate: int = 16000) -> Path:
    """Where the prepared audio of a source lies: sources whose songs sound alike share it. Raises MusictagError for a
    place that cannot be."""
    identity = json.dumps(_identity(source, sample_rate), sort_keys=True)
    folder = Path(data_dir) / f"{source.name}-{hashlib.blake2b(identity.encode()).hexdigest()[:8]}"
    try:
        folder.exists()
    except OSError as error:  # a name that is longer than the file system takes
        raise MusictagError(
            f"cannot read {folder}: {error.strerror}; choose another place with data_dir=..."
        ) from error
    return folder


def _identity(source: Source, sample_rate: int) -> dict:
    return {"fingerprint": source.fingerprint(), "sample_rate": sample_rate, "store_version": STORE_VERSION}
