"""Where configuration is found: conf/ and sweep/ of the clone, and the folder conf of every registered plug-in."""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig

from musictag.common.errors import MusictagError
from musictag.models.factory import PLUGINS

#: The shipped configuration is beside the package, in a clone of the repository.
CONF = Path(__file__).resolve().parents[2] / "conf"


_SWEEP = "sweep"
(_Files,) = (source for source in Plugins.instance().discover(ConfigSource) if source.scheme() == "file")


class SweepSource(_Files):
    """The folder sweep/ of the clone as the group of that name. Nothing else in the clone is a group: Hydra would walk
    through all of it, virtual environments included, to list the groups for --help."""

    @staticmethod
    def scheme() -> str:
        return _SWEEP

    def is_group(self, config_path: str) -> bool:
        return config_path.partition("/")[0] in ("", _SWEEP) and super().is_group(config_path)

    def is_config(self, config_path: str) -> bool:
        return config_path.partition("/")[0] == _SWEEP and super().is_config(config_path)


class MusictagSearchPath(SearchPathPlugin):
    """Hydra asks it for every configuration that is composed: by train.py, by commands, by the jobs of a sweep."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("musictag", f"{_SWEEP}://{CONF.parent}")
        for package, folder in plugin_folders().items():
            search_path.append(f"plug-in {package}", f"file://{folder}")


Plugins.instance().register(SweepSource)
Plugins.instance().register(MusictagSearchPath)


def plugin_folders() -> dict[str, Path]:
    """The folders conf of the packages that are registered under ``musictag.plugins``; those without one are left out.

    No plug-in is imported. Raises MusictagError for a package that is registered and not there, and for a file that
    two folders have: Hydra would take the first one without a word.
    """
    folders = {}
    for package in sorted({entry.module for entry in entry_points(group=PLUGINS)}):
        for place in _places(package):
            if (folder := Path(place) / "conf").is_dir():
                folders[package] = folder
    owners: dict[str, str] = {}
    if folders:
        owners = dict.fromkeys((*_files(CONF), *_files(CONF.parent, "sweep")), "musictag")
    for package, folder in folders.items():
        for file in _files(folder):
            if file in owners:
                raise MusictagError(
                    f"plug-in {package} has {folder / file}, and {owners[file]} has a file of that name, too: rename it"
                )
            owners[file] = package
    return folders


def _places(package: str) -> list[str]:
    """The package's own folders: one, or none where it is a single file."""
    try:
        found = find_spec(package)
    except ModuleNotFoundError:  # what it is inside of is missing
        found = None
    if found is None:
        raise MusictagError(
            f"{package} is registered under the entry-point group {PLUGINS}, and there is no such package; install it "
            "again, or uninstall it"
        )
    return list(found.submodule_search_locations or ())


def _files(folder: Path, group: str = ".") -> list[str]:
    return [path.relative_to(folder).as_posix() for path in (folder / group).rglob("*.yaml")]


def search_overrides(hydra: DictConfig) -> list[str]:
    """What another process must be told, to find the folders that this one was told of (``hydra.searchpath``,
    ``--config-dir``); ``hydra`` is that part of the configuration."""
    told = ("command-line", "hydra.searchpath in command-line")
    sources: list[Any] = [source for source in hydra.runtime.config_sources if source.provider in told]
    found = ",".join(f"'{source.schema}://{source.path}'" for source in sources)
    return [f"hydra.searchpath=[{found}]"] if found else []
