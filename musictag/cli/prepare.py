"""`musictag prepare`: decode a data set now instead of when training first needs it, and verify prepared audio.

The overrides are those of train.py, so that training with the same overrides finds what was prepared.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from musictag.common.errors import MusictagError

if TYPE_CHECKING:
    import numpy as np

    from musictag.data.datasets import Source
    from musictag.data.preparation.prepare import Prepared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag prepare`."""
    parser.description = (
        "Decode the songs of a data set once, in parallel, as the first training with the same overrides "
        "would: musictag prepare catalogue.csv, musictag prepare data=jamendo data.root=FOLDER. If interrupted, rerun "
        "the command to continue."
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="CATALOGUE | KEY=VALUE",
        help="a table, or data=... and its keys as for train.py",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="also check prepared audio, repair what is damaged, and try again what could not be used",
    )
    parser.set_defaults(kept="; rerun the command to continue")


def run(arguments: argparse.Namespace) -> int:
    """Prepare the data set; returns the exit status. Errors: see ``prepare``."""
    prepare(arguments.overrides, arguments.verify)
    return 0


def prepare(overrides: Sequence[str], verify: bool = False) -> None:
    """Prepare the songs that training with these overrides needs, and print a summary.

    ``overrides`` may begin with the path of a catalogue. Audio that is already prepared is kept.

    ``verify`` also reads every shard completely, deletes those that are damaged, and prepares their songs again, as it
    does songs that could not be used before; it removes shards that no song needs any more.

    Raises MusictagError for bad input, as ``prepare_data``, for damaged shards of songs whose files are gone, which are
    kept, and for shards that are damaged again after the repair.
    """
    from musictag.data.preparation.prepare import tidy
    from musictag.data.store.folder import prepared_folder
    from musictag.experiment.builders import build_data, build_source
    from musictag.experiment.compose import configuration
    from musictag.experiment.identity import check_keys

    config = configuration(overrides)
    check_keys(config)
    source = build_source(config)
    if verify:
        tidy(prepared_folder(source, config["data_dir"]))
    prepared = build_data(config, source).prepare_data()
    if verify and (damaged := _damaged(prepared)):
        prepared = _repaired(damaged, source, prepared, lambda: build_data(config, source).prepare_data())
    print(summary(prepared))
    if verify:
        print("every shard is intact")


def _repaired(
    damaged: dict[Path, np.ndarray], source: Source, prepared: Prepared, prepare_again: Callable[[], Prepared]
) -> Prepared:
    """``prepared`` with intact shards instead of the ``damaged`` ones."""
    from musictag.common.progress import say

    lost = {path: gone for path, songs in damaged.items() if (gone := _without_file(source, prepared, songs))}
    if repaired := [path for path in damaged if path not in lost]:
        listed = "\n  ".join(map(str, repaired))
        say(f"{len(repaired)} damaged shards were deleted; preparing their songs again:\n  {listed}")
        for path in repaired:
            path.unlink(missing_ok=True)
        prepared = prepare_again()
        if again := set(_damaged(prepared)) - set(lost):
            raise MusictagError(
                f"{len(again)} shards in {prepared.store.folder} are damaged although they were just written: "
                "this machine's disk or memory is failing. Choose another disk with data_dir=..."
            )
    if lost:
        songs, listed = [song for songs in lost.values() for song in songs], "\n  ".join(map(str, lost))
        raise MusictagError(
            f"{len(lost)} damaged shards were kept, because the files of {len(songs)} of their songs are gone, such as "
            f"{', '.join(songs[:3])}: put them back and repeat the command. To do without the songs of these shards "
            f"whose files are gone, delete:\n  {listed}"
        )
    return prepared


def summary(prepared: Prepared) -> str:
    """Where the audio is stored, how much it is, and what could not be used, in a few lines."""
    from musictag.common.text import readable_size
    from musictag.data.catalogue.copies import DUPLICATES_FILE, about_copies
    from musictag.data.preparation.blocks import PROBLEMS_FILE
    from musictag.data.store.store import SHARD_FOLDER

    store, manifest = prepared.store, prepared.manifest
    samples = int(store.num_samples[store.rows_of(manifest.song_ids)].sum())
    with os.scandir(store.folder / SHARD_FOLDER) as entries:
        on_disk = sum(entry.stat().st_size for entry in entries if entry.name.endswith(".npy"))
    lines = [
        f"{len(manifest):,} songs, {_readable_length(samples / store.sample_rate)}, in {store.folder} "
        f"({readable_size(on_disk)} on disk)"
    ]
    told = []
    if prepared.problems:
        told.append(f"{len(prepared.problems):,} songs cannot be used")
    if prepared.notes:
        told.append(f"{len(prepared.notes):,} are used although parts of their files could not be read")
    if told:
        lines.append(f"{', '.join(told)}; for details see {store.folder / PROBLEMS_FILE}")
    if copies := list(filter(None, about_copies(manifest, prepared.firsts))):
        lines += [*copies[:-1], f"{copies[-1]}; for the full list see {store.folder / DUPLICATES_FILE}"]
    return "\n".join(lines)


def _readable_length(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def _without_file(source: Source, prepared: Prepared, song_ids: np.ndarray) -> list[str]:
    """Paths of those of the songs whose files are gone."""
    if not hasattr(source, "versions"):
        return []
    manifest = prepared.manifest
    wanted = set(song_ids)
    songs = manifest.select([row for row, song in enumerate(manifest.song_ids) if song in wanted])
    return [path for path, version in zip(songs.paths.tolist(), source.versions(songs), strict=True) if version is None]


def _damaged(prepared: Prepared) -> dict[Path, np.ndarray]:
    """Damaged shards with songs of the manifest, and the identifiers of these; others are no longer needed."""
    from musictag.common.progress import Progress

    store = prepared.store
    shards = store.shards_of(store.rows_of(prepared.manifest.column("song_id")))
    with Progress("verifying", len(shards), "shards") as progress:
        return store.damaged_shards(shards, progress.show)
