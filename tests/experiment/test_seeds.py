"""Subset, initialisation and order are varied each by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from musictag.common.errors import MusictagError
from musictag.experiment import run as experiment
from musictag.experiment.builders import build_data, build_source
from tests.helpers.experiments import SMALL_TREES, TINY, compose_config, folders, run


@pytest.fixture
def words(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return ["data=catalogue", f"data.path={tiny_catalogue}", "data.train_songs=8", *folders(tmp_path)]


def drawn(*words: str) -> tuple[list[str], list[bytes]]:
    """The training songs, and the patches of an epoch in their order."""
    config = compose_config(*words)
    data = build_data(config, build_source(config))
    data.prepare_data()
    data.setup()
    return data.song_ids("train").tolist(), [bytes(b["audio"].numpy()) for b in data.train_dataloader()]


def test_the_subset_and_the_order_have_a_seed_each(words: list[str]) -> None:
    songs, patches = drawn(*words, *TINY)
    assert drawn(*words, *TINY, "seeds.initialisation=1") == (songs, patches)
    same, others = drawn(*words, *TINY, "seeds.order=1")
    assert (same, others != patches) == (songs, True)
    assert drawn(*words, *TINY, "seeds.subset=1")[0] != songs
    both = drawn(*words, *TINY, "seed=1")
    assert both[0] == drawn(*words, *TINY, "seeds.subset=1")[0]
    assert both == drawn(*words, *TINY, "seeds.subset=1", "seeds.order=1")


def test_a_network_begins_with_the_weights_of_its_initialisation(words: list[str]) -> None:
    def scores(*more: str) -> np.ndarray:
        untrained = ["init_from=null", "optimizer.lr=1e-12", "trainer.max_epochs=1", "backend.norm_momentum=0.0"]
        folder, _ = run(*words, *TINY, *untrained, "frontend.norm_momentum=0.0", *more)
        with np.load(folder / "predictions.npz") as found:
            return found["scores"]

    plain = scores()
    np.testing.assert_allclose(scores("seeds.order=1"), plain, atol=1e-6)
    np.testing.assert_allclose(scores("seeds.subset=1"), plain, atol=1e-6)
    assert np.abs(scores("seeds.initialisation=1") - plain).max() > 1e-3


def folder(*words: str) -> str:
    return experiment.results_folder(compose_config(*words)).name


def test_the_identity_has_what_varies(words: list[str]) -> None:
    network = [*words, *TINY]
    varied = [folder(*network, f"seeds.{name}=1") for name in ("subset", "initialisation", "order")]
    assert len({folder(*network), folder(*network, "seed=1"), *varied}) == 5
    # the seed itself is only the default of these
    equal = [f"seeds.{name}=1" for name in ("subset", "initialisation", "order")]
    assert folder(*network, *equal) == folder(*network, "seed=1") == folder(*network, "seed=7", *equal)
    # trees and linear models have no weights to begin with
    trees = [*words, *SMALL_TREES]
    assert folder(*trees, "seeds.initialisation=1") == folder(*trees)
    assert folder(*trees, "seeds.subset=1") != folder(*trees) != folder(*trees, "seeds.order=1")


@pytest.mark.parametrize("wrong", ["seeds.order=-1", "seeds.subset=1.5", "seed=x", "seeds.initialisation=4294967296"])
def test_seeds_that_cannot_be_are_refused(words: list[str], wrong: str) -> None:
    with pytest.raises(MusictagError, match=r"seeds\.\w+=.* must be a whole number from 0 to 4,294,967,295"):
        experiment.run(compose_config(*words, *TINY, wrong))
    with pytest.raises(MusictagError, match="seeds has no key music"):
        experiment.run(compose_config(*words, *TINY, "+seeds.music=1"))
