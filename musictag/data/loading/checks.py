"""Whether songs can be trained on and scored: said before any time is spent on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pytorch_lightning.utilities import rank_zero_warn

from musictag.common.errors import MusictagError
from musictag.data.catalogue.copies import about_copies
from musictag.data.catalogue.learnable import lacking_tags, listed_tags
from musictag.data.manifest import Manifest


def check_splits(splits: dict[str, Manifest], where: str, advice: str) -> None:
    """Raises MusictagError where a split has no songs; ``where`` says of which kind, ``advice`` what to do."""
    if empty := [split for split, songs in splits.items() if not len(songs)]:
        counts = ", ".join(f"{split}: {len(songs)}" for split, songs in splits.items())
        raise MusictagError(
            f"no {where} song is in {' and '.join(empty)} ({counts}); training, validation and test need songs each: "
            f"{advice}"
        )


def check_learnable(songs: Manifest) -> dict[str, str]:
    """The tags that cannot be learnt from these training songs, as happens with a small part of a data set, and why.
    Raises MusictagError where that is true of all tags."""
    lacking = lacking_tags(songs)
    if len(lacking) == len(songs.tags):
        raise MusictagError(
            f"no tag can be learnt from {len(songs):,} training song{'s' if len(songs) > 1 else ''}: "
            f"{listed_tags(lacking)}. Take more songs (data.train_songs)"
        )
    return lacking


def unlearnt_tags(songs: Manifest) -> dict[str, str]:
    """The same, and a warning names them."""
    if lacking := check_learnable(songs):
        rank_zero_warn(
            f"{len(lacking)} of {len(songs.tags)} tags cannot be learnt from the {len(songs):,} training songs: "
            f"{listed_tags(lacking)}. The model keeps an output for each, so that it can be compared with models "
            "trained on more songs; their scores count, and metrics.json lists them (tags_unlearnt)"
        )
    return lacking


def warn_of_evaluation(manifest: Manifest, splits: dict[str, Manifest], firsts: np.ndarray, duplicates: Path) -> None:
    """Warns of tags that validation or test cannot score, and of groups and recordings that make their scores too good.

    ``firsts`` (int64 S) says which songs are copies of each other, the file ``duplicates`` lists them.
    """
    for split in ("validation", "test"):
        if lacking := lacking_tags(splits[split]):
            rank_zero_warn(
                f"the split {split} cannot score these tags, which are left out of its means: {listed_tags(lacking)}"
            )
    if leaked := manifest.leaked_groups():
        rank_zero_warn(
            f"{len(leaked)} groups (artists or works) stand in more than one split, such as {', '.join(leaked[:3])}: "
            "scores come out better than on music of others"
        )
    across, _ = about_copies(manifest, firsts)
    if across:
        rank_zero_warn(f"{across}. Scores come out better than on other music; the whole list: {duplicates}")
