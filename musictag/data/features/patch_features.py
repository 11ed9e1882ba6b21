"""What a trained network computes of the consecutive patches of prepared songs: computed once and kept beside them.

    <prepared folder>/patch-features-<digest>/    one folder for each network, layer and patch length

Blocks of songs, as of the features in cache.py: identified by the audio, written atomically, resumable.
Legend: S songs, P patches of all songs together, H features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from musictag.common.errors import MusictagError
from musictag.data.features.cache import Block, block_files, completed, known_songs, read_block, save_block
from musictag.data.store.store import Store

#: float16 has 11 bits: a number is off by this share of it at most, or by SMALLEST where it is close to 0.
RELATIVE_ERROR, SMALLEST = 2.0**-11, 2.0**-25
#: What stored and computed features may differ by, as a share of a song's largest: other devices round otherwise.
_TOLERANCE = 0.01


class PatchEmbedder(Protocol):
    """Computes features; ``digest`` identifies the computation and its weights, ``about`` describes it in words."""

    digest: str
    about: Mapping[str, Any]

    def embed_patches(self, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A song, int16 N -> the start of its consecutive patches in seconds, and their features, float32."""


class PatchFeatures(NamedTuple):
    """``values``: float16 P×H. Song s has the rows ``first[s]`` to ``first[s + 1]``: int64 S+1."""

    values: np.ndarray
    first: np.ndarray

    def in_parts(self, sizes: Sequence[int]) -> list[PatchFeatures]:
        """The same of so many songs each, one part after the other; the values are shared."""
        ends = np.cumsum(sizes).tolist()
        return [PatchFeatures(self.values, self.first[begin : end + 1]) for begin, end in pairwise([0, *ends])]

    def song_means(self) -> np.ndarray:
        """The mean over the patches of each song, float32 S×H."""
        begin, end = self.first[0], self.first[-1]
        sums = np.add.reduceat(self.values[begin:end], self.first[:-1] - begin, axis=0, dtype=np.float32)
        return sums / np.diff(self.first)[:, None].astype(np.float32)


def rounded(features: np.ndarray) -> np.ndarray:
    """``features`` as they are stored: float16. Raises MusictagError for numbers that it cannot hold."""
    with np.errstate(over="ignore"):
        stored = features.astype(np.float16)
    if not np.isfinite(stored).all():
        raise MusictagError(
            f"features up to {np.abs(features).max():.3g} cannot be stored in float16, whose largest number is 65,504; "
            "use cached_features=false, or another layer"
        )
    return stored


def patch_feature_folder(store: Store, embedder: PatchEmbedder) -> Path:
    """The folder of these features."""
    return store.folder / f"patch-features-{embedder.digest[:16]}"


def stored_patch_features(store: Store, song_ids: np.ndarray | pa.Array, embedder: PatchEmbedder) -> PatchFeatures:
    """Features of the consecutive patches of these songs, in their order; missing ones are computed and kept.

    All of them are held in memory, two bytes per number. The features of one song are computed in any case, and
    compared with the stored ones. Raises MusictagError for a damaged block, for features that ``embedder`` does not
    compute, and if the folder cannot be written to.
    """
    folder = patch_feature_folder(store, embedder)

    def write(blocks: list[Block]) -> Iterator[int]:
        for rows, entries in blocks:
            found = [rounded(embedder.embed_patches(store.read(row))[1]) for row in rows.tolist()]
            save_block(folder, entries, pa.array([features.tobytes() for features in found], pa.binary()))
            yield len(rows)

    about = {"what": "features of patches, computed by musictag", "digest": embedder.digest, **embedder.about}
    entries = completed(store, folder, song_ids, about, write)
    first_song = embedder.embed_patches(store.read(int(store.rows_of(song_ids[:1])[0])))[1]
    found = _collect(folder, entries, first_song.shape[1])
    kept = found.values[: found.first[1]]
    if kept.shape != first_song.shape or not np.abs(kept - first_song).max() <= _TOLERANCE * np.abs(first_song).max():
        raise MusictagError(
            f"{folder} holds other features than this network computes: of an earlier version of its code, or of other "
            "weights. Delete the folder and rerun the command, which computes them again"
        )
    return found


def _collect(folder: Path, entries: pa.Array, size: int) -> PatchFeatures:
    blocks = block_files(folder)
    texts = pa.chunked_array([read_block(path, "features") for path in blocks], pa.binary())
    texts = texts.take(pc.index_in(entries, known_songs(folder, blocks)))
    lengths = pc.binary_length(texts).to_numpy() // (2 * size)
    values = np.frombuffer(b"".join(text.as_buffer() for text in texts), dtype=np.float16)
    if values.size % size:
        raise MusictagError(f"{folder} holds features of another size: delete it and rerun the command")
    return PatchFeatures(values.reshape(-1, size), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
