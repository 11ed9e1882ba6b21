"""What a network computes of patches: stored once, within the error of float16, and never that of another network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from musictag.common.errors import MusictagError
from musictag.data.features.patch_features import (
    RELATIVE_ERROR,
    SMALLEST,
    patch_feature_folder,
    rounded,
    stored_patch_features,
)
from musictag.data.store.store import Store
from musictag.inference.embedding import BeforeHead, Embedder
from musictag.models.network import TaggingNetwork
from musictag.training.transfer import initialise_from, with_probe
from tests.helpers.catalogues import ready
from tests.helpers.embeddings import make_network, save


@pytest.fixture
def store(tiny_catalogue: Path) -> Store:
    """24 songs of 1 to 5 s."""
    return ready(tiny_catalogue).store


class Counting(Embedder):
    """Counts the songs that it computes, and stops before the one after ``last``."""

    def __init__(self, last: int = 1000, seed: int = 0) -> None:
        network = make_network()
        with torch.no_grad():
            network.frontend.get_parameter(next(iter(dict(network.frontend.named_parameters())))).add_(seed)
        super().__init__(network)
        self.songs, self.last = 0, last

    def embed_patches(self, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.songs == self.last:
            raise KeyboardInterrupt
        self.songs += 1
        return super().embed_patches(audio)


def test_a_song_has_the_features_of_its_consecutive_patches_once(store: Store) -> None:
    embedder, ids = Counting(), np.random.default_rng(0).permutation(store.song_ids)
    found = stored_patch_features(store, ids[:15], embedder)
    assert embedder.songs == 15 + 1  # one is computed again, to compare
    again = stored_patch_features(Store(store.folder), ids, embedder)
    assert embedder.songs == len(ids) + 2
    assert found.values.dtype == np.float16
    for number, song in enumerate(store.rows_of(ids).tolist()):
        wanted = embedder.embed_patches(store.read(song))[1]
        kept = again.values[again.first[number] : again.first[number + 1]]
        assert kept.shape == wanted.shape
        assert (np.abs(kept - wanted) <= RELATIVE_ERROR * np.abs(wanted) + SMALLEST).all()
        np.testing.assert_allclose(again.song_means()[number], kept.astype(np.float32).mean(0), rtol=1e-6, atol=1e-6)
    assert len(again.values) == again.first[-1]
    np.testing.assert_array_equal(again.values[: len(found.values)], found.values)
    train, rest = again.in_parts([10, 14])
    np.testing.assert_array_equal(np.concatenate([train.song_means(), rest.song_means()]), again.song_means())


def test_what_was_written_before_a_kill_is_kept(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt):
        stored_patch_features(store, store.song_ids, Counting(last=20))
    after = Counting()
    found = stored_patch_features(store, store.song_ids, after)
    assert after.songs == 8 + 1  # two blocks of 8 songs were written
    assert len(found.first) == len(store) + 1


def test_features_of_other_weights_have_a_place_of_their_own(store: Store) -> None:
    one, other = Counting(), Counting(seed=1)
    first = stored_patch_features(store, store.song_ids[:3], one)
    second = stored_patch_features(store, store.song_ids[:3], other)
    assert one.songs == other.songs == 4
    assert not np.array_equal(first.values, second.values)
    # whatever a folder is called, it is compared with what is computed
    for block in patch_feature_folder(store, other).glob("*.parquet"):
        block.replace(patch_feature_folder(store, one) / block.name)
    with pytest.raises(MusictagError, match=r"patch-features-\w+ holds other features than this network computes"):
        stored_patch_features(store, store.song_ids[:3], one)


def test_a_tagger_and_a_probe_on_it_have_the_same_features(store: Store) -> None:
    tagger, other = (Counting(seed=seed) for seed in (0, 1))
    spec = tagger.network.spec
    probe = TaggingNetwork(
        **spec | {"backend": with_probe(spec["backend"], {"hidden_units": [4]}), "tags": [{"name": "other"}]}
    )
    initialise_from(probe, save(store.folder / "tagger.safetensors", tagger.network))
    before = BeforeHead(probe.eval())
    assert BeforeHead(tagger.network).digest == before.digest == tagger.digest != other.digest
    found = [stored_patch_features(store, store.song_ids[:3], embedder).values for embedder in (before, tagger)]
    np.testing.assert_array_equal(*found)
    assert tagger.songs == 1  # to compare


def test_a_damaged_block_is_named(store: Store) -> None:
    embedder = Counting()
    stored_patch_features(store, store.song_ids, embedder)
    block = min(patch_feature_folder(store, embedder).glob("*.parquet"))
    content, column = bytearray(block.read_bytes()), pq.ParquetFile(block).metadata.row_group(0).column(1)
    content[(column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size // 2] ^= 1
    block.write_bytes(content)
    with pytest.raises(MusictagError, match=f"{block.name} is damaged: delete it"):
        stored_patch_features(store, store.song_ids, embedder)
    block.unlink()
    stored_patch_features(store, store.song_ids, embedder)


def test_float16_within_its_error_or_not_at_all() -> None:
    numbers = np.random.default_rng(0).normal(0, 1, 10_000).astype(np.float32) * 10.0 ** np.arange(-12, 4).repeat(625)
    assert (np.abs(rounded(numbers) - numbers) <= RELATIVE_ERROR * np.abs(numbers) + SMALLEST).all()
    for number in (70_000, np.inf, np.nan):
        with pytest.raises(MusictagError, match=r"cannot be stored in float16, .* use cached_features=false"):
            rounded(np.array([[1, number]], dtype=np.float32))
