"""Fine-tuning and probes: what comes from the checkpoint, what is new, and what stays as it was."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import seed_everything

import musictag
from musictag.common.errors import MusictagError
from musictag.data.audio.decode import read_song
from musictag.experiment import run as experiment
from musictag.experiment.results.console import print_results
from musictag.models.backends.probe import Probe
from musictag.models.network import TaggingNetwork
from musictag.training.transfer import initialise_from, with_probe
from tests.helpers.embeddings import save
from tests.helpers.experiments import TINY, compose_config, folders, run
from tests.helpers.models import penultimate

SPEC = {
    "frontend": {
        "_target_": "musictag.models.frontends.spectrogram.MusicallyMotivated",
        "num_filters": 1,
        "num_mels": 16,
        "hop_samples": 512,
    },
    "backend": {"_target_": "musictag.models.backends.musicnn.DenselyConnected", "filters": 3, "dense_units": 6},
    "tags": [{"name": "loud", "kind": "classification"}, {"name": "fast", "kind": "classification"}],
    "patch_seconds": 0.5,
}
OTHER_TAGS = [{"name": name, "kind": "classification"} for name in ("soft", "slow", "long")]


def network(seed: int, **changes: object) -> TaggingNetwork:
    seed_everything(seed, verbose=False)
    made = TaggingNetwork(**(copy.deepcopy(SPEC) | changes))
    made.fit_normalisation([torch.randn(2, 4000) * (seed + 1)])
    return made.eval()


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    return save(tmp_path / "trained.safetensors", network(1))


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_same_tags_take_everything(checkpoint):
    begun = network(2)
    assert initialise_from(begun, checkpoint) == f"Weights of {checkpoint}, for the same 2 tags"
    assert same(begun, network(1))
    waveform = torch.randn(2, 8000)
    torch.testing.assert_close(begun(waveform), musictag.load(checkpoint).network(waveform))  # normalisation included


@pytest.mark.parametrize("tags", [OTHER_TAGS, SPEC["tags"][::-1]])
def test_other_tags_get_a_new_head(checkpoint, tags):
    begun, untouched = network(2, tags=tags), network(2, tags=tags)
    assert "the last layer is new" in initialise_from(begun, checkpoint)
    trained = network(1)
    assert same(begun.backend.output, untouched.backend.output)
    assert same(begun.frontend, trained.frontend)
    assert same(begun.backend.convolutions, trained.backend.convolutions)
    assert same(begun.backend.dense, trained.backend.dense)


@pytest.mark.parametrize("tags", [OTHER_TAGS, SPEC["tags"]])
def test_a_probe_hears_the_penultimate_features_of_the_checkpoint(checkpoint, tags, tmp_path):
    spec = with_probe(SPEC["backend"], {"hidden_units": [7]})
    begun = network(2, tags=tags, backend=spec)
    assert "everything but the probe" in initialise_from(begun, checkpoint)
    assert same(begun.frontend, network(1).frontend)
    probe, body = begun.backend, network(1).backend
    assert isinstance(probe, Probe)
    assert (probe.output.in_features, probe.output.out_features) == (7, len(tags))
    features = torch.randn(3, begun.frontend.out_channels, 16)
    torch.testing.assert_close(probe.body(features), penultimate(body, features))
    # it learns alone, and its own batch norm only
    begun.train()
    assert not any(layer.training for layer in probe.body.modules())
    assert probe.norm.training
    learning = [name for name, parameter in probe.named_parameters() if parameter.requires_grad]
    assert all(name.startswith(("hidden.", "output.")) for name in learning)
    # a probe that was trained goes on as what it is
    again = network(3, tags=tags, backend=spec)
    initialise_from(again, save(tmp_path / "probe.safetensors", begun))
    assert same(again, begun)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frontend": SPEC["frontend"] | {"hop_samples": 256}}, r"frontend\.hop_samples=512 \(here 256\)"),
        ({"frontend": SPEC["frontend"] | {"mel": "htk"}}, r"frontend\.mel=slaney \(here htk\)"),
        ({"backend": SPEC["backend"] | {"filters": 4}}, r"backend\.filters=3 \(here 4\)"),
        ({"backend": {"_target_": "musictag.models.backends.residual.Residual"}},
         "backend: DenselyConnected, not Residual"),
        ({"frontend": {"_target_": "musictag.models.frontends.waveform.SampleLevel", "channels": [4, 4, 4, 4]}},
         "frontend: MusicallyMotivated, not SampleLevel"),
    ],
)  # fmt: skip
def test_another_network_is_refused(checkpoint, changes, message):
    with pytest.raises(MusictagError, match=message):
        initialise_from(TaggingNetwork(**(SPEC | changes)), checkpoint)


def test_a_setting_that_the_checkpoint_alone_was_given_counts(tmp_path):
    path = save(tmp_path / "htk.safetensors", network(1, frontend=SPEC["frontend"] | {"mel": "htk"}))
    with pytest.raises(MusictagError, match=r"frontend\.mel=htk \(here slaney\)"):
        initialise_from(network(2), path)


def test_what_concerns_training_alone_may_differ(checkpoint):
    begun = network(2, backend=SPEC["backend"] | {"dropout": 0.1, "norm_momentum": 0.2})
    initialise_from(begun, checkpoint)
    assert same(begun, network(1))


def test_another_dropout_of_the_attention_may_differ(tmp_path):
    attention = {"_target_": "musictag.models.backends.self_attention.SelfAttention", "hidden_units": 8, "num_heads": 2}
    path = save(tmp_path / "attention.safetensors", network(1, backend=attention))
    begun = network(2, backend=attention | {"attention_dropout": 0.1, "encoder_dropout": 0.3})
    initialise_from(begun, path)
    assert same(begun, network(1, backend=attention))


def test_a_fixed_length_needs_its_patches(tmp_path):
    fixed = {"backend": {"_target_": "musictag.models.backends.dense.Dense", "hidden_units": [4]}}
    path = save(tmp_path / "fixed.safetensors", network(1, **fixed))
    with pytest.raises(MusictagError, match=r"see data\.patch_seconds"):
        initialise_from(network(2, **fixed, patch_seconds=0.7), path)


# whole runs


@pytest.fixture
def tiny(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, "trainer.max_epochs=1", *folders(tmp_path)]


def test_runs_that_begin_with_another_ones_weights(tiny, tmp_path):
    first, _ = run(*tiny)
    trained = musictag.load(first / "tagger.safetensors").network

    begin = [*tiny, f"init_from={first / 'tagger.safetensors'}"]
    frozen, _ = run(*begin, "freeze=frontend")
    tuned = musictag.load(frozen / "tagger.safetensors").network
    assert same(tuned.frontend, trained.frontend)  # its batch norms, too
    assert not same(tuned.backend, trained.backend)
    free, _ = run(*begin)
    assert not same(musictag.load(free / "tagger.safetensors").network.frontend, trained.frontend)

    for kind in ("linear", "mlp"):
        probed, metrics = run(*begin, f"probe={kind}")
        tagger = musictag.load(probed / "tagger.safetensors")
        probe = tagger.network
        assert probed.name.startswith(f"waveform-residual-{kind}-")
        assert same(probe.frontend, trained.frontend)
        body = {key: value for key, value in trained.backend.state_dict().items() if not key.startswith("output.")}
        for key, value in probe.backend.body.state_dict().items():
            torch.testing.assert_close(value, body[key], rtol=0, atol=0)
        assert metrics["parameters"] == sum(p.numel() for p in probe.parameters())
        assert metrics["parameters_trained"] == sum(p.numel() for p in probe.backend.parameters() if p.requires_grad)
        assert set(tagger.tag(next(tmp_path.glob("music/audio/*.wav")))) == {"high", "noisy", "brightness"}
    assert len({first, frozen, free, probed}) == 4


def test_no_epochs_score_the_weights_that_are_given(tiny, tmp_path, capsys):
    trained_in, trained = run(*tiny)
    folder, metrics = run(*tiny, "trainer.max_epochs=0", f"init_from={trained_in / 'tagger.safetensors'}")
    assert metrics["test"] == trained["test"]
    last = {name: value for name, value in trained["validation"].items() if name.startswith("val_")}
    assert metrics["validation"] == pytest.approx(last)
    assert (metrics["epochs"], metrics["best_epoch"]) == (0, None)
    assert same(musictag.load(folder).network, musictag.load(trained_in).network)
    written = {"metrics.json", "predictions.npz", "tagger.safetensors", "config.json", "tags.png"}
    assert {path.name for path in folder.iterdir()} == written
    # and they are those of the tagger, used for itself
    tagger = musictag.load(folder / "tagger.safetensors")
    with np.load(folder / "predictions.npz") as found:
        for song, scores in zip(found["song_ids"], found["scores"], strict=True):
            audio = read_song(tmp_path / "music" / "audio" / f"{song}.wav")
            np.testing.assert_allclose(scores, tagger.predict_song(audio), atol=1e-6)
    print_results(metrics, str(tmp_path / "runs"))
    shown = capsys.readouterr().out
    assert f"the weights of {trained_in / 'tagger.safetensors'} as they are" in shown
    assert "history.csv" not in shown
    assert "Finished before" not in shown
    run(*tiny, "trainer.max_epochs=0", f"init_from={trained_in / 'tagger.safetensors'}")
    assert "Finished before" in capsys.readouterr().out


def test_no_epochs_and_a_probe_that_was_trained(tiny):
    trained_in, _ = run(*tiny)
    probe, trained = run(*tiny, f"init_from={trained_in / 'tagger.safetensors'}", "probe=linear")
    _, metrics = run(*tiny, f"init_from={probe / 'tagger.safetensors'}", "probe=linear", "trainer.max_epochs=0")
    assert metrics["test"] == trained["test"]


def test_what_was_never_trained_is_not_scored(tiny, tmp_path):
    config = compose_config(*tiny)
    tags = [{"name": name, "kind": "classification"} for name in ("high", "noisy")]
    tags.append({"name": "brightness", "kind": "regression"})
    given = save(tmp_path / "given.safetensors", TaggingNetwork(config["frontend"], config["backend"], tags, 0.5))
    for words, message in (
        (["init_from=null"], r"max_epochs=0 trains nothing: .* use init_from=\.\.\."),
        (["probe=linear"], "the probe on .* would be new; omit probe"),
        (
            ["data.tags=[noisy,high,brightness]"],
            r"the same in another order: .*data\.tags=\{high:classification,noisy:",
        ),
        (["data.tags=[noisy]"], r"are others, 3 of them: its last layer would be new"),
        (["data.tags={noisy:regression,high:classification,brightness:regression}"], "are others, 3 of them"),
    ):
        with pytest.raises(MusictagError, match=message):
            experiment.run(compose_config(*tiny, "trainer.max_epochs=0", f"init_from={given}", *words))
    assert not (tmp_path / "data").exists()  # before anything is decoded
    assert not list((tmp_path / "runs").glob("*/*/metrics.json"))


def test_the_weights_are_part_of_a_runs_identity(tiny, checkpoint, tmp_path):
    plain = experiment.results_folder(compose_config(*tiny))
    begun = experiment.results_folder(compose_config(*tiny, f"init_from={checkpoint}"))
    moved = Path(checkpoint).rename(tmp_path / "elsewhere.safetensors")
    assert experiment.results_folder(compose_config(*tiny, f"init_from={moved}")) == begun != plain
    save(moved, network(5))
    assert experiment.results_folder(compose_config(*tiny, f"init_from={moved}")) not in (begun, plain)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["probe=linear"], r"a probe needs a trained network; use init_from="),
        (["freeze=frontend"], r"use init_from=\.\.\. as well"),
        (["init_from=musicnn"], "Pretrained models go by name"),
        (["init_from=CHECKPOINT", "freeze=backend"], "freeze=backend does not exist; allowed: frontend, null"),
        (
            ["init_from=CHECKPOINT"],
            "has another architecture than the network to train; use the settings it was trained with",
        ),
    ],
)
def test_refused_before_any_work(tiny, checkpoint, overrides, message, tmp_path):
    overrides = [override.replace("CHECKPOINT", checkpoint) for override in overrides]
    with pytest.raises(MusictagError, match=message):
        experiment.run(compose_config(*tiny, *overrides))
    assert not (tmp_path / "data").exists()
