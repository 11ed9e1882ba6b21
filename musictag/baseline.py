"""The baseline: features of whole songs and a model of each tag, over the same songs, scores and files as the networks.

    model.json        all models, and the names of tags and features; ``musictag.load`` reads it
    importances.csv   how much each feature counts for each tag         importances.png   those that count most
    tags/             models that are finished, while others are not: an interrupted run goes on after them

The other files are those of every run (musictag/experiment.py). Legend: S songs, N samples, K tags, D features.
"""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from musictag.audio import to_float
from musictag.build import build
from musictag.data.datamodule import SongData
from musictag.data.progress import Progress
from musictag.data.sources import Source
from musictag.errors import MusictagError
from musictag.evaluation.registry import METRICS
from musictag.feature_models import FeatureModel, can_judge, constant_model
from musictag.feature_store import stored_features
from musictag.features import SAMPLE_RATE, feature_names, song_features
from musictag.files import write_json
from musictag.identity import prepare_workers
from musictag.inference.feature_tagger import FeatureTagger
from musictag.metrics import song_metrics
from musictag.published import MODEL_FILE
from musictag.training.losses import BCE

_FITTED_FOLDER = "tags"
_SPLITS = ("train", "validation", "test")
#: Songs whose features are computed again to see how long that takes.
_TIMED_SONGS = 16


def check_baseline(config: Mapping[str, Any]) -> None:
    """Raise MusictagError for settings that mean something for networks only, and that a baseline would not heed."""
    given = {
        "init_from": config["init_from"] is not None,
        "freeze": config["freeze"] is not None,
        "probe": "probe" in config,
        "evaluation.mode=whole": config["evaluation"]["mode"] == "whole",
    }
    if meaningless := [name for name, is_given in given.items() if is_given]:
        raise MusictagError(
            f"{' and '.join(meaningless)} with baseline={config['names']['baseline']}: a baseline has no network, and "
            "its features are those of whole songs; leave out the one or the other"
        )


def build_baseline(config: Mapping[str, Any]) -> FeatureModel:
    """The model that ``config["baseline"]`` describes; raises MusictagError for settings that it does not have."""
    return build(config["baseline"], FeatureModel)


