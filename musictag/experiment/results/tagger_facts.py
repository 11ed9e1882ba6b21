"""What a run writes into the file of its tagger, for its users: test scores, calibration, what it was trained on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from musictag.data.loading.datamodule import SongDataModule
from musictag.data.random_draws import song_keys, subset_order
from musictag.evaluation.calibration import calibrate
from musictag.inference.familiarity import fit_familiarity, sound

#: Validation songs, and seconds of each, that show what is familiar: with more it would take minutes.
_SONGS, _SECONDS = 1000, 60


def tagger_facts(data: SongDataModule, metrics: dict[str, Any], validation_scores: np.ndarray) -> dict[str, Any]:
    """``test`` and ``test_intervals`` by metric, ``calibration`` (see ``Tagger.confident``), and ``training``: name,
    number and fingerprint of the training songs. ``metrics``: of the test songs; ``validation_scores``: float32 S×K."""
    scored = {name: entry for name, entry in metrics.items() if isinstance(entry, dict) and "value" in entry}
    songs = data.manifest.split("train")
    prepared = json.dumps(data.source.fingerprint(), sort_keys=True)
    return {
        "test": {name: entry["value"] for name, entry in scored.items()},
        "test_intervals": {name: [entry["low"], entry["high"]] for name, entry in scored.items()},
        "calibration": {
            "tags": calibrate(validation_scores, data.targets("validation"), [tag.kind for tag in data.tags]),
            "familiarity": _familiarity(data),
        },
        "training": {
            "data": data.source.name,
            "songs": len(songs),
            "fingerprint": hashlib.sha256((prepared + songs.digest()).encode()).hexdigest()[:32],
        },
    }


def _familiarity(data: SongDataModule) -> dict[str, Any] | None:
    longest = int(_SECONDS * data.sample_rate)
    chosen = subset_order(song_keys(data.song_ids("validation")), 0)[:_SONGS]
    audio = (data.audio("validation", song) for song in chosen.tolist())
    middles = (song[max(0, (len(song) - longest) // 2) :][:longest] for song in audio)
    return fit_familiarity([sound(song, data.sample_rate) for song in middles])
