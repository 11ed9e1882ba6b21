"""Versions of the user's own code that a configuration names: another version is another run."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import Distribution, distribution, packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from musictag.common.errors import MusictagError
from musictag.models.factory import targets

#: Their versions are in metrics.json: changes in rounding and bug fixes in them do not make another run.
_KNOWN = ("musictag", "torch", "pytorch_lightning", "lightning", "datetime")


def code_versions(config: Any) -> dict[str, str]:
    """The version of every package outside musictag, PyTorch and Lightning that a ``_target_`` of the configuration
    names: that of its distribution, or a hash of its source if there is none or it is an editable install.

    Raises MusictagError for a package that cannot be found.
    """
    packages = {target.partition(".")[0] for target in targets(config) if isinstance(target, str)}
    return {package: _version(package) for package in sorted(packages - set(_KNOWN))}


def _version(package: str) -> str:
    for name in packages_distributions().get(package, ()):
        installed = distribution(name)
        if not _is_editable(installed):
            return f"{name} {installed.version}"
    return f"source {source_digest(package)}"


def _is_editable(installed: Distribution) -> bool:
    try:
        return bool(json.loads(installed.read_text("direct_url.json") or "{}").get("dir_info", {}).get("editable"))
    except ValueError:
        return False


@cache
def source_digest(package: str) -> str:
    found = find_spec(package)
    if found is None:
        raise MusictagError(f"there is no package {package}, which a _target_ of the configuration names")
    if found.submodule_search_locations is None:
        files = [(Path(found.origin).name, Path(found.origin))] if found.has_location else []
    else:
        folders = [Path(folder) for folder in found.submodule_search_locations]
        files = [(path.relative_to(folder).as_posix(), path) for folder in folders for path in folder.rglob("*.py")]
    digest = hashlib.sha256()
    for name, path in sorted(files):
        content = path.read_bytes()
        digest.update(f"{name} {len(content)} ".encode() + content)
    return digest.hexdigest()[:16]
