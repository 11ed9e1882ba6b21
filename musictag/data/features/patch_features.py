"""What a trained network computes of the consecutive patches of prepared songs: computed once and kept beside them.

    <prepared folder>/patch-features-<digest>/    one folder for each network, layer and patch length

Blocks of songs, as of the features in cache.py: identified by the audio, written atomically, resumable.
Legend: S songs, P patches of all songs together, H features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from musictag.common.errors import MusictagError
from musictag.data.features.cache import completed
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
    """``values``: float16 P×H. Song s has the rows ``first[s]`` to ``first[s + 1]``: int64 S+1.

    ``num_samples`` and ``patches`` are those of a Store in which a song has its consecutive patches for samples.
    """

    values: np.ndarray
    first: np.ndarray

    @property
    def num_samples(self) -> np.ndarray:
        return np.diff(self.first)

    def patches(self, rows: np.ndarray, starts: np.ndarray, patch_samples: int, *_: object) -> np.ndarray:
        """float16 B×H; the last patch, which ends with the song, counts as a whole one."""
        return self.values[self.first[rows] + -(-starts // patch_samples)]

    def nearest(self, rows: np.ndarray, middles: np.ndarray, patch_samples: int) -> np.ndarray:
        """float16 B×H: the features of the patches of ``patch_samples`` in which these samples of the songs are."""
        return self.values[np.minimum(self.first[rows] + middles // patch_samples, self.first[rows + 1] - 1)]

    def in_parts(self, sizes: Sequence[int]) -> list[PatchFeatures]:
        """The same of so many songs each, one part after the other; the values are shared."""
        ends = np.cumsum(sizes).tolist()
        return [PatchFeatures(self.values, self.first[begin : end + 1]) for begin, end in pairwise([0, *ends])]

    def song_means(self) -> np.ndarray:
        """The mean over the patches of each song, float32 S×H."""
        begin, end = self.first[0], self.first[-1]
        sums = np.add.reduceat(self.values[begin:end], self.first[:-1] - begin, axis=0, dtype=np.float32)
        return sums / self.num_samples[:, None].astype(np.float32)


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
    compared with the stored ones. Raises MusictagError as ``completed`` does, and for features that ``embedder`` does
    not compute.
    """
    folder = patch_feature_folder(store, embedder)

    def computed(row: int) -> np.ndarray:
        return embedder.embed_patches(store.read(row))[1]

    def block(_: Store, rows: np.ndarray) -> pa.Array:
        return pa.array([rounded(computed(row)).tobytes() for row in rows.tolist()])

    about = {"what": "features of patches, computed by musictag", "digest": embedder.digest, **embedder.about}
    songs = completed(store, folder, song_ids, about, block)
    wanted = computed(int(store.rows_of(song_ids[:1])[0]))
    bytes_per_patch = 2 * wanted.shape[1]
    lengths = pc.binary_length(songs).to_numpy()
    first = np.concatenate([[0], np.cumsum(lengths // bytes_per_patch, dtype=np.int64)])
    kept = np.frombuffer(songs[0].as_buffer(), dtype=np.float16)
    if (
        (lengths % bytes_per_patch).any()
        or kept.size != wanted.size
        or not np.abs(kept - wanted.ravel()).max() <= _TOLERANCE * np.abs(wanted).max()
    ):
        raise MusictagError(
            f"{folder} holds other features than this network computes: of an earlier version of its code, or of other "
            "weights. Delete the folder and rerun the command, which computes them again"
        )
    values = np.frombuffer(b"".join(song.as_buffer() for song in songs), dtype=np.float16)
    return PatchFeatures(values.reshape(-1, wanted.shape[1]), first)
