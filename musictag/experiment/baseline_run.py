"""The run of a baseline: features, one model per tag, test."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from musictag.common.errors import MusictagError
from musictag.common.files import write_json
from musictag.data.datasets import Source
from musictag.data.features.descriptors import SAMPLE_RATE
from musictag.data.loading.datamodule import SongDataModule
from musictag.evaluation.metrics import METRICS
from musictag.evaluation.song_metrics import song_metrics
from musictag.experiment.builders import prepare_workers, songs_to_train
from musictag.experiment.contract import SCORES, Run
from musictag.experiment.identity import without
from musictag.experiment.results.files import PACKAGES, write_scores
from musictag.experiment.results.importances import IMPORTANCE_COLUMNS, write_importances
from musictag.experiment.results.networks import computing_seconds
from musictag.experiment.run_folder import clean_up
from musictag.experiment.tracking.tracker import make_tracker
from musictag.inference.feature_tagger import FeatureTagger
from musictag.inference.song_features import Descriptors, NetworkFeatures, SongFeatures, features_digest, network_file
from musictag.models.baselines import FeatureModel
from musictag.models.factory import build
from musictag.models.pretrained import MODEL_FILE
from musictag.training.baseline import fit_tagger, remove_fitted
from musictag.training.finetune import NO_FINETUNING
from musictag.training.losses import BCE
from musictag.training.signals import SignalHandler

#: The configuration of a baseline: it has no network, and takes whole songs.
BASELINE_KEYS = (
    "baseline", "data", "evaluation", "seed", "seeds", "study", "label", "names", "logger", "runs_dir", "data_dir",
    "tuning",
)  # fmt: skip
#: Of these, the keys that only networks read.
NETWORK_KEYS = (
    "data.patch_seconds", "data.num_workers", "data.batch_size", "data.patches_per_song",
    "data.patches_per_epoch", "data.sampler", "data.unlabelled", "data.unlabelled_share", "evaluation.mode",
    "evaluation.batch_size", "evaluation.compare_choices", "seeds.initialisation",
)  # fmt: skip
#: Keys of ``baseline`` that choose its features; the others are settings of its models.
FEATURE_KEYS = ("features", "layer")
_SPLITS = ("train", "validation", "test")


class BaselineRun(Run):
    """Features of whole songs, one model per tag, test."""

    files: ClassVar = {
        "metrics.json": SCORES,
        MODEL_FILE: "the tagger",
        "predictions.npz": "test songs, scores, targets",
        "tags.png": "test scores per tag",
        "importances.csv": "how much each feature counts for each tag",
        "importances.png": "the features that count most",
    }
    model_file = MODEL_FILE
    single_process = True
    max_epochs = None

    def __init__(self, config: dict[str, Any]) -> None:
        self._given = config
        read = without({key: config[key] for key in BASELINE_KEYS if key in config}, NETWORK_KEYS)
        super().__init__(read | {"names": read["names"] | dict.fromkeys(("frontend", "backend", "probe"))})

    def check(self) -> None:
        """Raise MusictagError for settings that a baseline would ignore, although they mean something for networks."""
        config = self._given
        given = {
            "init_from": config["init_from"] is not None,
            "freeze": config["freeze"] is not None,
            "finetune": config["finetune"] != NO_FINETUNING,
            "probe": "probe" in config,
            "teacher": config["teacher"] is not None,
            "data.unlabelled": config["data"]["unlabelled"] is not None,
            "evaluation.mode=whole": config["evaluation"]["mode"] == "whole",
        }
        if meaningless := [name for name, is_given in given.items() if is_given]:
            raise MusictagError(
                f"{' and '.join(meaningless)} with baseline={config['names']['baseline']}: a baseline has no network, "
                "and its features are those of whole songs; omit one of them"
            )
        model, layer = feature_settings(config)
        if model is not None:
            network_file(model)
        elif layer is not None:
            raise MusictagError(f"baseline.layer={layer} is a layer of a network; use baseline.features=... as well")

    @property
    def name_parts(self) -> list[str]:
        return [self.config["names"]["baseline"]]

    def patches_to_train(self) -> None:
        return None

    def digests(self) -> dict[str, str]:
        return {"features": features_digest(feature_settings(self.config)[0])}

    def describe(self, metrics: Mapping[str, Any]) -> tuple[str, str, str]:
        if metrics["parameters"] is None:
            size = f"{metrics['trees']:,} trees with {metrics['leaves']:,} leaves"
        else:
            size = f"{metrics['parameters']:,} parameters"
        speed = metrics["speed"]["test_audio_seconds_per_second"]
        return (
            f"features and {metrics['baseline']}",
            f"{metrics['input']}, {size}",
            f"features and scores of {speed:,.0f} seconds of audio per second",
        )

    def execute(self, source: Source, run_dir: Path, signal_handler: SignalHandler) -> dict[str, Any]:
        config = self.config
        began = time.perf_counter()
        clean_up(run_dir)
        settings = without(config["baseline"], FEATURE_KEYS)
        baseline = build(settings, FeatureModel)
        computed_by = song_features(config)
        data = baseline_data(config, source, computed_by.sample_rate)
        data.prepare_data()
        data.setup()
        prepared = time.perf_counter()

        run_dir.mkdir(parents=True, exist_ok=True)
        write_json(run_dir / "config.json", config)
        tracker = make_tracker(config, run_dir)
        tracker.start()
        try:
            features = baseline_features(data, computed_by, prepare_workers(config))
            computed = time.perf_counter()
            seed = config["seeds"]["order"]
            tagger, fitting = fit_tagger(baseline, settings, data, features, seed, run_dir, computed_by)
            fitted = time.perf_counter()
            scores = tagger.scores(features["test"])
            seconds = {"prepare": prepared - began, "features": computed - prepared, "train": fitting}
            seconds["test"] = time.perf_counter() - fitted
            rows = write_importances(tagger, run_dir)
            metrics = write_scores(
                run_dir,
                config=config,
                data=data,
                scores=scores,
                validation_scores=tagger.scores(features["validation"]),
                own=baseline_facts(tagger, data, features, seconds) | {"input": _input(config, tagger)},
                device="cpu",
                packages=(*PACKAGES, "librosa", "lightgbm", "scikit-learn", "scipy"),
                on_scored=partial(_add_scores, run_dir / MODEL_FILE, tagger),
            )
            remove_fitted(run_dir)
        except BaseException:
            tracker.close(exit_code=1)
            raise
        tracker.log_table("importances", IMPORTANCE_COLUMNS, rows)
        tracker.finish(metrics, data, scores)
        return metrics


def feature_settings(config: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The network whose features a baseline uses (None: it uses the descriptors), and its layer."""
    return config["baseline"].get("features"), config["baseline"].get("layer")


