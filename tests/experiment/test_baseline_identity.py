"""What makes two runs of a baseline the same, which files are its models, and its importances."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import musictag
from musictag import cli
from musictag.common.errors import MusictagError
from musictag.data.audio.decode import to_float
from musictag.data.features.descriptors import feature_names, song_features
from musictag.data.manifest import Manifest
from musictag.experiment import identity
from musictag.experiment import run as experiment
from musictag.experiment.baseline_run import FEATURE_KEYS
from musictag.experiment.results.importances import importance_rows, plot_importances
from musictag.inference import song_features as song_features_module
from musictag.inference.feature_tagger import FeatureTagger
from musictag.models.baselines import FeatureModel
from musictag.models.baselines.linear import Linear
from musictag.models.factory import find_class, settings
from tests.helpers.experiments import ROOT, compose_config


class FixedSongs:
    """A source whose identity never changes."""

    name = "fixed"
    locations: tuple[str, ...] = ()

    def fingerprint(self) -> dict[str, int]:
        return {"fixed": 1}

    def learnable_manifest(self) -> Manifest:
        class Fixed:
            def digest(self) -> str:
                return "songs"

            def labelled(self) -> Fixed:
                return self

        return Fixed()


def test_runs_of_networks_keep_their_folders() -> None:
    assert "baseline" not in compose_config()
    names = {"frontend": "waveform", "backend": "residual", "model": None, "probe": None}
    config = {
        "seed": 0, "init_from": None, "runs_dir": "runs", "names": names, "trainer": {}, "callbacks": {},
        "lr_scaling": {"rule": "none"},
    }  # fmt: skip
    folder = Path("runs/fixed/waveform-residual-47db7837")
    assert experiment.make_run(config).folder(FixedSongs()) == folder
    names["baseline"] = None
    assert experiment.make_run(config | {"baseline": None}).folder(FixedSongs()) == folder


def test_the_identity_of_a_baseline(trees: list[str]) -> None:
    plain = experiment.results_folder(compose_config(*trees))
    same = (
        "baseline.threads=3", "data.patch_seconds=7", "frontend=waveform", "backend=dense", "trainer=ddp",
        "trainer.devices=2", "loss=mse", "evaluation.batch_size=3", "logger=wandb", "study=a",
        "data.prepare_workers=3", "model=baseline_gbt", "evaluation.bootstrap_resamples=21",
        "evaluation.confidence=0.9",
    )  # fmt: skip
    for override in same:
        assert experiment.results_folder(compose_config(*trees, override)) == plain, override
    other = (
        "seed=1", "baseline.learning_rate=0.1", "baseline.num_leaves=3", "data.train_songs=8",
    )  # fmt: skip
    found = {experiment.results_folder(compose_config(*trees, override)) for override in other}
    assert len(found | {plain}) == len(other) + 1
    # what is written down is the same run
    run = experiment.make_run(compose_config(*trees))
    assert experiment.make_run(run.config).folder(experiment.build_source(run.config)) == plain


def test_other_features_are_another_run(trees: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = experiment.results_folder(compose_config(*trees))
    monkeypatch.setattr(song_features_module, "feature_digest", lambda: "0123abcd")
    assert experiment.results_folder(compose_config(*trees)) != plain


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "conf" / "baseline").glob("*.yaml"))])
def test_the_keys_of_a_baseline_are_its_settings(name: str) -> None:
    config = compose_config(f"baseline={name}")
    identity.check_keys(config)
    cls = find_class(config["baseline"]["_target_"], FeatureModel)
    shipped = {key: value for key, value in config["baseline"].items() if key not in ("_target_", *FEATURE_KEYS)}
    assert set(shipped) == set(settings(cls))
    defaults = {key: parameter.default for key, parameter in settings(cls).items()}
    assert {key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()} == shipped
    by_model = compose_config(f"model=baseline_{name}")
    assert by_model["baseline"] == config["baseline"]
    assert by_model["names"]["baseline"] == name


def test_only_models_of_baselines_are_loaded(tmp_path: Path) -> None:
    features, targets = np.random.default_rng(0).normal(0, 1, (40, len(feature_names()))), np.arange(40) % 2.0
    model = Linear(threads=1)
    spec = {"_target_": "musictag.models.baselines.linear.Linear"}
    fitted = model.fitter(features, features, 0).fit("classification", targets, targets, None)
    path = tmp_path / "model.json"
    FeatureTagger(model, spec, [{"name": "a", "kind": "classification", **fitted}]).save(path)
    assert 0 <= musictag.load(tmp_path).tag((np.random.default_rng(1).normal(0, 0.1, 8000), 16000))["a"] <= 1
    tagger, noise = musictag.load(path), (np.random.default_rng(1).normal(0, 0.1, 8000), 16000)
    features = song_features(to_float(tagger.read(noise)), 16000)
    np.testing.assert_array_equal(tagger.embed(noise), features)
    assert [layer.size for layer in tagger.layers().values()] == [len(features)]
    seconds, rows = tagger.embedder("features").patches(noise)
    assert (seconds.tolist(), rows.shape) == ([0], (1, len(features)))
    with pytest.raises(MusictagError, match="has no layer penultimate"):
        tagger.embed(noise, "penultimate")
    with pytest.raises(MusictagError, match="a baseline has no taggram: its features describe whole songs"):
        tagger.taggram(noise)
    with pytest.raises(MusictagError, match="a baseline hears whole songs"):
        tagger.set_hop(1.0)
    soundfile.write(tmp_path / "song.wav", noise[0], 16000)
    out = str(tmp_path / "features.npz")
    assert cli.main(["embed", str(tmp_path / "song.wav"), "--model", str(tmp_path), "--out", out]) == 0
    with np.load(out) as written:
        assert written["embeddings"].shape == (1, len(features))
    content = json.loads(path.read_text())
    for change, message in (
        ({"features": ["tempo"]}, "fitted to other features"),
        ({"what": "something else"}, "is not a model of a baseline"),
        ({"baseline": {"_target_": "os.system"}}, "a file may only name classes of musictag"),
        ({"tags": [{"name": "a", "kind": "classification"}]}, "the weights of a tag are damaged"),
        ({"baseline": {"_target_": "musictag.models.baselines.trees.Trees"}}, "the trees of a tag are damaged"),
    ):
        path.write_text(json.dumps(content | change))
        with pytest.raises(MusictagError, match=message):
            musictag.load(path)
    path.write_text("{")
    with pytest.raises(MusictagError, match="or is damaged"):
        musictag.load(path)
    with pytest.raises(MusictagError, match="there is no tagger"):
        musictag.load(tmp_path / "nothing.json")


def test_importances_are_sorted_by_tag_and_drawn(tmp_path: Path) -> None:
    shares = np.zeros((2, len(feature_names())))
    shares[0, [3, 7]] = 0.25, 0.75
    rows = importance_rows(["a", "b"], feature_names(), shares)
    assert rows == [("a", feature_names()[7], 0.75), ("a", feature_names()[3], 0.25)]
    plot_importances(shares, tmp_path / "importances.png")
    assert (tmp_path / "importances.png").read_bytes().startswith(b"\x89PNG")
