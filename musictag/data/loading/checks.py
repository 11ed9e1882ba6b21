"""Checks whether songs can be trained on and scored, before any time is spent on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pytorch_lightning.utilities import rank_zero_warn

from musictag.common.errors import MusictagError
from musictag.data.catalogue.copies import about_copies, across_splits
from musictag.data.catalogue.learnable import lacking_tags, listed_tags
from musictag.data.manifest import Manifest


def check_splits(splits: dict[str, Manifest], where: str, advice: str) -> None:
    """Raises MusictagError if a split has no songs; ``where`` describes the songs, ``advice`` says what to do."""
    if empty := [split for split, songs in splits.items() if not len(songs)]:
        counts = ", ".join(f"{split}: {len(songs)}" for split, songs in splits.items())
        raise MusictagError(
            f"no {where} song is in {' and '.join(empty)} ({counts}); training, validation and test need songs each: "
            f"{advice}"
        )


def check_learnable(songs: Manifest) -> dict[str, str]:
    """The tags that cannot be learned from these training songs, as happens with a small subset, and why. Raises
    MusictagError if that is true of all tags."""
    lacking = lacking_tags(songs)
    if len(lacking) == len(songs.tags):
        raise MusictagError(
            f"no tag can be learned from {len(songs):,} training song{'s' if len(songs) > 1 else ''}: "
            f"{listed_tags(lacking)}. Use more songs (data.train_songs)"
        )
    return lacking


def unlearnt_tags(songs: Manifest) -> dict[str, str]:
    """Like ``check_learnable``, with a warning that names the tags."""
    if lacking := check_learnable(songs):
        rank_zero_warn(
            f"{len(lacking)} of {len(songs.tags)} tags cannot be learned from the {len(songs):,} training songs: "
            f"{listed_tags(lacking)}. The model keeps an output for each, so that it can be compared with models "
            "trained on more songs; their scores count, and metrics.json lists them (tags_unlearnt)"
        )
    return lacking


def overlap_of_splits(manifest: Manifest, firsts: np.ndarray) -> dict[str, int | None]:
    """How many recordings (``copies``) and groups of songs (``artists``, or works; None: no song has one) are in more
    than one split."""
    groups = manifest.column("group")
    return {
        "copies": len(across_splits(manifest, firsts)),
        "artists": None if groups.null_count == len(groups) else len(manifest.leaked_groups()),
    }


def warn_of_evaluation(manifest: Manifest, splits: dict[str, Manifest], firsts: np.ndarray, duplicates: Path) -> None:
    """Warn of tags that cannot be scored, and of groups and recordings that make validation or test scores too high.

    ``firsts`` (int64 S) says which songs are copies of each other, and the file ``duplicates`` lists them.
    """
    for split in ("validation", "test"):
        if lacking := lacking_tags(splits[split]):
            rank_zero_warn(
                f"tags that cannot be scored on the {split} split (left out of its means): {listed_tags(lacking)}"
            )
    if leaked := manifest.leaked_groups():
        rank_zero_warn(
            f"{len(leaked)} groups (artists or works) are in more than one split, such as {', '.join(leaked[:3])}: "
            "scores will be higher than on music by others"
        )
    across, _ = about_copies(manifest, firsts)
    if across:
        rank_zero_warn(f"{across}. Scores will be higher than on other music; for the full list see {duplicates}")