def baseline_data(config: Mapping[str, Any], source: Source) -> SongData:
    """The songs of ``source`` as the networks get them; nothing is read yet."""
    rate = getattr(source, "sample_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        raise MusictagError(f"data.sample_rate={rate}, but features are defined at {SAMPLE_RATE} Hz; leave it at that")
    return SongData(
        source,
        config["data_dir"],
        patch_seconds=1.0,  # nobody draws any
        sample_rate=SAMPLE_RATE,
        train_songs=config["data"]["train_songs"],
        seed=config["seed"],
        num_workers=0,
        prepare_workers=prepare_workers(config),
        max_bad_fraction=config["data"]["max_bad_fraction"],
    )


def baseline_features(data: SongData, workers: int) -> dict[str, np.ndarray]:
    """Features of the songs of each split, float32 S×D."""
    ids = [data.song_ids(split) for split in _SPLITS]
    features = stored_features(data.store, np.concatenate(ids), workers)
    return dict(zip(_SPLITS, np.split(features, np.cumsum([len(songs) for songs in ids])[:-1]), strict=True))


def fit_tagger(
    model: FeatureModel,
    spec: Mapping[str, Any],
    data: SongData,
    features: Mapping[str, np.ndarray],
    seed: int,
    run_dir: Path,
) -> FeatureTagger:
    """Fits the model of every tag and saves them all in ``run_dir``; those that are in its folder ``tags`` are taken.

    Songs whose target is unknown are left out, tag by tag. A tag that validation cannot judge (one class only, or all
    unknown) gets what validation chose for most others, or the median of it; a warning names it. One that the training
    songs cannot teach (``data.unlearnt_tags``) gets the same score for every song (see ``constant_model``).
    """
    targets = {split: data.targets(split) for split in ("train", "validation")}
    judged = np.array([can_judge(tag.kind, targets["validation"][:, k]) for k, tag in enumerate(data.tags)])
    learnt = np.array([tag.name not in data.unlearnt_tags for tag in data.tags])
    if not (judged & learnt).any():
        raise MusictagError(
            "the validation songs cannot judge any tag that can be learnt (one class only, or all unknown), and a "
            "baseline chooses by it; move songs with and without the tags into that split"
        )
    if not (judged | ~learnt).all():
        names = [data.tags[k].name for k in np.flatnonzero(~judged & learnt)]
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        warnings.warn(
            f"validation songs cannot judge {len(names)} of {len(data.tags)} tags (one class only, or all unknown): "
            f"{shown}. These get what is typical of what validation chose for the others.",
            stacklevel=2,
        )
    fitter = None
    fitted: dict[int, dict[str, Any]] = {}
    with Progress("fitting", len(data.tags), "tags", "; finished tags are kept") as progress:
        for k in np.argsort(~judged, kind="stable").tolist():
            path, tag = run_dir / _FITTED_FOLDER / f"{k:04d}.json", data.tags[k]
            if not path.exists():
                fitter = fitter or model.fitter(features["train"], features["validation"], seed)
                if learnt[k]:
                    choices = [fitted[j]["chosen"] for j in np.flatnonzero(judged & learnt)] if not judged[k] else []
                    chosen = model.typical(choices) if choices else None
                    found = fitter.fit(tag.kind, targets["train"][:, k], targets["validation"][:, k], chosen)
                else:
                    found = constant_model(targets["train"][:, k], features["train"].shape[1])
                write_json(path, {"name": tag.name, "kind": tag.kind, **found})
            fitted[k] = _read_fitted(path)
            progress.show(len(fitted))
    tagger = FeatureTagger(model, spec, [fitted[k] for k in range(len(fitted))])
    tagger.save(run_dir / MODEL_FILE)
    return tagger


def _read_fitted(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MusictagError(f"{path} is damaged ({error}): delete it and type the same command again") from error


def remove_fitted(run_dir: Path) -> None:
    """Removes the finished models of single tags: they are all in model.json."""
    shutil.rmtree(run_dir / _FITTED_FOLDER)


def baseline_facts(
    tagger: FeatureTagger, data: SongData, features: Mapping[str, np.ndarray], seconds: Mapping[str, float]
) -> dict[str, Any]:
    """What metrics.json tells of a baseline, beyond the scores: validation, sizes, speed, seconds of the stages.

    Tagging speed is that of features and prediction together, on one core, measured on a few test songs.
    """
    validation = tagger.scores(features["validation"])
    targets = data.targets("validation")
    kinds = [tag["kind"] for tag in tagger.tags]
    scores = song_metrics(validation, targets, tagger.tag_names, kinds, resamples=0)
    loss = BCE().of_probabilities(torch.from_numpy(validation), torch.from_numpy(targets))
    metrics = {f"val_{key}": scores[key] and scores[key]["value"] for key in METRICS}
    sizes = tagger.model.sizes([tag for tag in tagger.fitted if "constant" not in tag])
    audio_seconds = data.audio_seconds("test")
    predicting = seconds["test"] / audio_seconds
    return {
        "validation": {"val_loss": float(loss), **metrics},
        "epochs": None,
        "best_epoch": None,
        "features": len(feature_names()),
        **sizes,
        "parameters_trained": sizes["parameters"],
        "speed": {
            "train_audio_seconds_per_second": data.audio_seconds("train") / max(seconds["train"], 1e-9),
            "test_audio_seconds_per_second": 1 / (_feature_seconds(data) + predicting),
        },
        "seconds": {name: round(value, 3) for name, value in seconds.items()} | {"epochs": None},
    }


def _feature_seconds(data: SongData) -> float:
    """How long the features of a second of audio take."""
    chosen = np.linspace(0, len(data.song_ids("test")) - 1, _TIMED_SONGS).astype(int).tolist()
    songs = [to_float(data.audio("test", song)) for song in chosen]
    song_features(songs[0])  # what is loaded and computed once
    began = time.perf_counter()
    for song in songs:
        song_features(song)
    return (time.perf_counter() - began) * SAMPLE_RATE / sum(map(len, songs))
