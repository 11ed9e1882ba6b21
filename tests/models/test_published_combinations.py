"""Every published combination: its parts and sizes, and that it works in all the ways in which models are run."""

from __future__ import annotations

import json
import re
import warnings

import pytest
import torch

from musictag.cli import main
from musictag.cli.models import describe_model
from musictag.common.errors import MusictagError
from musictag.experiment.compose import compose, presets
from musictag.experiment.identity import system_label
from musictag.experiment.run import make_run
from musictag.models.network import TaggingNetwork
from tests.experiment.test_baseline_identity import FixedSongs
from tests.helpers.models import CONF, PRESETS, make_small_network, preset
from tests.helpers.processes import program

#: For tests that take seconds each: some of each kind, the rest marked slow.
SOME_PRESETS = [
    name if name in ("harmonic", "samplecnn_se") else pytest.param(name, marks=pytest.mark.slow) for name in PRESETS
]
#: For 50 tags. Counted in the authors' code or in that of a re-evaluation: SampleCNN and its variants (Kim et al. 2018,
#: Keras), musicnn and vgg (the published weights), the paper's models (its TensorFlow graphs), self-attention (both
#: codes), short-chunk CNNs and harmonic CNN (Won et al. 2020). The others are counted in this code, so that a change
#: is noticed.
PARAMETERS = {
    "crnn": 394_100,
    "dieleman_spectrogram": 55_774,
    "dieleman_waveform": 107_870,
    "fcn": 17_365_940,
    "harmonic": 3_631_551,
    "multi_resolution": 4_849_050,
    "musicnn": 787_159,
    "pons_spectrogram": 5_924_154,
    "pons_waveform": 5_377_082,
    "pons_waveform9": 5_476_154,
    "samplecnn": 1_869_874,
    "samplecnn_res": 4_920_882,
    "samplecnn_rese": 26_980_146,
    "samplecnn_se": 24_742_706,
    "self_attention": 6_882_226,
    "self_attention_2020": 10_521_652,
    "short_chunk": 3_687_348,
    "short_chunk_res": 12_104_244,
    "spectrogram_small": 519_562,
    "vgg": 605_748,
    "waveform_small": 365_754,
}


@pytest.mark.parametrize("name", PRESETS)
def test_sizes_are_the_published_ones(name):
    row = describe_model(name)
    assert row.parameters == PARAMETERS[name]
    assert row.gflops > 0.005
    heard = "all" if row.receptive_seconds is None else f"{row.receptive_seconds:.2f}"
    cells = [
        row.paper,
        row.parts,
        row.input,
        f"{row.parameters:,}",
        f"{row.gflops:.2f}",
        f"{heard} / {row.hop_seconds:.2f}",
    ]
    assert f"| `{name}` | {' | '.join(cells)} |" in (CONF.parent / "docs" / "architectures.md").read_text()


def test_the_cost_is_that_of_the_paper_models_counted_by_hand():
    # multiplications and additions per second of audio, 108 frames of the waveform model in 15 s
    layers = [(1, 64, 3, 80_000), (64, 64, 3, 79_998), (64, 64, 3, 26_664), (64, 128, 3, 8_886), (128, 128, 3, 2_960)]
    layers += [(128, 128, 3, 984), (128, 256, 3, 326), (256, 512, 7, 102), (512, 512, 7, 102), (512, 512, 7, 51)]
    layers += [(1024, 500, 1, 1), (500, 50, 1, 1)]
    expected = sum(2 * wide_in * wide_out * length * frames for wide_in, wide_out, length, frames in layers) / 15e9
    assert describe_model("pons_waveform").gflops == pytest.approx(expected, rel=1e-6)


def test_the_table(capsys, monkeypatch):
    for columns, parts in (("200", "musicnn +"), ("100", "")):  # omitted in a narrow terminal
        monkeypatch.setenv("COLUMNS", columns)
        assert main(["models", "musicnn", "samplecnn_se"]) == 0
        printed = capsys.readouterr().out
        assert re.search(rf"musicnn +Pons & Serra 2019 +{parts}96 mel, 2.99 s +787,159 ", printed)
        assert re.search(r"24,742,706 +0.9\d +all / 3.69 ", printed)
    assert main(["models", "spectrogram_tiny"]) == 0  # made from another model, and not listed
    assert main(["models", "resnet"]) == 1
    assert "there is no model resnet; choose from crnn, " in capsys.readouterr().err
    assert presets() == PRESETS


@pytest.mark.parametrize("name", SOME_PRESETS)
def test_parts_can_be_chosen_beside_a_model(name):
    """They are as they are without it, and the other part stays the model's."""
    config = compose([f"model={name}", "backend=pooling", "backend.pooling=mean", "data.patch_seconds=30"])
    assert config["backend"] == compose(["backend=pooling", "backend.pooling=mean"])["backend"]
    assert config["frontend"] == preset(name)["frontend"]
    assert config["data"]["patch_seconds"] == 30
    names = {"frontend": name, "backend": "pooling", "model": None, "paper": None}
    assert config["names"] == preset(name)["names"] | names
    assert system_label(config) == f"{name}+pooling"
    other = compose([f"model={name}", "frontend=waveform", "data=catalogue", "data.path=x.csv"])
    assert other["frontend"] == compose(["frontend=waveform"])["frontend"]
    assert other["backend"] == preset(name)["backend"]
    assert bool(preset(name)["names"]["paper"]) != name.endswith("_small")  # these are not published
    assert (CONF / "model" / f"{name}.yaml").read_text().startswith("# @package _global_\n# ")


