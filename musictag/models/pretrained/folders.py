"""Folders of models that others have published: found on this machine or the model hub, with licence and digest."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from musictag.common.errors import MusictagError
from musictag.common.paths import expanded
from musictag.common.text import reason

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_WEIGHTS = ("*.safetensors", "*.bin")


def local_folder(name: str, with_code: bool) -> Path:
    """The folder ``name``, or where the model of that name on the hub is on this machine, downloaded if need be;
    code ``with_code`` only. Raises MusictagError if there is neither."""
    if (folder := Path(expanded(name, "frontend.name"))).is_dir():
        return folder
    if not _HUB_NAME.fullmatch(name):
        raise MusictagError(f"frontend.name={name} is neither a folder nor a name on the model hub (owner/model)")
    return _downloaded(name, with_code)


@cache
def _downloaded(name: str, with_code: bool) -> Path:
    try:
        from huggingface_hub import snapshot_download

        for weights in _WEIGHTS:
            patterns = ["*.json", "README.md", weights, *(["*.py"] if with_code else [])]
            folder = Path(snapshot_download(name, allow_patterns=patterns))
            if any(folder.glob(weights)):
                break
        return folder
    except Exception as error:  # of the network, the hub, the disk
        raise MusictagError(
            f"frontend.name={name}: there is no such folder, and the model hub did not give it ({reason(error)}). "
            "Without a network, use the folder of a model that was saved elsewhere"
        ) from error


def is_encoder(name: str) -> bool:
    """Whether ``name`` is the folder of an encoder, as the library transformers saves them."""
    return Path(name, "preprocessor_config.json").is_file()


def licence_in(folder: Path) -> str | None:
    """The licence that a model card states in its header; None if it states none."""
    card = folder / "README.md"
    header = re.match(r"---\n(.*?)\n---", card.read_text("utf-8", "replace") if card.is_file() else "", re.S)
    lines = re.findall(r"^(license|license_name):[ \t]*['\"]?(.{1,100}?)['\"]?\s*$", header[1] if header else "", re.M)
    found = dict(lines)
    named = found.get("license_name") if found.get("license", "other") == "other" else None
    return named or found.get("license")


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
            while block := file.read(2**24):
                digest.update(block)
    return digest.hexdigest()
