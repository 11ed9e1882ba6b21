"""Test songs to listen to: their selection, what each system predicts, and short MP3 excerpts.

Legend: S songs, K tags, N samples.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from musictag.common.errors import MusictagError
from musictag.data.store.folder import prepared_folder
from musictag.data.store.store import INDEX_FILE, Store
from musictag.evaluation.weighting import label_ranking_precision
from musictag.experiment.builders import build_source
from musictag.experiment.results.files import Predictions
from musictag.report.statistics.paired_tests import matching
from musictag.report.statistics.resampling import aligned
from musictag.report.study import Run, Study
from musictag.report.wording import setting

EXCERPT_SECONDS = 10.0
#: Number of tags in a system's column.
TOP_TAGS = 8
#: Level of LAME's variable bit rate in libsndfile. For 16 kHz songs of the songbook it gives 24 kbit/s at full
#: bandwidth; a constant 24 kbit/s loses everything above 6 kHz, and 32 kbit/s is a third larger.
_COMPRESSION_LEVEL = 0.8


@dataclass(frozen=True)
class ChosenSong:
    """``row``: index among the test songs. ``why``: the reason for the reader."""

    row: int
    song_id: str
    why: str


def choose_songs(study: Study, count: int) -> list[ChosenSong]:
    """Half of ``count`` spread evenly over the test set, half where the systems differ most (``start_condition``).

    Two systems differ in a song by their average precisions over the song's tags; each system wins in about the same
    number of chosen songs. With one system all songs are spread. The same study always gives the same songs.
    """
    shown = _shown_runs(study, start_condition(study))
    ids = study.runs[0].predictions.song_ids
    count = min(count, len(ids))
    differing = _differing(study, shown, count // 2) if len(shown) > 1 else []
    taken = {song.row for song in differing}
    rest = [row for row in range(len(ids)) if row not in taken]
    places = np.linspace(0, len(rest) - 1, count - len(differing)).round().astype(int)
    spread = [
        ChosenSong(rest[place], str(ids[rest[place]]), "one of the songs spread evenly over the test set")
        for place in places
    ]
    return differing + spread


def song_data(study: Study, songs: Sequence[ChosenSong], sounds: dict[str, bytes]) -> dict[str, Any]:
    """The data of the page's song browser as plain values, read by ``page.js``.

    Scores are those of each cell's first seed; ``top`` are the highest-scoring classification tags, ``missed`` the true
    tags that are not among them, with their rank.
    """
    first = study.runs[0].predictions
    is_class = first.kinds == "classification"
    numbers = [int(k) for k in np.flatnonzero(~is_class)]
    conditions = study.full_conditions
    shown = [_shown_runs(study, condition) for condition in conditions]
    found = {run.folder: aligned(run, study.runs[0]) for runs in shown for run in runs.values()}
    entries = []
    for song in songs:
        truth = first.targets[song.row]
        entries.append(
            {
                "id": song.song_id,
                "why": song.why,
                "audio": _data_uri(sounds[song.song_id]) if song.song_id in sounds else None,
                "true": [int(k) for k in np.flatnonzero(is_class & (truth == 1))],
                "unknown": [int(k) for k in np.flatnonzero(is_class & np.isnan(truth))],
                "numbers": [_known(truth[k]) for k in numbers],
                "systems": [
                    [
                        _answer(found[runs[system].folder], song.row, is_class) if system in runs else None
                        for system in study.systems
                    ]
                    for runs in shown
                ],
            }
        )
    return {
        "tags": [str(tag) for tag in first.tags],
        "numbers": numbers,
        "systems": study.systems,
        "conditions": [setting(study.factors, condition) for condition in conditions],
        "start": conditions.index(start_condition(study)),
        "songs": entries,
    }


def excerpts(
    study: Study, songs: Sequence[ChosenSong], seconds: float = EXCERPT_SECONDS
) -> tuple[dict[str, bytes], str]:
    """The middle ``seconds`` of each song as MP3, by song_id, from audio that the runs have prepared.

    If there is none, the dict is empty and the text says why; otherwise the text is empty.
    """
    if "MP3" not in soundfile.available_formats():
        return {}, "the installed libsndfile cannot write MP3; version 1.1 or newer can"
    reasons = []
    for place in _data_folders(study.runs[-1]):
        try:
            return _read_excerpts(study.runs[-1], place, songs, seconds), ""
        except (MusictagError, OSError) as error:
            reasons.append(str(error))
    return {}, "; ".join(reasons)


def _differing(study: Study, shown: dict[str, Run], count: int) -> list[ChosenSong]:
    precisions = {}
    for system, run in shown.items():
        found = aligned(run, study.runs[0])
        ranked = found.kinds == "classification"
        precisions[system] = label_ranking_precision(found.scores[:, ranked], found.targets[:, ranked])
    systems = list(precisions)
    values = np.stack(list(precisions.values()))
    scored = np.flatnonzero(~np.isnan(values).any(axis=0))
    gaps = values.max(axis=0) - values.min(axis=0)
    ranked = [int(row) for row in scored[np.argsort(-gaps[scored], kind="stable")] if gaps[row] > 0]
    winners = values.argmax(axis=0)
    queues = [[row for row in ranked if winners[row] == i] for i in range(len(systems))]
    chosen: list[ChosenSong] = []
    while len(chosen) < count and any(queues):
        for queue in queues:
            if queue and len(chosen) < count:
                row = queue.pop(0)
                better, worse = systems[int(values[:, row].argmax())], systems[int(values[:, row].argmin())]
                why = (
                    f"the systems differ: average precision {values[:, row].max():.2f} of {better}, "
                    f"{values[:, row].min():.2f} of {worse}"
                )
                chosen.append(ChosenSong(row, str(study.runs[0].predictions.song_ids[row]), why))
    return chosen


def start_condition(study: Study) -> tuple[Any, ...]:
    """The last condition with the largest number of systems."""
    conditions = study.full_conditions
    return max(conditions, key=lambda condition: (len(_shown_runs(study, condition)), conditions.index(condition)))


def _shown_runs(study: Study, condition: tuple[Any, ...]) -> dict[str, Run]:
    """The first seed of every system under ``condition``."""
    return {system: runs[0] for system in study.systems if (runs := matching(study, system, condition))}


def _answer(found: Predictions, row: int, is_class: np.ndarray) -> dict[str, Any]:
    scores = found.scores[row]
    ranked = [int(k) for k in np.argsort(-scores, kind="stable") if is_class[k]]
    true = {int(k) for k in np.flatnonzero(found.targets[row] == 1)}
    return {
        "top": [[k, round(float(scores[k]), 3)] for k in ranked[:TOP_TAGS]],
        "missed": [[k, place] for place, k in enumerate(ranked, start=1) if place > TOP_TAGS and k in true],
        "numbers": [round(float(scores[k]), 3) for k in np.flatnonzero(~is_class)],
    }


def _data_folders(run: Run) -> list[Path]:
    """Where the run's data_dir may be: relative to its working directory (inferred from its folder), or here."""
    here = Path(run.config["data_dir"])
    runs_dir = Path(run.config["runs_dir"])
    parents = run.folder.resolve().parents
    depth = len(runs_dir.parts) + 1  # runs_dir/<data>/<run>
    if here.is_absolute() or runs_dir.is_absolute() or len(parents) <= depth:
        return [here]
    return [parents[depth] / here, here]