def test_train_knows_parts_beside_a_model():
    """As the function above does, from the command line itself."""
    words = ["model=vgg", "backend=recurrent", "data=catalogue", "data.path=no/such/table.csv"]
    done = program("train.py", *words)
    assert done.stderr == "musictag: no catalogue at no/such/table.csv\n"


def test_the_part_that_is_left_of_a_model_can_be_set():
    """It may have settings that the default of its group lacks."""
    config = compose(["model=vgg", "backend=recurrent", "frontend.activation=elu", "+frontend.f_max_hz=6000.0"])
    assert config["frontend"] == compose(["model=vgg"])["frontend"] | {"activation": "elu", "f_max_hz": 6000.0}
    assert config["backend"] == compose(["backend=recurrent"])["backend"]
    other = compose(["model=short_chunk", "frontend=waveform", "backend.hidden_units=[256]", "frontend.channels=[8,8]"])
    assert (other["backend"]["hidden_units"], other["frontend"]["channels"]) == ([256], [8, 8])


def test_runs_are_named_after_their_model(tmp_path):
    songs, own = FixedSongs(), f"runs_dir={tmp_path}"
    folder = make_run(compose(["model=vgg", own])).folder(songs)
    assert folder.name.startswith("vgg-")
    assert make_run(compose(["model=vgg", "backend=pooling", own])).folder(songs).name.startswith("vgg-pooling-")
    assert (
        make_run(compose(["frontend=small_filters", "backend=dense", own]))
        .folder(songs)
        .name.startswith("small_filters-dense-")
    )
    # what is computed identifies a run, however it is written
    words = [f"{part}.{key}={json.dumps(value)}" for part in ("frontend", "backend")
             for key, value in preset("vgg")[part].items() if key != "_target_" and value is not None]  # fmt: skip
    spelt = compose(["frontend=small_filters", "backend=dense", *words, "data.patch_seconds=2.992", own])
    assert make_run(spelt).folder(songs).name == folder.name.replace("vgg", "small_filters-dense")
    folder.mkdir(parents=True)
    assert make_run(spelt).folder(songs) == folder


@pytest.mark.parametrize("name", SOME_PRESETS)
def test_compiled_and_exported_models_give_the_same(name):
    tagger = make_small_network(name)
    waveform = 0.1 * torch.randn(2, tagger.input_samples)
    with torch.no_grad():
        plain = tagger(waveform)
        any_batch = {"waveform": {0: torch.export.Dim("batch", min=1, max=64)}}
        exported = torch.export.export(tagger, (waveform,), dynamic_shapes=any_batch).module()
        torch.testing.assert_close(exported(waveform), plain, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(exported(waveform[:1]), plain[:1], atol=1e-4, rtol=1e-4)
        torch._dynamo.reset()
        tagger.compile(backend="eager")
        torch.testing.assert_close(tagger(waveform), plain, atol=1e-4, rtol=1e-4)
    assert plain.shape == (2, 3)


@pytest.mark.parametrize("name", SOME_PRESETS)
def test_a_training_step_is_one_graph(name):
    """What torch.compile cannot follow breaks it, and each break costs time; of our layers, only recurrent ones do."""
    tagger = make_small_network(name).train()
    torch._dynamo.reset()
    found = torch._dynamo.explain(tagger)(0.1 * torch.randn(2, tagger.input_samples))
    assert found.graph_break_count == (name == "crnn"), found.break_reasons


@pytest.mark.parametrize("name", PRESETS)
def test_half_precision_is_close(name):
    tagger = make_small_network(name)
    waveform = 0.1 * torch.randn(2, tagger.input_samples)
    with torch.inference_mode():
        plain = tagger.probabilities(tagger(waveform))
        with torch.autocast("cpu", torch.bfloat16):
            half = tagger.probabilities(tagger(waveform))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, plain, atol=0.02, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_compiled_training_gives_the_same(name):
    """With the real compiler, forwards and backwards."""
    tagger = make_small_network(name)
    waveform = 0.1 * torch.randn(2, tagger.input_samples)
    tagger(waveform).square().sum().backward()
    plain = {key: parameter.grad.clone() for key, parameter in tagger.named_parameters()}
    tagger.zero_grad()
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(tagger)
        compiled(waveform).square().sum().backward()
    for key, parameter in tagger.named_parameters():
        scale = plain[key].abs().max().clamp(min=1e-6)
        torch.testing.assert_close(parameter.grad / scale, plain[key] / scale, atol=2e-3, rtol=0)


def test_patches_that_are_too_short_for_a_preset_say_what_to_use():
    config = compose(["model=fcn", "data.patch_seconds=10"])
    with pytest.raises(MusictagError, match=r"use data\.patch_seconds=27\.\d+ or more"):
        TaggingNetwork(config["frontend"], config["backend"], [{"name": "a"}], config["data"]["patch_seconds"])
