"""The pretrained models and the locations of their files: the possible values of `--model` and `init_from`."""

from __future__ import annotations

import difflib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from musictag.common.errors import MusictagError

#: The tagger of a network, of a baseline and of an ensemble, in the folder of a run.
TAGGER_FILE, MODEL_FILE, ENSEMBLE_FILE = "tagger.safetensors", "model.json", "ensemble.json"
#: The tagger in a folder with the layout of the Hugging Face Hub.
HUB_FILE = "model.safetensors"


@dataclass(frozen=True)
class Published:
    """Weights that others have published.

    ``architecture``: the file of conf/model that trains such a model. ``converter``: the module that converts the
    published file. It has ``fetch(folder, file)``, which returns the path of that file: ``file``, or if that is None,
    downloaded into ``folder``; and ``convert(file, name)``, which returns the TaggingNetwork with its weights, and what
    else the tagger's description contains, such as its ``licence``. Both raise MusictagError with what to do.
    """

    architecture: str
    trained_on: str
    converter: str


#: What `musictag pretrained` offers, by name.
PRETRAINED = {
    "musicnn-mtt": Published("musicnn", "MagnaTagATune, split original", "musictag.models.pretrained.musicnn"),
    "musicnn-msd": Published("musicnn", "Million Song Dataset", "musictag.models.pretrained.musicnn"),
    "vgg-mtt": Published("vgg", "MagnaTagATune, split original", "musictag.models.pretrained.musicnn"),
    "vgg-msd": Published("vgg", "Million Song Dataset", "musictag.models.pretrained.musicnn"),
}


def cached(name: str) -> Path:
    """Where the tagger of pretrained model ``name`` is, or will be."""
    return user_cache_path("musictag", appauthor=False) / "pretrained" / f"{name}.safetensors"


def locate(model: str | os.PathLike) -> Path:
    """Find the file of ``model``: a file itself, the folder of a finished run, or a name in PRETRAINED.

    Raises MusictagError for a name that is not in the cache yet, and for anything else.
    """
    path = Path(model)
    if path.is_file():
        return path
    if str(model) in PRETRAINED:
        if not cached(str(model)).is_file():
            raise MusictagError(
                f"{model} is not on this machine yet; run once, with internet access: musictag pretrained {model}"
            )
        return cached(str(model))
    if path.is_dir():
        for name in (TAGGER_FILE, MODEL_FILE, ENSEMBLE_FILE, HUB_FILE):
            if (path / name).is_file():
                return path / name
        raise MusictagError(
            f"{model} is a folder without a tagger; the folder of a finished run has one: {TAGGER_FILE}, or "
            f"{MODEL_FILE} of a baseline, or {ENSEMBLE_FILE} of an ensemble"
        )
    similar = difflib.get_close_matches(str(model), PRETRAINED, n=1)
    hint = f" (did you mean {similar[0]}?)" if similar else ""
    raise MusictagError(
        f"there is no tagger {model}{hint}; a finished run has one in its folder: {TAGGER_FILE}, or {MODEL_FILE} of a "
        f"baseline. Pretrained models go by name: {', '.join(PRETRAINED)}"
    )


def model_name(model: str) -> str:
    """What ``model`` is called in reports and pages: by its name or file, or by the folder of its run."""
    path = locate(model)
    return path.stem if model == path.stem or path.suffix == ".onnx" else path.resolve().parent.name


def digest(model: str) -> str:
    """Identifies the weights of ``model`` (a file, a run's folder or a pretrained name)."""
    return hashlib.sha256(locate(model).read_bytes()).hexdigest()
