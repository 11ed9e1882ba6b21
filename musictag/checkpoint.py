"""Checkpoints: written whole or not at all; read, whoever wrote them, without executing anything or missing damage."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from musictag.claims import check_archive
from musictag.files import atomic_write

_REASON_CHARACTERS = 300


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The plain containers and tensors in a checkpoint file, on the CPU, in little more memory than the file is long.

    Raises ValueError, with the reason, for a file that is no checkpoint, is damaged, holds anything else, or claims
    more than it has.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            check_archive(archive, os.path.getsize(path))
            if damaged := archive.testzip():  # torch.load does not compare checksums: a flipped bit would go unseen
                raise ValueError(f"the checksum of {damaged} does not match")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except zipfile.BadZipFile as error:
        raise ValueError("it is no checkpoint at all, or its end is missing") from error
    except Exception as error:  # damaged bytes make the unpickler raise nearly anything
        reason = str(error).strip().partition("\n")[0][:_REASON_CHARACTERS]
        raise ValueError(reason or type(error).__name__) from error
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a checkpoint")
    return content


def write_checkpoint(content: Mapping[str, Any], path: str | Path) -> None:
    """``content`` as a checkpoint file; raises MusictagError when the disk is full, and leaves what was there."""
    # to memory first: torch turns a full disk into an error of its own that does not say so
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def tagger_spec(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The specification of the tagger in a checkpoint's content; None if it has none."""
    parameters = content.get("hyper_parameters")
    spec = parameters.get("tagger") if isinstance(parameters, Mapping) else None
    return spec if isinstance(spec, dict) else None
