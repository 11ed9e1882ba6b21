"""Whether songs can be trained on and scored: said before any time is spent on it."""

from __future__ import annotations

import numpy as np
from pytorch_lightning.utilities import rank_zero_warn

from musictag.data.manifest import Manifest
from musictag.data.tables import ONLY_ONES
from musictag.errors import MusictagError


def check_splits(splits: dict[str, Manifest], where: str) -> None:
    """Raises MusictagError where a split has no songs; ``where`` says of which kind."""
    if empty := [split for split, songs in splits.items() if not len(songs)]:
        counts = ", ".join(f"{split}: {len(songs)}" for split, songs in splits.items())
        raise MusictagError(
            f"no {where} song is in {' and '.join(empty)} ({counts}); training, validation and test need songs each: "
            "assign some to it in the column split, or where the split was made ask for larger data.split_fractions"
        )


def _lacking(songs: Manifest) -> dict[str, str]:
    """Tags from which nothing can be learned, or that cannot be scored, and why."""
    lacking = {}
    for tag in songs.tags:
        values = songs.values(tag.name)
        known = values[~np.isnan(values)]
        if tag.kind == "regression":
            if not len(known):
                lacking[tag.name] = "no known value"
        elif not (known == 1).any():
            lacking[tag.name] = "no positive song"
        elif not (known == 0).any():
            lacking[tag.name] = "no negative song"
    return lacking


def check_training_tags(songs: Manifest) -> None:
    """Raises MusictagError for tags that cannot be learned from the training songs."""
    if lacking := _lacking(songs):
        only_ones = any(why == "no negative song" and songs.column(tag).null_count for tag, why in lacking.items())
        hint = f". These are {ONLY_ONES}" if only_ones else ""
        raise MusictagError(
            f"these tags cannot be learned from the {len(songs)} songs of the split train: "
            + ", ".join(f"{tag} ({why})" for tag, why in lacking.items())
            + ". Train on more songs (train_songs), or leave these tags out of the data set (tags)"
            + hint
        )


def warn_of_evaluation(manifest: Manifest, splits: dict[str, Manifest]) -> None:
    """Warns of tags that validation or test cannot score, and of groups that make their scores too good."""
    for split in ("validation", "test"):
        if lacking := _lacking(splits[split]):
            listed = ", ".join(f"{tag} ({why})" for tag, why in lacking.items())
            rank_zero_warn(f"the split {split} cannot score these tags, which are left out of its means: {listed}")
    if leaked := manifest.leaked_groups():
        rank_zero_warn(
            f"{len(leaked)} groups (artists or works) stand in more than one split, such as {', '.join(leaked[:3])}: "
            "scores come out better than on music of others"
        )
