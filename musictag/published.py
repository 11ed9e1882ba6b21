"""The pretrained models by name, and where their checkpoints are: what `--model` and `init_from` may mean."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from musictag.errors import MusictagError


@dataclass(frozen=True)
class Published:
    """A model in the wheel: its folder, the name of its list of tags, and its architecture."""

    folder: str
    labels: str
    architecture: str
    trained_on: str


#: What `musictag pretrained` offers, by name.
PRETRAINED = {
    "musicnn-mtt": Published("MTT_musicnn", "MTT_LABELS", "musicnn", "MagnaTagATune, split original"),
    "musicnn-msd": Published("MSD_musicnn", "MSD_LABELS", "musicnn", "Million Song Dataset"),
    "vgg-mtt": Published("MTT_vgg", "MTT_LABELS", "vgg", "MagnaTagATune, split original"),
    "vgg-msd": Published("MSD_vgg", "MSD_LABELS", "vgg", "Million Song Dataset"),
}


def cached(name: str) -> Path:
    """Where the checkpoint of pretrained model ``name`` is, or will be."""
    return user_cache_path("musictag", appauthor=False) / "pretrained" / f"{name}.ckpt"


def locate(model: str | os.PathLike) -> Path:
    """The checkpoint that ``model`` means: a file, or a name of PRETRAINED.

    Raises MusictagError for a name whose checkpoint is not in the cache yet, and for what is neither.
    """
    path = Path(model)
    if path.is_file():
        return path
    if str(model) in PRETRAINED:
        if not cached(str(model)).is_file():
            raise MusictagError(
                f"{model} is not on this machine yet; type once, with a network: musictag pretrained {model}"
            )
        return cached(str(model))
    if path.is_dir():
        raise MusictagError(f"{model} is a folder; the checkpoint of a finished run is the best.ckpt in its folder")
    similar = difflib.get_close_matches(str(model), PRETRAINED, n=1)
    hint = f" (did you mean {similar[0]}?)" if similar else ""
    raise MusictagError(
        f"there is no checkpoint {model}{hint}; a finished run has one in its folder: best.ckpt. "
        f"Pretrained models go by name: {', '.join(PRETRAINED)}"
    )
