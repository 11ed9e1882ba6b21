"""Runs whose tags cannot all be learned: songs that cannot be decoded, and parts of the training songs."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

import musictag
from musictag.common.errors import MusictagError
from musictag.data.catalogue.learnable import TagChoice
from musictag.data.random_draws import song_keys, subset_order
from musictag.experiment import network_run
from musictag.experiment import run as experiment
from tests.data.catalogue.test_learnable import names
from tests.helpers.catalogues import read_rows, ready, song_data, write_table
from tests.helpers.experiments import TINY, compose_config, folders


def spoil(catalogue: Path, tag: str, split: str = "train") -> int:
    """Make every song of ``split`` with the tag unreadable; returns how many."""
    rows = [row for row in read_rows(catalogue) if row["split"] == split and row[tag] == "1"]
    for row in rows:
        (catalogue.parent / row["path"]).write_bytes(b"no audio")
    return len(rows)


@pytest.fixture
def rare(tiny_catalogue: Path) -> Path:
    """The tiny catalogue with a tag that one training song has: the last one that growing subsets include."""
    rows = read_rows(tiny_catalogue)
    ids = [row["song_id"] for row in rows if row["split"] == "train"]
    last = ids[subset_order(song_keys(ids), 0)[-1]]
    for number, row in enumerate(rows):
        row["rare"] = int(row["song_id"] == last or (row["split"] != "train" and number % 2))
    return write_table(tiny_catalogue, rows)


def test_a_tag_whose_last_song_cannot_be_read_is_left_out_of_the_run(
    rare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert spoil(rare, "rare") == 1
    monkeypatch.setattr(network_run, "choose_precision", lambda *_: ("32-true", "it is faster"))
    overrides = [*TINY, *folders(tmp_path), "data=catalogue", f"data.path={rare}", "seed=3", "trainer.precision=auto"]
    metrics = experiment.run(compose_config(*overrides))
    said = capsys.readouterr().err
    assert "1 songs cannot be used" in said
    assert "problems.csv says why); 11 train, 5 validation, 7 test songs are left" in said
    assert "1 of 4 tags are left out because they cannot be learned from the 11 training songs" in said
    assert [tag["name"] for tag in metrics["test"]["tags"]] == ["high", "noisy", "brightness"]
    folder = experiment.results_folder(compose_config(*overrides))
    assert [tag["name"] for tag in musictag.load(folder / "tagger.safetensors").tags] == ["high", "noisy", "brightness"]
    # the weights are those of a run on the tags that are left
    chosen = [*overrides, "data.tags=[high,noisy,brightness]"]
    assert experiment.run(compose_config(*chosen))["test"] == metrics["test"]
    # interrupted, it resumes
    (folder / "metrics.json").unlink()
    assert experiment.run(compose_config(*overrides))["test"] == metrics["test"]
    assert "Precision 32-true: as before" in capsys.readouterr().out


def test_a_requested_tag_that_cannot_be_read_is_an_error(rare: Path) -> None:
    spoil(rare, "rare")
    data = song_data(rare)
    data.source.tag_choice = TagChoice(["high", "rare"])
    data.prepare_data()
    with pytest.raises(MusictagError, match=r"data\.tags asks for tags.*11 training songs.*rare \(no positive song\)"):
        data.setup()


# a part of the training songs


def train_subset(rare: Path, size: int) -> tuple[list[str], list[str]]:
    """Names of all tags and of the unlearned ones, with ``size`` training songs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = ready(rare, train_songs=size)
    values = data.targets("train")
    expected = [tag.name for k, tag in enumerate(data.tags) if len(set(values[:, k]) - {np.nan}) < 2 and k != 2]
    assert list(data.unlearnt_tags) == expected
    return names(data.manifest), expected


def test_subsets_of_the_training_songs_keep_all_tags(rare: Path) -> None:
    found = [train_subset(rare, size) for size in (3, 5, 8, 12)]
    assert all(tags == ["high", "noisy", "brightness", "rare"] for tags, _ in found)
    assert "rare" in found[0][1]
    assert found[-1][1] == []
    for (_, smaller), (_, larger) in itertools.pairwise(found):
        assert set(larger) <= set(smaller)


def test_unlearned_tags_are_reported_once(rare: Path) -> None:
    data = song_data(rare, train_songs=5)
    data.prepare_data()
    with pytest.warns(
        UserWarning, match=r"tags cannot be learned from the 5 training songs: rare \(no positive song\)"
    ):
        data.setup("fit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.setup("test")


@pytest.mark.parametrize(
    "model", ["network", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gbt", "logistic"))]
)
def test_every_model_trains_on_songs_that_lack_a_tag_and_is_scored_on_it(
    model: str, rare: Path, tmp_path: Path
) -> None:
    own = [] if model == "network" else [f"baseline={model}"]
    own += ["baseline.min_child_samples=2"] if model == "gbt" else []
    overrides = [*TINY, *folders(tmp_path), "data=catalogue", f"data.path={rare}", "data.train_songs=5", *own]
    config = compose_config(*overrides)
    metrics = experiment.run(config)
    folder = experiment.results_folder(config)
    assert json.loads((folder / "metrics.json").read_text())["tags_unlearnt"] == ["rare"]
    tag = metrics["test"]["tags"][3]
    assert (tag["name"], tag["positives"] > 0) == ("rare", True)
    assert "rare" not in metrics["test"]["tags_left_out"]
    with np.load(folder / "predictions.npz") as predictions:
        scores = predictions["scores"][:, 3]
    assert np.isfinite(scores).all()
    if model == "network":
        assert (scores < 0.6).all()
        return
    # a prior of a song with it and one without, and five songs without it
    np.testing.assert_allclose(scores, 1 / 7)
    assert (tag["roc_auc"], tag["pr_auc"]) == (0.5, pytest.approx(tag["prevalence"]))
    tagger = musictag.load(folder)
    song = rare.parent / read_rows(rare)[-1]["path"]
    assert tagger.tag(song)["rare"] == pytest.approx(1 / 7)
    assert metrics["parameters"] in (None, 3 * (metrics["features"] + 1))


def test_a_damaged_constant_is_refused(rare: Path, tmp_path: Path) -> None:
    config = compose_config(*TINY, *folders(tmp_path), "data=catalogue", f"data.path={rare}", "data.train_songs=5",
                            "baseline=logistic")  # fmt: skip
    experiment.run(config)
    path = experiment.results_folder(config) / "model.json"
    content = json.loads(path.read_text())
    for constant in ("0.5", None, 2, [0.5]):
        content["tags"][3]["constant"] = constant
        path.write_text(json.dumps(content))
        with pytest.raises(MusictagError, match="constant score of a tag is damaged"):
            musictag.load(path)


def test_values_without_any_known_get_the_midpoint(tiny_catalogue: Path) -> None:
    from musictag.models.baselines import constant_model, constant_predictor

    for values, expected in (([np.nan] * 4, 0.5), ([1.0] * 4, 5 / 6), ([0.0, np.nan], 1 / 3)):
        model = constant_model(np.array(values, dtype=np.float32), 3)
        assert model["importances"] == [0, 0, 0]
        np.testing.assert_allclose(constant_predictor(model)(np.zeros((2, 3))), expected)
