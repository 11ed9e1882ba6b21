"""What a data set contains: songs, hours, how frequent the tags are in each split, and which occur together.

Legend: S songs, K tags, L classification tags.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from musictag.data.datasets import Source
from musictag.data.manifest import SPLITS, Manifest
from musictag.data.store.folder import prepared_folder
from musictag.data.store.store import INDEX_FILE, read_index

#: The rows of the printed tables: the splits, and all songs.
PARTS = (*SPLITS, "all")
_ROWS_AT_ONCE = 100_000
_FEWEST_TOGETHER = 2


@dataclass(frozen=True)
class TagShares:
    """How frequent a tag is among the songs for which it is known, by part (``PARTS``; NaN if known for none).

    ``mean`` is the prevalence of a classification tag and the mean of a regression tag; ``deviation`` is the standard
    deviation. ``unknown`` is the share of all songs.
    """

    name: str
    kind: str
    unknown: float
    mean: dict[str, float]
    deviation: dict[str, float]


@dataclass(frozen=True)
class Together:
    """Which classification tags occur together. All are float64 L×L and count only songs for which both are known.

    ``songs`` have both tags; ``expected`` is how many would if the tags were independent; ``jaccard``
    is the share of ``songs`` among those with at least one of the two.
    """

    tags: tuple[str, ...]
    songs: np.ndarray
    expected: np.ndarray
    jaccard: np.ndarray

    def strongest(self, most: int = 10) -> list[tuple[str, str, int, float, float]]:
        """Pairs more frequent than by chance, highest Jaccard index first: tags, songs, Jaccard, lift."""
        more = (self.songs > self.expected) & (self.songs >= _FEWEST_TOGETHER)
        first, second = np.nonzero(np.triu(more, k=1))
        best = np.argsort(-self.jaccard[first, second], kind="stable")[:most]
        return [
            (
                self.tags[i],
                self.tags[j],
                int(self.songs[i, j]),
                self.jaccard[i, j],
                self.songs[i, j] / self.expected[i, j],
            )
            for i, j in zip(first[best], second[best], strict=True)
        ]


@dataclass(frozen=True)
class Description:
    """Everything that is printed and drawn; dictionaries are by part (``PARTS``).

    ``hours`` counts songs of known length, ``unknown_length`` the others. ``tags_per_song`` holds the number of
    classification tags of each song. ``shared_groups`` occur in more than one split; ``exposed`` are validation and
    test songs whose group has training songs.
    """

    name: str
    songs: dict[str, int]
    hours: dict[str, float]
    unknown_length: int
    groups: dict[str, int]
    songs_without_group: int
    shared_groups: list[str]
    exposed: dict[str, int]
    tags: list[TagShares]
    tags_per_song: np.ndarray
    together: Together


def describe(manifest: Manifest, seconds: np.ndarray) -> Description:
    """Describe the songs of ``manifest``. ``seconds`` (float S) are their lengths, NaN if unknown."""
    codes = pc.index_in(manifest.column("split"), pa.array(SPLITS)).to_numpy()
    rows = {part: codes == number for number, part in enumerate(SPLITS)} | {"all": np.ones(len(codes), dtype=bool)}
    groups = manifest.column("group").dictionary_encode()
    group_of_song = pc.fill_null(groups.indices, -1).to_numpy()
    values, shares = _shares(manifest, rows)
    tags_per_song = np.zeros(len(manifest), dtype=np.int16)
    for first in range(0, len(manifest), _ROWS_AT_ONCE):
        tags_per_song[first : first + _ROWS_AT_ONCE] = (values[:, first : first + _ROWS_AT_ONCE] == 1).sum(axis=0)
    trained = np.unique(group_of_song[rows["train"] & (group_of_song >= 0)])
    return Description(
        name=manifest.name,
        songs={part: int(there.sum()) for part, there in rows.items()},
        hours={part: float(np.nansum(seconds[there])) / 3600 for part, there in rows.items()},
        unknown_length=int(np.isnan(seconds).sum()),
        groups={part: len(np.unique(group_of_song[there & (group_of_song >= 0)])) for part, there in rows.items()},
        songs_without_group=int((group_of_song < 0).sum()),
        shared_groups=manifest.leaked_groups(),
        exposed={split: int(np.isin(group_of_song[rows[split]], trained).sum()) for split in SPLITS[1:]},
        tags=shares,
        tags_per_song=tags_per_song,
        together=_together(tuple(tag.name for tag in manifest.tags if tag.kind == "classification"), values),
    )


def song_seconds(source: Source, manifest: Manifest, data_dir: str | Path) -> tuple[np.ndarray, str]:
    """The length of every song, as far as it is used (float64 S, NaN if unknown), and its source: prepared audio takes
    precedence over the column ``duration``."""
    longest = getattr(source, "max_seconds", None)
    seconds = np.minimum(manifest.values("duration").astype(np.float64), np.inf if longest is None else longest)
    folder = prepared_folder(source, data_dir)
    if not (folder / INDEX_FILE).exists():
        nowhere = np.isnan(seconds).all()
        return (
            seconds,
            f"{'no lengths in the table' if nowhere else 'lengths from the table'}, and no prepared audio yet",
        )
    index = read_index(folder)
    row = pc.index_in(manifest.column("song_id"), index["song_id"].combine_chunks())
    samples = index["samples"].combine_chunks().take(row).cast(pa.float64()).to_numpy(zero_copy_only=False)
    unusable = pc.is_valid(index["reason"].combine_chunks().take(row)).to_numpy(zero_copy_only=False)
    prepared = ~np.isnan(samples) & ~unusable
    rate = int(index.schema.metadata[b"musictag.sample_rate"])
    left = f", {int(unusable.sum()):,} cannot be used" if unusable.any() else ""
    where = f"lengths of {int(prepared.sum()):,} songs from the prepared audio in {folder}{left}"
    return np.where(prepared, samples / rate, seconds), where


def _shares(manifest: Manifest, rows: dict[str, np.ndarray]) -> tuple[np.ndarray, list[TagShares]]:
    """The values of the classification tags (int8 L×S: 0, 1, -1 unknown), and the statistics of every tag."""
    classes = [tag for tag in manifest.tags if tag.kind == "classification"]
    binary = np.empty((len(classes), len(manifest)), dtype=np.int8)
    shares = []
    for tag in manifest.tags:
        values = manifest.values(tag.name)
        known = ~np.isnan(values)
        if tag.kind == "classification":
            binary[classes.index(tag)] = np.where(known, values, -1)
        parts = {part: values[there & known].astype(np.float64) for part, there in rows.items()}
        shares.append(
            TagShares(
                tag.name,
                tag.kind,
                unknown=1 - float(known.mean()),
                mean={part: float(some.mean()) if len(some) else np.nan for part, some in parts.items()},
                deviation={part: float(some.std()) if len(some) else np.nan for part, some in parts.items()},
            )
        )
    return binary, shares


def _together(tags: tuple[str, ...], values: np.ndarray) -> Together:
    both, known, first = (np.zeros((len(tags), len(tags))) for _ in range(3))
    for start in range(0, values.shape[1], _ROWS_AT_ONCE):
        some = values[:, start : start + _ROWS_AT_ONCE]
        # integers up to 2^24 are exact in float32
        positive, is_known = (some == 1).astype(np.float32), (some >= 0).astype(np.float32)
        both += positive @ positive.T
        known += is_known @ is_known.T
        first += positive @ is_known.T
    either = first + first.T - both
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = np.nan_to_num(first * first.T / known)
        jaccard = np.nan_to_num(both / either)
    return Together(tags, both, expected, jaccard)
