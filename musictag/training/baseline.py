"""Fitting a baseline: one model per tag, resumable."""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musictag.common.errors import MusictagError
from musictag.common.files import write_json
from musictag.common.progress import Progress
from musictag.common.text import some
from musictag.data.loading.datamodule import SongDataModule
from musictag.inference.feature_tagger import FeatureTagger
from musictag.inference.song_features import SongFeatures
from musictag.models.baselines import FeatureModel, can_judge, constant_model
from musictag.models.pretrained import MODEL_FILE

_FITTED_FOLDER = "tags"


def fit_tagger(
    model: FeatureModel,
    spec: Mapping[str, Any],
    data: SongDataModule,
    features: Mapping[str, np.ndarray],
    seed: int,
    run_dir: Path,
    computed_by: SongFeatures | None = None,
) -> tuple[FeatureTagger, float]:
    """Fit the model of every tag and save all of them in ``run_dir``; finished ones in its folder ``tags`` are reused.

    Returns the tagger, and the seconds that fitting took, also in processes before this one.

    ``features``: of the songs of each split, S×D, as ``computed_by`` computes them (default: the descriptors).

    Songs with an unknown target are left out, per tag. A tag that validation cannot judge (one class only, or all
    unknown) gets the settings that validation chose for most other tags, or their median, with a warning. A tag that
    training songs cannot teach (``data.unlearnt_tags``) gets the same score for every song (see ``constant_model``).
    """
    targets = {split: data.targets(split) for split in ("train", "validation")}
    judged = np.array([can_judge(tag.kind, targets["validation"][:, k]) for k, tag in enumerate(data.tags)])
    learnt = np.array([tag.name not in data.unlearnt_tags for tag in data.tags])
    if not (judged & learnt).any():
        raise MusictagError(
            "the validation songs cannot judge any tag that can be learnt (one class only, or all unknown), but a "
            "baseline chooses settings by them; move songs with and without the tags into that split"
        )
    if not (judged | ~learnt).all():
        names = [data.tags[k].name for k in np.flatnonzero(~judged & learnt)]
        warnings.warn(
            f"validation songs cannot judge {len(names)} of {len(data.tags)} tags (one class only, or all unknown): "
            f"{some(names)}. These get the settings that are typical of the others.",
            stacklevel=2,
        )
    fitter = None
    fitted: dict[int, dict[str, Any]] = {}
    with Progress("fitting", len(data.tags), "tags", "; finished tags are kept") as progress:
        for k in np.argsort(~judged, kind="stable").tolist():
            path, tag = run_dir / _FITTED_FOLDER / f"{k:04d}.json", data.tags[k]
            found = _read_fitted(path) if path.exists() else {}
            if (found.get("name"), found.get("kind")) != (tag.name, tag.kind):  # tags are lost with unreadable songs
                began = time.perf_counter()
                fitter = fitter or model.fitter(features["train"], features["validation"], seed)
                if learnt[k]:
                    choices = [fitted[j]["chosen"] for j in np.flatnonzero(judged & learnt)] if not judged[k] else []
                    chosen = model.typical(choices) if choices else None
                    found = fitter.fit(tag.kind, targets["train"][:, k], targets["validation"][:, k], chosen)
                else:
                    found = constant_model(targets["train"][:, k], features["train"].shape[1])
                seconds = time.perf_counter() - began
                write_json(path, {"name": tag.name, "kind": tag.kind, "seconds": seconds, **found})
            fitted[k] = _read_fitted(path)
            progress.show(len(fitted))
    seconds = sum(tag.pop("seconds", 0.0) for tag in fitted.values())  # also of the process that began
    tagger = FeatureTagger(model, spec, [fitted[k] for k in range(len(fitted))], computed_by)
    tagger.save(run_dir / MODEL_FILE)
    return tagger, seconds


def _read_fitted(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MusictagError(f"{path} is damaged ({error}): delete it and rerun the command") from error


def remove_fitted(run_dir: Path) -> None:
    """Remove the models of single tags, which are all in model.json."""
    shutil.rmtree(run_dir / _FITTED_FOLDER)