def _read_excerpts(run: Run, data_dir: Path, songs: Sequence[ChosenSong], seconds: float) -> dict[str, bytes]:
    folder = prepared_folder(build_source(run.config | {"data_dir": str(data_dir)}), data_dir)
    if not (folder / INDEX_FILE).exists():
        raise MusictagError(f"there is no prepared audio in {folder}")
    store = Store(folder)
    sounds = {}
    for song, row in zip(songs, store.rows_of(np.array([song.song_id for song in songs], dtype=str)), strict=True):
        available = int(store.num_samples[row])
        length = min(available, round(seconds * store.sample_rate))
        sounds[song.song_id] = _mp3(store.read(int(row), (available - length) // 2, length), store.sample_rate)
    return sounds


def _mp3(samples: np.ndarray, sample_rate: int) -> bytes:
    """Encodes mono int16 samples (N) as MP3."""
    with io.BytesIO() as stream:
        with soundfile.SoundFile(
            stream, "w", sample_rate, 1, "MPEG_LAYER_III", format="MP3",
            compression_level=_COMPRESSION_LEVEL, bitrate_mode="VARIABLE",
        ) as file:  # fmt: skip
            file.write(samples)
        return stream.getvalue()


def _data_uri(mp3: bytes) -> str:
    return f"data:audio/mpeg;base64,{base64.b64encode(mp3).decode('ascii')}"


def _known(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 3)
