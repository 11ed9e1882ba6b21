"""Encoders of transformers: the features that their own library makes, and nothing random where weights are missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import musictag
from musictag import testing
from musictag.common.errors import MusictagError
from musictag.models.checkpoint import read_tagger, store_tagger, write_tagger
from musictag.models.factory import build
from musictag.models.frontends import FrontEnd
from musictag.models.frontends.encoder import described, load_weights
from musictag.models.frontends.huggingface import HuggingFace
from musictag.models.network import TaggingNetwork
from tests.helpers.encoders import SETTINGS, make, spec

FAMILIES = list(SETTINGS)
MEAN = {"_target_": "musictag.models.backends.pooling.Pooling", "pooling": "mean", "dropout": 0.0}
#: Of the largest feature, where float32 has about 1e-7.
TOLERANCE = 2e-6


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folder and model of each family."""
    root = tmp_path_factory.mktemp("models")
    return {family: (root / family, make(family, root / family)) for family in FAMILIES}


def loaded(folder: Path, **settings) -> HuggingFace:
    frontend = build(described(spec(folder, **settings)), FrontEnd).eval()
    load_weights(frontend, str(folder))
    return frontend


def rate(family: str) -> int:
    return SETTINGS[family][3].get("sampling_rate", 16000)


@torch.no_grad()
def by_the_library(folder: Path, model, family: str, waveform: torch.Tensor, **arguments):
    """What the library makes of a waveform at the encoder's rate, with its own feature extraction."""
    extractor = getattr(transformers, f"{SETTINGS[family][2]}FeatureExtractor").from_pretrained(folder)
    given = extractor(list(waveform.numpy()), sampling_rate=rate(family), return_tensors="pt")
    (key,) = [key for key in given if key.startswith("input_")]
    if family == "fused_clap":  # of audio that is no longer than its window
        arguments["is_longer"] = torch.zeros(len(waveform), 1, dtype=torch.bool)
    return given[key], getattr(model, "encoder", model)(given[key], **arguments) if family == "whisper" else model(
        given[key], **arguments
    )


