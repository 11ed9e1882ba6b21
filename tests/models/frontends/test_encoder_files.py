"""Folders of encoders: weights that are missing, code that comes with a model, licences, and what is no encoder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import musictag
from musictag.common.errors import MusictagError
from musictag.models.checkpoint import read_tagger, store_tagger, write_tagger
from musictag.models.factory import build
from musictag.models.frontends import FrontEnd
from musictag.models.frontends.encoder import described, load_weights
from musictag.models.network import TaggingNetwork
from tests.helpers.encoders import close, loaded, spec

MEAN = {"_target_": "musictag.models.backends.pooling.Pooling", "pooling": "mean", "dropout": 0.0}


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


def test_the_encoder_of_a_whole_whisper(models, tmp_path):
    encoder = models["whisper"][1].encoder
    whole = transformers.WhisperForConditionalGeneration(models["whisper"][1].config)
    whole.model.encoder.load_state_dict(encoder.state_dict())
    whole.save_pretrained(tmp_path)
    assert any(key.startswith("model.encoder.") for key in load_file(tmp_path / "model.safetensors"))
    shutil.copy(models["whisper"][0] / "preprocessor_config.json", tmp_path)
    assert loaded(tmp_path).encoder.state_dict().keys() == encoder.state_dict().keys()
    waveform = torch.randn(1, 8000)
    close(loaded(tmp_path)(waveform), loaded(models["whisper"][0])(waveform))


def test_a_name_on_the_hub_is_downloaded_once_without_code(models, monkeypatch):
    asked = []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        if name != "someone/hubert":
            raise OSError("no connection")
        return str(models["hubert"][0])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    waveform = torch.randn(1, 8000)
    assert torch.equal(loaded("someone/hubert")(waveform), loaded(models["hubert"][0])(waveform))
    assert asked == [("someone/hubert", ["*.json", "README.md", "*.safetensors"])]
    with pytest.raises(MusictagError, match=r"the model hub did not give it \(OSError: no connection\)"):
        loaded("someone/else")


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
