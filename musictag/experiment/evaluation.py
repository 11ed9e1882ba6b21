"""Any tagger on the test songs of any data set: the metrics, intervals and files of a run, without training.

Legend: S songs, K tags that tagger and data set have in common, N samples.
"""

from __future__ import annotations

import csv
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from musictag.common.errors import MusictagError
from musictag.common.files import read_json, write_json
from musictag.common.progress import Progress
from musictag.data.audio.decode import resample, to_float, to_int16
from musictag.data.datasets import Source
from musictag.data.manifest import Manifest
from musictag.data.preparation.prepare import Prepared, prepare
from musictag.data.store.folder import prepared_folder
from musictag.data.store.store import Store
from musictag.evaluation.calibration import calibration_summary
from musictag.evaluation.plots import plot_tags
from musictag.evaluation.song_metrics import song_metrics
from musictag.experiment.builders import build_source, prepare_workers
from musictag.experiment.identity import check_keys
from musictag.experiment.results.files import (
    has_intervals,
    intervals,
    machine_and_code,
    read_predictions,
    read_results,
    write_predictions,
)
from musictag.experiment.robustness import CONDITIONS, write_robustness
from musictag.experiment.run_folder import lock_run
from musictag.inference.tagger import Tagger

_RATE = 16000  # of prepared audio, as in training
_TIMED_SONGS = 8
_MAX_BYTES = 2**25
_CLEAN = "as it is"


