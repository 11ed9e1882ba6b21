"""The folder of a data set's prepared audio, named by a hash of what determines its content."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from musictag.common.errors import MusictagError
from musictag.data.datasets import Source

#: Part of the folder's name: a new layout of the store gets a new folder.
STORE_VERSION = 2


def prepared_folder(source: Source, data_dir: str | Path, sample_rate: int | None = None) -> Path:
    """The folder of a source's prepared audio, shared by sources whose songs sound the same. ``sample_rate``: None is
    the source's own, or 16,000 if it has none. Raises MusictagError for an impossible path."""
    rate = sample_rate or getattr(source, "sample_rate", 16000)
    identity = json.dumps(_identity(source, rate), sort_keys=True)
    folder = Path(data_dir) / f"{source.name}-{hashlib.blake2b(identity.encode()).hexdigest()[:8]}"
    try:
        folder.exists()
    except OSError as error:  # a name that is too long for the file system
        raise MusictagError(f"cannot read {folder}: {error.strerror}; use another folder with data_dir=...") from error
    return folder


def _identity(source: Source, sample_rate: int) -> dict:
    return {"fingerprint": source.fingerprint(), "sample_rate": sample_rate, "store_version": STORE_VERSION}