def song_features(config: Mapping[str, Any]) -> SongFeatures:
    """What computes the features of a baseline, on a GPU if there is one."""
    model, layer = feature_settings(config)
    if model is None:
        return Descriptors()
    return NetworkFeatures(model, layer, "cuda" if torch.cuda.is_available() else "cpu")


def _input(config: Mapping[str, Any], tagger: FeatureTagger) -> str:
    model = feature_settings(config)[0]
    return f"{len(tagger.features.names)} features" + (f" of {Path(model).name}" if model else "")


def _add_scores(path: Path, tagger: FeatureTagger, facts: dict[str, Any]) -> None:
    """Add the scores on the test songs, the calibration and what it was trained on to the file of the tagger."""
    tagger.facts |= facts
    tagger.save(path)


def baseline_data(config: Mapping[str, Any], source: Source, sample_rate: float = SAMPLE_RATE) -> SongDataModule:
    """The same data module that networks get; nothing is read yet. Raises MusictagError for another sample rate."""
    rate = getattr(source, "sample_rate", sample_rate)
    if rate != sample_rate:
        raise MusictagError(f"data.sample_rate={rate}, but features are defined at {sample_rate} Hz; use that rate")
    # no patches are drawn
    return songs_to_train(config, source, patch_seconds=1.0, sample_rate=int(sample_rate), num_workers=0)


def baseline_features(data: SongDataModule, computed_by: SongFeatures, workers: int) -> dict[str, np.ndarray]:
    """Features of the songs of each split, float32 S×D."""
    ids = [data.song_ids(split) for split in _SPLITS]
    features = computed_by.stored(data.store, np.concatenate(ids), workers)
    return dict(zip(_SPLITS, np.split(features, np.cumsum([len(songs) for songs in ids])[:-1]), strict=True))


def baseline_facts(
    tagger: FeatureTagger, data: SongDataModule, features: Mapping[str, np.ndarray], seconds: Mapping[str, float]
) -> dict[str, Any]:
    """What metrics.json says of a baseline, beyond the scores: validation, sizes, speed, seconds of the stages.

    The speed of tagging is that of features and prediction together, on one core, measured on a few test songs, and the
    time of training is that of the features of the training songs, at this speed, and of the fit.
    """
    validation = tagger.scores(features["validation"])
    targets = data.targets("validation")
    kinds = [tag["kind"] for tag in tagger.tags]
    scores = song_metrics(validation, targets, tagger.tag_names, kinds, resamples=0)
    loss = BCE().of_probabilities(torch.from_numpy(validation), torch.from_numpy(targets))
    metrics = {f"val_{key}": scores[key] and scores[key]["value"] for key in METRICS}
    sizes = tagger.model.sizes([tag for tag in tagger.fitted if "constant" not in tag])
    audio_seconds = data.audio_seconds("test")
    predicting, computing = seconds["test"] / audio_seconds, computing_seconds(data, tagger.features.of)
    return {
        "family": "baseline",
        "validation": {"val_loss": float(loss), **metrics},
        "epochs": None,
        "best_epoch": None,
        "features": len(tagger.features.names),
        **sizes,
        "parameters_trained": sizes["parameters"],
        "speed": {
            "train_audio_seconds_per_second": data.audio_seconds("train") / max(seconds["train"], 1e-9),
            "test_audio_seconds_per_second": 1 / (computing + predicting),
        },
        "convergence": None,
        "compute": {
            "train_flop": None,
            # features take most of it, whether they were stored already or not
            "train_seconds": round(seconds["train"] + computing * data.audio_seconds("train"), 3),
            "steps": None,
            "patches": None,
        },
        "seconds": {name: round(value, 3) for name, value in seconds.items()} | {"epochs": None},
    }
