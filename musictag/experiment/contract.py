"""The contract of both kinds of run; ``musictag.experiment.run.make_run`` chooses the kind."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

from musictag.data.datasets import Source
from musictag.data.manifest import Manifest
from musictag.data.preparation.prepare import song_versions
from musictag.data.store.folder import prepared_folder
from musictag.experiment.code_versions import code_versions
from musictag.experiment.identity import canonical, deciding, spelled_as_lists
from musictag.models import frontends
from musictag.training.signals import SignalHandler

#: Groups of systems, in the order in which reports show them.
FAMILIES = (*frontends.FAMILIES, "baseline")
SCORES = "all scores, the configuration, versions"


class Run(ABC):
    """A run as its configuration describes it: what identifies it, how it is executed, which files it leaves.

    ``config``: the part of the configuration that this kind of run reads, as plain containers.
    """

    files: ClassVar[Mapping[str, str]]  #: files that are shown to the user, with their content
    model_file: ClassVar[str]  #: the file that ``musictag.load`` reads
    single_process: ClassVar[bool]  #: whether one process does everything

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    @abstractmethod
    def check(self) -> None:
        """Raise MusictagError for settings that can be known to be wrong before the data set is read."""

    @property
    @abstractmethod
    def name_parts(self) -> list[str]:
        """The parts of the folder's name before the hash."""

    @property
    @abstractmethod
    def max_epochs(self) -> int | None:
        """None where training is not divided into epochs."""

    @abstractmethod
    def patches_to_train(self) -> int | None:
        """An upper bound; None where it is not known, and where nothing is trained on patches."""

    def deciding(self, locations: Collection[str]) -> dict[str, Any]:
        """The settings that can change the result. ``locations``: see ``musictag.experiment.identity.deciding``."""
        return deciding(self.config, locations)

    @abstractmethod
    def digests(self) -> dict[str, str]:
        """Versions of what decides the result beyond settings and songs, by name."""

    def songs(self, source: Source) -> Manifest:
        """The songs that decide the result."""
        return source.learnable_manifest().labelled()

    @abstractmethod
    def execute(self, source: Source, run_dir: Path, signal_handler: SignalHandler) -> dict[str, Any]:
        """Prepare the songs, train and test; returns the content of ``metrics.json``, which is written last."""

    @abstractmethod
    def describe(self, metrics: Mapping[str, Any]) -> tuple[str, str, str]:
        """Texts about a finished run for the terminal: its name, what was trained, and how fast."""

    def folder(self, source: Source) -> Path:
        """Where the run lives: the same configuration on the same songs, the same folder.

        Raises MusictagError if ``trainer.devices`` leaves to the machine what would change the network.
        """
        manifest = self.songs(source)
        inputs = {"audio": source.fingerprint(), "songs": manifest.digest(), **self.digests()}
        if hasattr(source, "versions"):  # a file that was repaired may be another song
            versions = song_versions(source, manifest, prepared_folder(source, self.config["data_dir"]))
            inputs["files"] = hashlib.sha256("\n".join(v or "" for v in versions.to_pylist()).encode()).hexdigest()
        decides = type(self)(spelled_as_lists(self.config)).deciding(source.locations)
        if code := code_versions(decides):
            inputs["code"] = code
        identity = json.dumps(canonical(decides) | inputs, sort_keys=True)
        end = hashlib.sha256(identity.encode()).hexdigest()[:8]
        place = Path(self.config["runs_dir"]) / source.name
        # a model that is described by the settings of its parts is the same run, under the name it was first given
        try:
            found = sorted(place.glob(f"*-{end}"))
        except OSError:  # a name that the file system does not take: reading from it says so
            found = []
        return found[0] if found else place / "-".join([*self.name_parts, end])
