"""Inference with several models at once: a song's score is the mean of their scores.

An ensemble is a folder: ``ensemble.json``, which lists the files of its members beside it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musictag.common.errors import MusictagError
from musictag.common.files import read_json, write_json
from musictag.data.audio.decode import AudioSource
from musictag.inference.tagger import Tagger, Taggram
from musictag.models.pretrained import ENSEMBLE_FILE

_WHAT = "musictag ensemble 1"
_MEMBER = re.compile(r"member-\d{1,4}\.(safetensors|json)")
_MAX_BYTES = 2**25


class EnsembleTagger(Tagger):
    """Tags songs with the mean score of ``members``; raises MusictagError unless they have the same tags, in the same
    order, and the same sample rate."""

    no_layers = "an ensemble has no layers of its own; use one of its members, the files beside it"

    def __init__(self, members: Sequence[Tagger], facts: Mapping[str, Any] | None = None) -> None:
        if not members:
            raise MusictagError("an ensemble needs members")
        super().__init__(members[0].tags, members[0].sample_rate, facts)
        self.members, self.family = list(members), members[0].family
        if any(member.tags != self.tags for member in members):
            raise MusictagError("the members of an ensemble need the same tags, in the same order")
        if rates := {member.sample_rate for member in members} - {self.sample_rate}:
            raise MusictagError(
                f"the members of an ensemble need the same sample rate; {self.sample_rate} and {rates} are not"
            )

    def set_hop(self, hop_seconds: float) -> None:
        for member in self.members:
            member.set_hop(hop_seconds)

    def predict_song(self, audio: np.ndarray) -> np.ndarray:
        return np.mean([member.predict_song(audio) for member in self.members], axis=0, dtype=np.float32)

    def taggram(self, source: AudioSource, hop_seconds: float | None = None) -> Taggram:
        audio = self.read(source), int(self.sample_rate)
        found = [member.taggram(audio, hop_seconds) for member in self.members]
        times = found[0].times
        if not all(np.array_equal(taggram.times, times) for taggram in found):
            raise MusictagError("the members of this ensemble have patches of different lengths, and so no taggram")
        return Taggram(times, self.tag_names, np.mean([taggram.scores for taggram in found], axis=0, dtype=np.float32))


def write_members(folder: Path, models: Sequence[Path], facts: Mapping[str, Any] | None = None) -> None:
    """Copy the models of ``models`` (see ``musictag.load``) into ``folder`` as the members of an ensemble with these
    ``facts`` (see ``Tagger``), in place of those of another one."""
    folder.mkdir(parents=True, exist_ok=True)
    for before in (folder / ENSEMBLE_FILE, *(path for path in folder.iterdir() if _MEMBER.fullmatch(path.name))):
        before.unlink(missing_ok=True)
    names = [f"member-{number}{model.suffix}" for number, model in enumerate(models)]
    for name, model in zip(names, models, strict=True):
        shutil.copyfile(model, folder / name)
        for network in model.parent.glob("features-*.safetensors") if model.suffix == ".json" else ():
            shutil.copyfile(network, folder / network.name)  # computes the features of this member
    write_json(folder / ENSEMBLE_FILE, {"what": _WHAT, "members": names, "facts": dict(facts or {})})


def read_members(path: Path) -> tuple[list[Path], Any]:
    """The files of the members, beside an ensemble.json, which may be untrusted, and the unchecked facts about them.

    Raises MusictagError for another file, and for members that are not there.
    """
    try:
        content = read_json(path, _MAX_BYTES)
        names = content.get("members") if isinstance(content, dict) else None
        if not isinstance(names, list) or content.get("what") != _WHAT:
            raise ValueError("it was not written by this version of musictag")
        if wrong := [name for name in names if not isinstance(name, str) or not _MEMBER.fullmatch(name)]:
            raise ValueError(f"{str(wrong[0])[:40]!r} is not the name of a member")
        if len(set(names)) < len(names):  # each costs memory and time, however small the file
            raise ValueError("it names a member twice")
        if missing := [name for name in names if not (path.parent / name).is_file()]:
            raise ValueError(f"{missing[0]} is not beside it")
    except (OSError, ValueError) as error:
        raise MusictagError(f"{path} is not an ensemble of musictag, or is damaged: {error}") from error
    return [path.parent / name for name in names], content.get("facts", {})
