"""Folders of models that others have published: found on this machine or the model hub, with licence and digest."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from musictag.common.errors import MusictagError
from musictag.common.text import reason

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_SETTINGS, _WEIGHTS = ["*.json", "README.md"], ["*.safetensors", "*.bin"]


def local_folder(name: str, with_code: bool = False) -> Path:
    """The folder ``name``, or where the model of that name on the hub is on this machine, downloaded if need be.

    Code is only downloaded on request. Raises MusictagError if there is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    if not _HUB_NAME.fullmatch(name):
        raise MusictagError(f"frontend.name={name} is neither a folder nor a name on the model hub (owner/model)")
    return _downloaded(name, with_code)


@cache
def _downloaded(name: str, with_code: bool) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MusictagError("the model hub needs huggingface_hub: pip install 'musictag[encoders]'") from error
    settings = [*_SETTINGS, *(["*.py"] if with_code else [])]
    try:
        for weights in _WEIGHTS:
            folder = Path(snapshot_download(name, allow_patterns=[*settings, weights]))
            if any(folder.glob(weights)):
                break
        return folder
    except Exception as error:  # of the network, the hub, names, the disk
        raise MusictagError(
            f"frontend.name={name}: there is no such folder, and the model hub did not give it ({reason(error)}). "
            "Without a network, use the folder of a model that was saved elsewhere"
        ) from error


def licence_in(folder: Path) -> str | None:
    """The licence that a model card states in its header; None if it states none."""
    try:
        header = (folder / "README.md").read_text(encoding="utf-8", errors="replace").split("---", 2)
    except OSError:
        return None
    if len(header) < 3 or header[0].strip():
        return None
    found = dict(re.findall(r"^(license|license_name):[ \t]*(\S.{0,99}?)\s*$", header[1], re.M))
    named = found.get("license_name") if found.get("license", "other") == "other" else found["license"]
    return (named or found.get("license", "")).strip("'\"") or None


def files_digest(folder: Path) -> str:
    """Identifies the weights, settings and code in ``folder``."""
    files = sorted(path for kind in ("*.json", "*.py", *_WEIGHTS) for path in folder.glob(kind))
    return _digest(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files))


@cache
def _digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, size, _ in files:
        digest.update(f"{path.name} {size} ".encode())
        with path.open("rb") as file:
            digest.update(
                hashlib.file_digest(file, "sha256").digest() if hasattr(hashlib, "file_digest") else file.read()
            )
    return digest.hexdigest()