def evaluate(
    tagger: Tagger,
    name: str,
    digest: str,
    config: dict[str, Any],
    names: Mapping[str, str],
    folder: Path | None = None,
    robustness: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """Score the test songs of ``config["data"]``; returns the folder of the results and its ``metrics.json``.

    ``name``: of the system in reports; ``digest`` identifies the model; ``names`` maps the tagger's names of tags to
    the data set's, others are the same in both. With ``robustness`` also with each of CONDITIONS. A finished
    evaluation is not repeated, and an interrupted one keeps the conditions that it finished.

    Raises MusictagError for bad input, and for a tagger and a data set without common tags.
    """
    check_keys(config)
    source = build_source(config)
    manifest = source.manifest().split("test")
    if not len(manifest):
        raise MusictagError(f"{source.name} has no test songs; {source.advice_on_splits}")
    columns = common_tags(tagger, manifest, names)
    audio = {"audio": source.fingerprint(), "songs": manifest.digest(), "model": digest, "tags": columns}
    identity = hashlib.sha256(json.dumps(audio, sort_keys=True).encode()).hexdigest()[:8]
    folder = folder or Path(config["runs_dir"]) / source.name / f"evaluate-{name}-{identity}"
    found, begun = read_results(folder), folder / "config.json"
    if begun.exists() and _evaluated(begun) != identity:
        raise MusictagError(f"{folder} has the results of something else; choose another folder")
    if found is not None and has_intervals(found, config) and ("robustness" in found or not robustness):
        return folder, found
    robustness = robustness or bool(found and "robustness" in found)
    prepared = prepared_songs(source, manifest, config)
    manifest = prepared.manifest.with_tags([tag for tag in prepared.manifest.tags if tag.name in columns])
    chosen = [tagger.tag_names.index(columns[tag.name]) for tag in manifest.tags]
    songs = _TestSongs(tagger, prepared, manifest, chosen, config)
    folder.mkdir(parents=True, exist_ok=True)
    with lock_run(folder, folder / ".lock"):
        write_json(begun, songs.described_config(name) | {"evaluated": identity})
        test = songs.scored(folder)
        content = songs.described(name, source)
        content |= {"run": folder.name, "evaluated": identity, "tag_names": columns, "test": test}
        if "calibration" in tagger.facts:
            of_tags, scored = [tagger.calibration["tags"][k] for k in chosen], read_predictions(folder)
            kinds = scored.kinds.tolist()
            content["calibration"] = calibration_summary(of_tags, scored.scores, scored.targets, kinds)
        if robustness:
            content["robustness"] = {_CLEAN: test} | {
                condition: songs.scored(folder / condition, condition, change)
                for condition, change in CONDITIONS.items()
            }
            write_robustness(content["robustness"], folder)
        plot_tags(test, folder / "tags.png")
        write_json(folder / "metrics.json", content)
    return folder, content


def _evaluated(config: Path) -> str | None:
    """What identifies the evaluation that began with this config.json; None for any other file."""
    try:
        return read_json(config, _MAX_BYTES).get("evaluated")
    except (OSError, ValueError, AttributeError):
        return None


def prepared_songs(source: Source, manifest: Manifest, config: dict[str, Any]) -> Prepared:
    """The songs of ``manifest``, prepared as for training; errors as for ``prepare``."""
    return prepare(
        source,
        config["data_dir"],
        manifest=manifest,
        workers=prepare_workers(config),
        max_bad_fraction=config["data"]["max_bad_fraction"],
        sample_rate=_RATE,
    )


def songs_of_run(tagger: Tagger, run_dir: Path, number: int = 8) -> tuple[list[np.ndarray], str]:
    """Some songs of the data set that a run was trained on, int16 N at the rate of ``tagger``, and what they are;
    none if ``run_dir`` is not that of a run, or its prepared audio is not here."""
    try:
        config = read_json(run_dir / "config.json", _MAX_BYTES)
        source = build_source(config)
        store = Store(prepared_folder(source, config["data_dir"]))
        songs = [heard(tagger, store.read(row)) for row in np.linspace(0, len(store) - 1, number).astype(int)]
    except (OSError, ValueError, KeyError, TypeError, MusictagError):
        return [], ""
    return songs, f"{len(songs)} songs of {source.name}"


def heard(tagger: Tagger, audio: np.ndarray) -> np.ndarray:
    """A prepared song, int16 N, at the rate of ``tagger``; what a change has left of it may be silent."""
    return audio if tagger.sample_rate == _RATE else to_int16(resample(to_float(audio), _RATE, tagger.sample_rate))


def common_tags(tagger: Tagger, manifest: Manifest, names: Mapping[str, str]) -> dict[str, str]:
    """The tagger's name of each tag that both have, by the data set's name; ``names``: the other way round.

    Raises MusictagError if there is none, for names that neither has, two for one tag, and tags of different kinds.
    """
    kinds = {tag.name: tag.kind for tag in manifest.tags}
    for name, known, whose in (
        *((name, tagger.tag_names, "the tagger") for name in names),
        *((name, kinds, "the data set") for name in names.values()),
    ):
        if name not in known:
            raise MusictagError(f"{whose} has no tag {name!r}; its tags begin with {', '.join(list(known)[:8])}")
    found: dict[str, str] = {}
    for name, kind in zip(tagger.tag_names, tagger.tag_kinds, strict=True):
        other = names.get(name, name)
        if other not in kinds:
            continue
        if other in found:
            raise MusictagError(f"two tags of the tagger, {found[other]!r} and {name!r}, are the data set's {other!r}")
        if kinds[other] != kind:
            raise MusictagError(
                f"{name!r} is a {kind} tag of the tagger, {other!r} a {kinds[other]} tag of the data set"
            )
        found[other] = name
    if not found:
        raise MusictagError(
            f"tagger and data set have no tag in common ({', '.join(tagger.tag_names[:5])}, ...; "
            f"{', '.join(list(kinds)[:5])}, ...); --map FILE.csv with columns tagger and data says which are the same"
        )
    return found


def read_names(path: Path) -> dict[str, str]:
    """A table with the columns tagger and data: the same tag's names. Raises MusictagError for anything else."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise MusictagError(f"{path} cannot be read: {error}") from error
    if not rows or not all(row.get("tagger") and row.get("data") and None not in row for row in rows):
        raise MusictagError(f"{path} needs the columns tagger and data, and a name in both in every row")
    if len({row["tagger"] for row in rows}) < len(rows):
        raise MusictagError(f"{path} names a tag of the tagger twice")
    return {row["tagger"]: row["data"] for row in rows}


@dataclass(frozen=True)
class _TestSongs:
    """The songs of ``manifest`` for ``tagger``, whose tags ``chosen`` are those of the manifest."""

    tagger: Tagger
    prepared: Prepared
    manifest: Manifest
    chosen: list[int]
    config: dict[str, Any]

    def scored(
        self,
        folder: Path,
        what: str = _CLEAN,
        change: Callable[[np.ndarray, int], np.ndarray] = lambda song, rate: song,
    ) -> dict[str, Any]:
        """The metrics of the songs after ``change``; their predictions are in ``folder`` then, or were before."""
        names, kinds = zip(*((tag.name, tag.kind) for tag in self.manifest.tags), strict=True)
        if not (folder / "predictions.npz").exists():
            scores = np.empty((len(self.manifest), len(names)), dtype=np.float32)
            rows = self.prepared.store.rows_of(self.manifest.column("song_id"))
            with Progress(f"scoring, {what}", len(rows), when_stopped="; finished conditions are kept") as progress:
                for song, row in enumerate(rows.tolist()):
                    audio = heard(self.tagger, change(self.prepared.store.read(row), _RATE))
                    scores[song] = self.tagger.predict_song(audio)[self.chosen]
                    progress.show(song + 1)
            folder.mkdir(parents=True, exist_ok=True)
            ids, targets = self.manifest.song_ids, self.manifest.targets()
            write_predictions(folder / "predictions.npz", ids, names, kinds, scores, targets)
        found = read_predictions(folder)
        return song_metrics(found.scores, found.targets, names, kinds, **intervals(self.config))

    def speed(self) -> float:
        """Seconds of audio per second, by a few songs: all may have been scored before."""
        store = self.prepared.store
        chosen = np.linspace(0, len(self.manifest) - 1, _TIMED_SONGS).astype(int)
        songs = [store.read(row) for row in store.rows_of(self.manifest.column("song_id"))[chosen].tolist()]
        began = time.perf_counter()
        for song in songs:
            self.tagger.predict_song(heard(self.tagger, song))
        return sum(map(len, songs)) / _RATE / (time.perf_counter() - began)

    def described_config(self, name: str) -> dict[str, Any]:
        """The configuration as of a run of this ``name``."""
        names = self.config["names"] | {"model": name, "baseline": None}
        return self.config | {"names": names, "init_from": None}

    def described(self, name: str, source: Source) -> dict[str, Any]:
        """What metrics.json says beyond the scores, as of a run that trained nothing."""
        store, config, training = self.prepared.store, self.config, self.tagger.facts.get("training", {})
        samples = store.num_samples[store.rows_of(self.manifest.column("song_id"))].sum()
        speed = self.speed()
        unknown = ("frontend", "backend", "baseline", "parameters", "epochs", "best_epoch", "validation")
        return dict.fromkeys(unknown) | {
            "data": source.name,
            "locations": list(source.locations),
            "family": self.tagger.family,
            "input": f"{self.tagger.sample_rate:g} Hz",
            "trained_on": training,
            "seed": config["seed"],
            "study": config["study"],
            "songs": {"train": training.get("songs", 0), "validation": 0, "test": len(self.manifest)},
            "songs_unusable": len(self.prepared.problems),
            "tags_unlearnt": [],
            "speed": {
                "train_audio_seconds_per_second": None,
                "test_audio_seconds_per_second": speed,
            },
            "seconds": {"test": round(float(samples / _RATE) / speed, 3)},
            "device": "cpu",
            **machine_and_code(),
            "config": self.described_config(name),
        }
