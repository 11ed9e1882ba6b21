"""musictag: which architecture for music auto-tagging at your data size? See README.md.

    tagger = musictag.load("runs/songbook/.../tagger.safetensors")   # a run's folder, or a pretrained name
    tagger.tag("song.mp3", top=5)                                    # {tag: score}, highest first
    tagger.taggram("song.mp3")                                       # a Taggram: scores over time
    tagger.embed("song.mp3")                                         # features of the song

``load`` returns a ``Tagger``. Parts of your own are subclasses of ``FrontEnd`` and ``BackEnd``. Invalid input raises
``MusictagError``, a problem with one song ``SongError``; ``SongWarning`` reports a song that was read in part only.
Everything that needs torch is imported on first use, so that ``import musictag`` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from musictag.common.errors import MusictagError, SongError, SongWarning
from musictag.common.imports import spare_torchmetrics

if TYPE_CHECKING:
    from musictag.inference.load import load
    from musictag.inference.tagger import TaggedSong, Tagger, Taggram
    from musictag.models.backends import BackEnd
    from musictag.models.frontends import FrontEnd

spare_torchmetrics()

__version__ = version("musictag")
__all__ = [
    "BackEnd", "FrontEnd", "MusictagError", "SongError", "SongWarning", "TaggedSong", "Tagger", "Taggram",
    "__version__", "load",
]  # fmt: skip

_MODULES = {
    "BackEnd": "musictag.models.backends",
    "FrontEnd": "musictag.models.frontends",
    "TaggedSong": "musictag.inference.tagger",
    "Tagger": "musictag.inference.tagger",
    "Taggram": "musictag.inference.tagger",
    "load": "musictag.inference.load",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