def close(made: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(made, expected, rtol=0, atol=TOLERANCE * float(expected.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("check", testing.FRONTEND_CHECKS)
def test_contract(check, family, models):
    check(spec(models[family][0], layers=-1 if "clap" in family else "mix"))


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_features_are_those_of_the_library(family, models):
    folder, model = models[family]
    frontend = loaded(folder, sample_rate=rate(family))
    torch.manual_seed(1)
    waveform = 0.1 * torch.randn(2, frontend.input.window_samples or 9000)
    for num_samples in (waveform.shape[1], waveform.shape[1] // 3):
        given, out = by_the_library(folder, model, family, waveform[:, :num_samples])
        close(frontend.input(waveform[:, :num_samples]), given)
        whole = out.last_hidden_state
        if family == "ast":  # two tokens for the whole, then those of bands and times
            whole = whole[:, 2:].reshape(2, 2, -1, 16).mean(1)
        expected = whole.mean(2) if "clap" in family else whole.transpose(1, 2)
        made = frontend(waveform[:, :num_samples])
        assert made.shape[2] == frontend.num_frames(num_samples)
        close(made, expected[..., : made.shape[2]])
    assert made.shape[2] < expected.shape[2] or frontend.input.window_samples is None


@pytest.mark.parametrize("family", ["hubert", "wav2vec2", "data2vec", "whisper"])
@torch.no_grad()
def test_layers(family, models):
    folder, model = models[family]
    waveform = 0.1 * torch.randn(2, 8000)
    out = by_the_library(folder, model, family, waveform, output_hidden_states=True)[1]
    # the last is the output: some hidden states lack the norm after the last block
    states = [state.transpose(1, 2) for state in (*out.hidden_states[:-1], out.last_hidden_state)]
    count = {layer: sum(p.numel() for p in loaded(folder, layers=layer).parameters()) for layer in (0, 1, -1)}
    assert count[0] < count[1] < count[-1]  # without blocks that are not needed
    for layers, chosen in ((0, [0]), (1, [1]), (-2, [-2]), ([-1], [-1]), ([0, 2], [0, 2]), ("mix", range(len(states)))):
        frontend = loaded(folder, layers=layers, sample_rate=rate(family))
        made = frontend(waveform)
        close(made, torch.stack([states[i] for i in chosen]).mean(0)[..., : made.shape[2]])
    frontend.mix[1] = 50.0
    close(frontend(waveform), states[1][..., : made.shape[2]])


@torch.no_grad()
def test_audio_is_resampled_to_the_encoders_rate(models):
    folder, model = models["hubert"]
    at_16k, at_24k = (torch.sin(700 * torch.arange(n) / n)[None] for n in (16000, 24000))
    frontend = loaded(folder)
    made, expected = frontend(at_16k), by_the_library(folder, model, "hubert", at_24k)[1].last_hidden_state
    assert made.shape == (1, 16, frontend.num_frames(16000)) == (1, 16, expected.shape[1])
    assert frontend.hop_samples == 27  # 40 samples at 24 kHz
    torch.testing.assert_close(made[..., 9:-9], expected.transpose(1, 2)[..., 9:-9], atol=0.02, rtol=0)


@pytest.mark.parametrize("family", ["ast", "clap", "fused_clap", "whisper"])
@torch.no_grad()
def test_long_patches_are_heard_window_by_window(family, models):
    frontend = loaded(models[family][0], sample_rate=rate(family))
    window, step, frames = (
        getattr(frontend.input, f"{name}") for name in ("window_samples", "step_samples", "window_frames")
    )
    waveform = 0.1 * torch.randn(1, 2 * step + window // 2)
    made = frontend(waveform)
    assert made.shape[2] == frontend.num_frames(waveform.shape[1]) > 2 * frames
    for number in (0, 1):
        close(
            made[..., number * frames : (number + 1) * frames],
            frontend(waveform[:, number * step : number * step + window]),
        )
    close(made[..., 2 * frames :], frontend(waveform[:, 2 * step :]))


def test_gradients_reach_the_waveform(models):
    for folder, _ in models.values():
        waveform = (0.1 * torch.randn(1, 16000)).requires_grad_()
        loaded(folder)(waveform).square().sum().backward()
        assert waveform.grad.abs().sum() > 0


@pytest.mark.parametrize("family", ["hubert", "whisper"])
def test_training_draws_only_dropout(family, tmp_path):
    """Neither are layers left out, which would be missing from a mix, nor frames masked by numpy's generator."""
    still = dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout", "dropout"), 0.0)
    make(family, tmp_path, **still, layerdrop=1.0, encoder_layerdrop=1.0, mask_time_prob=0.9, mask_time_length=2)
    frontend = loaded(tmp_path, layers="mix")
    assert "masked_spec_embed" not in frontend.encoder.state_dict()
    waveform = torch.randn(2, 16000)
    close(frontend.train()(waveform).detach(), frontend.eval()(waveform).detach())


def copied(models, family, tmp_path) -> Path:
    return Path(shutil.copytree(models[family][0], tmp_path / "copy"))


def change(folder: Path, edit) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(edit(weights), folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(("family", "key"), [
    ("hubert", "encoder.layers.1.attention.k_proj.weight"),
    ("hubert", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"),
    ("wav2vec2", "encoder.layer_norm.bias"),
    ("ast", "embeddings.position_embeddings"),
    ("clap", "audio_encoder.batch_norm.running_mean"),
    ("whisper", "encoder.conv1.weight"),
])  # fmt: skip
def test_missing_and_misshapen_weights_are_named(family, key, models, tmp_path):
    folder = copied(models, family, tmp_path)
    stored = load_file(folder / "model.safetensors")
    (match,) = [name for name in stored if name.endswith(key.rpartition(".layers.")[2]) and key.split(".")[-1] in name][
        :1
    ]
    named = f"has not all weights of .*{key.removeprefix('encoder.' if family == 'whisper' else '')}"
    change(folder, lambda weights: weights | {match: torch.ones(3, 3)})
    with pytest.raises(MusictagError, match=named):
        loaded(folder)
    change(folder, lambda weights: {name: value for name, value in weights.items() if name != match})
    with pytest.raises(MusictagError, match=named):
        loaded(folder)


def test_older_names_of_weights_and_whole_models_load(models, tmp_path):
    """Weight norm was stored as weight_g and weight_v; models with a head have a prefix."""
    folder = models["hubert"][0]
    older = copied(models, "hubert", tmp_path)
    new = "parametrizations.weight.original"
    change(older, lambda weights: {
        f"hubert.{key.replace(f'{new}0', 'weight_g').replace(f'{new}1', 'weight_v')}": value
        for key, value in weights.items()
    } | {"lm_head.weight": torch.ones(2, 16)})  # fmt: skip
    waveform = torch.randn(1, 8000)
    assert torch.equal(loaded(older)(waveform), loaded(folder)(waveform))


def test_the_audio_tower_of_a_whole_clap(models, tmp_path):
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 9}
    config = transformers.ClapConfig(text_config=text, audio_config=models["clap"][1].config.to_dict())
    whole = transformers.ClapModel(config)
    whole.audio_model.load_state_dict(models["clap"][1].state_dict())
    whole.save_pretrained(tmp_path)
    shutil.copy(models["clap"][0] / "preprocessor_config.json", tmp_path)
    waveform = torch.randn(1, 8000)
    close(loaded(tmp_path)(waveform), loaded(models["clap"][0])(waveform))


def test_mert_is_a_hubert_by_another_name(models, tmp_path):
    folder = copied(models, "hubert", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "mert_model", "architectures": ["MERTModel"], "feature_extractor_cqt": False, "deepnorm": False,
        "attention_relax": -1.0, "auto_map": {"AutoModel": "modeling_MERT.MERTModel"}, "sample_rate": 24000,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    waveform = torch.randn(1, 8000)
    assert torch.equal(loaded(folder)(waveform), loaded(models["hubert"][0])(waveform))
    for more in ({"feature_extractor_cqt": True}, {"deepnorm": True}, {"attention_relax": 32.0}):
        (folder / "config.json").write_text(json.dumps(config | more))
        with pytest.raises(
            MusictagError, match=r"brings code of its own, which runs only with frontend.trust_remote_code=true"
        ):
            loaded(folder)


OWN_CODE = """
from pathlib import Path
from transformers import HubertConfig, HubertModel
Path("{}").touch()
class OwnConfig(HubertConfig):
    model_type = "own"
class OwnModel(HubertModel):
    config_class = OwnConfig
"""


def test_code_that_comes_with_a_model_runs_only_when_trusted(models, tmp_path, capsys):
    folder, ran = copied(models, "hubert", tmp_path), tmp_path / "ran"
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "own", "architectures": ["OwnModel"]}
    config["auto_map"] = {"AutoConfig": "own_code.OwnConfig", "AutoModel": "own_code.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own_code.py").write_text(OWN_CODE.format(ran))
    with pytest.raises(MusictagError, match="trust_remote_code=true"):
        loaded(folder)
    assert not ran.exists()
    frontend = loaded(folder, trust_remote_code=True)
    assert ran.exists()
    assert f"trust_remote_code=true: the code that came with {folder} runs" in capsys.readouterr().out
    waveform = torch.randn(1, 8000)
    assert torch.equal(frontend(waveform), loaded(models["hubert"][0])(waveform))
    network = TaggingNetwork(described(spec(folder, trust_remote_code=True)), MEAN, [{"name": "a"}], 0.5)
    write_tagger(tmp_path / "tagger.safetensors", network)
    ran.unlink()
    with pytest.raises(MusictagError, match=r"trust=\['transformers_modules'\]"):
        musictag.load(tmp_path / "tagger.safetensors")
    stored = read_tagger(tmp_path / "tagger.safetensors")
    for disguise in ("musictag.models.frontends.huggingface.HuggingFace", None):
        stored.description["frontend"]["encoder"] |= {"_target_": disguise}
        if disguise is None:
            del stored.description["frontend"]["encoder"]["_target_"]
        store_tagger(tmp_path / "hidden.safetensors", stored.description, stored.state)
        with pytest.raises(MusictagError, match="model type 'own' is not one of"):
            musictag.load(tmp_path / "hidden.safetensors")
    assert not ran.exists()
    again = musictag.load(tmp_path / "tagger.safetensors", trust=["transformers_modules"]).network
    assert torch.equal(again(waveform), network.eval()(waveform))


def test_a_tagger_needs_neither_folder_nor_hub(models, tmp_path):
    folder = copied(models, "clap", tmp_path)
    network = TaggingNetwork(described(spec(folder)), MEAN, [{"name": "a"}], 0.5).eval()
    load_weights(network.frontend, str(folder))
    write_tagger(tmp_path / "tagger.safetensors", network)
    shutil.rmtree(folder)
    description = read_tagger(tmp_path / "tagger.safetensors").description
    assert description["licence"] == description["frontend"]["encoder"]["licence"] == "cc-by-nc-4.0"
    assert str(tmp_path) not in json.dumps(description)
    waveform = torch.randn(1, 8000)
    again = musictag.load(tmp_path / "tagger.safetensors").network
    assert torch.equal(again(waveform), network(waveform))


@pytest.mark.parametrize(("edit", "message"), [
    (lambda frontend: frontend.pop("encoder") and frontend.update(name="evil/model"), "built from the description"),
    (lambda frontend: frontend["encoder"]["config"].update(attn_implementation="evil/kernels"), "is not a setting of"),
    (lambda frontend: frontend["encoder"]["config"].update(num_hidden_layers=10**6), "must lie between 0 and 1,000"),
    (lambda frontend: frontend["encoder"].update(rate=15999), "cannot be resampled"),
    (lambda frontend: frontend["encoder"].update(model_type="bert"), "model type 'bert' is not one of"),
    (lambda frontend: frontend["encoder"].pop("features"), "cannot be built"),
])  # fmt: skip
def test_files_cannot_ask_for_more(edit, message, models, tmp_path):
    network = TaggingNetwork(described(spec(models["hubert"][0])), MEAN, [{"name": "a"}], 0.5)
    write_tagger(tmp_path / "tagger.safetensors", network)
    stored = read_tagger(tmp_path / "tagger.safetensors")
    edit(stored.description["frontend"])
    store_tagger(tmp_path / "edited.safetensors", stored.description, stored.state)
    with pytest.raises(MusictagError, match=message):
        musictag.load(tmp_path / "edited.safetensors")


@pytest.mark.parametrize(("card", "licence", "said"), [
    ("---\nlicense: mit\n---\n", "mit", "licence mit, which also applies"),
    ("---\ntags: [a]\nlicense: other\nlicense_name: 'my-terms'\n---\n", "my-terms", "licence my-terms"),
    ("license: mit\n", "unknown", "licence unknown: ask its authors"),
    (None, "unknown", "licence unknown: ask its authors"),
])  # fmt: skip
def test_the_licence_is_that_of_the_model_card_and_said(card, licence, said, models, tmp_path):
    folder = copied(models, "hubert", tmp_path)
    (folder / "README.md").unlink()
    if card:
        (folder / "README.md").write_text(card)
    frontend = build(described(spec(folder)), FrontEnd)
    assert frontend.licence == licence
    assert said in load_weights(frontend, str(folder))


@pytest.mark.parametrize(("damage", "message"), [
    (lambda folder: (folder / "config.json").unlink(), "its config.json cannot be used"),
    (lambda folder: (folder / "config.json").write_text("{"), "its config.json cannot be used"),
    (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), "is not one of hubert,"),
    (lambda folder: (folder / "preprocessor_config.json").unlink(), "its feature extraction .* cannot be used"),
    (lambda folder: (folder / "model.safetensors").unlink(), "its weights cannot be used: .*safetensors"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), "its weights cannot be used"),
    (lambda folder: shutil.rmtree(folder), "neither a folder nor a name on the model hub"),
])  # fmt: skip
def test_folders_that_are_no_encoder(damage, message, models, tmp_path):
    folder = copied(models, "hubert", tmp_path)
    damage(folder)
    with pytest.raises(MusictagError, match=message):
        loaded(folder)


@pytest.mark.parametrize(("settings", "message"), [
    ({"layers": 4}, "has the hidden states 0 to 3"),
    ({"layers": []}, "has the hidden states 0 to 3"),
    ({"layers": "all"}, "has the hidden states 0 to 3"),
    ({"name": None}, "frontend.name is needed"),
    ({"filter_multiplier": 2.0}, "the size of a pretrained encoder is given"),
])  # fmt: skip
def test_settings_that_do_not_fit(settings, message, models):
    with pytest.raises(MusictagError, match=message):
        loaded(models["hubert"][0], **settings)


def test_clap_has_one_output(models):
    with pytest.raises(MusictagError, match="this encoder's stages have different sizes; use -1"):
        loaded(models["clap"][0], layers="mix")


def test_patches_too_short_for_an_encoder_are_refused(models):
    with pytest.raises(MusictagError, match=r"data.patch_seconds=0.1 is too short: .* use data.patch_seconds=0.175"):
        TaggingNetwork(described(spec(models["ast"][0])), MEAN, [{"name": "a"}], 0.1)
