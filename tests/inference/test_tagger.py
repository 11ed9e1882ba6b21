"""The Tagger: made from plain dictionaries, tagging audio of any length, loaded without surprises."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch
from safetensors import safe_open
from torch import Tensor

import musictag
from musictag.common.errors import MusictagError, SongError
from musictag.data.audio.decode import read_song
from musictag.inference.load import load, load_network
from musictag.inference.network_tagger import NetworkTagger
from musictag.models.checkpoint import read_tagger, store_tagger, write_tagger
from musictag.models.network import TaggingNetwork
from tests.helpers.models import preset

CONF = Path(__file__).resolve().parents[2] / "conf"
RATE = 16000
TAGS = [{"name": name, "kind": "classification"} for name in ("violin", "drums", "reel")]
TAGS.append({"name": "tempo", "kind": "regression"})
FRONTEND = {"_target_": "musictag.models.frontends.waveform.SampleLevel", "channels": [8, 8, 8, 8, 8]}
BACKEND = {"_target_": "musictag.models.backends.residual.Residual", "filters": 8, "dense_units": 8}


def make_network(**changes) -> TaggingNetwork:
    torch.manual_seed(0)
    return TaggingNetwork(**({"frontend": FRONTEND, "backend": BACKEND, "tags": TAGS, "patch_seconds": 0.5} | changes))


def make_tagger(**changes) -> NetworkTagger:
    return NetworkTagger(make_network(**changes))


def make_song(seconds: float, seed: int = 0, channels: int = 1, rate: int = RATE) -> np.ndarray:
    """Noise whose loudness changes, so that patches differ: float32 N×channels."""
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    return (rng.standard_normal((n, channels)) * np.linspace(0.02, 0.3, n)[:, None]).astype(np.float32)


def save(path: Path, network: TaggingNetwork, state: dict[str, Tensor] | None = None, **changes) -> Path:
    """A tagger's file as training leaves it, with another state, or another description."""
    write_tagger(path, network, epoch=3)
    stored = read_tagger(path)
    store_tagger(path, stored.description | changes, stored.state if state is None else state)
    return path


# making one


def test_what_it_says_about_itself():
    network = make_network()
    assert network.tag_names == ("violin", "drums", "reel", "tempo")
    assert network.tag_kinds == ("classification",) * 3 + ("regression",)
    assert network.tags == TAGS
    assert (network.sample_rate, network.patch_samples, network.patch_seconds) == (RATE, 8000, 0.5)
    assert network(torch.zeros(2, network.min_samples)).shape == (2, 4)
    with pytest.raises(RuntimeError):
        network.eval()(torch.zeros(2, network.min_samples - 1))


@pytest.mark.parametrize("name", ["waveform_small", "spectrogram_small"])
@torch.inference_mode()
def test_spec_makes_the_same_network_again(name):
    network = make_network(frontend=preset(name)["frontend"], backend=preset(name)["backend"], patch_seconds=1.5)
    network.fit_normalisation([torch.from_numpy(make_song(2).T)])
    again = TaggingNetwork(**network.spec)
    assert again.spec == network.spec
    again.load_state_dict(network.state_dict())
    waveform = torch.from_numpy(make_song(1.5, channels=2).T.copy())
    torch.testing.assert_close(again.eval()(waveform), network.eval()(waveform))
    # the spec is a copy: nobody can change a network from outside
    network.spec["tags"].clear()
    assert len(network.spec["tags"]) == 4


def test_too_short_patches_are_refused_with_the_length_to_type():
    for patch_seconds in (0.01, 0.1):
        with pytest.raises(MusictagError, match="too short: ") as refused:
            make_network(patch_seconds=patch_seconds)
        advice = float(str(refused.value).rpartition("data.patch_seconds=")[2].split()[0])
        network = make_network(patch_seconds=advice)
        assert network.min_samples <= network.patch_samples <= network.min_samples + 2
        assert f"takes {network.min_samples} samples" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tags": []}, "at least one tag"),
        ({"tags": [{"name": "a"}, {"name": "a"}]}, "duplicate tags: a"),
        ({"tags": [{"name": "a", "kind": "ordinal"}]}, "classification, regression"),
        ({"tags": ["a"]}, "name and a kind"),
        ({"patch_seconds": 0}, "is not a length"),
        ({"patch_seconds": float("nan")}, "is not a length"),
        ({"patch_seconds": "3"}, "is not a length"),
        ({"frontend": FRONTEND | {"channels": torch.tensor([8])}}, r"frontend\.channels is a Tensor"),
        ({"frontend": BACKEND}, "not a FrontEnd"),
        ({"backend": BACKEND | {"filter": 3}}, "no setting filter"),
        ({"frontend": FRONTEND | {"_target_": "os.system"}}, "os.system is not a FrontEnd"),
        ({"frontend": FRONTEND | {"_target_": "nowhere.Sounds"}}, "there is no module nowhere"),
    ],
)
def test_what_cannot_be_built(changes, message):
    with pytest.raises(MusictagError, match=message):
        make_network(**changes)


def test_probabilities_are_float32_under_autocast():
    logits = torch.tensor([[-20.0, 0.0, 9.0, 12.0]], dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        probabilities = make_network().probabilities(logits)
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities, 1 / (1 + torch.exp(-logits.float())))
    assert probabilities[0, 2] < probabilities[0, 3] < 1  # both would be 1 in bfloat16


# tagging


def test_song_score_is_the_mean_over_patches_with_the_last_aligned_to_the_end(tmp_path):
    tagger = NetworkTagger(make_network().eval())
    audio = make_song(1.7)
    soundfile.write(tmp_path / "song.wav", audio, RATE, subtype="PCM_16")
    samples = torch.from_numpy(read_song(tmp_path / "song.wav").astype(np.float32) / 32768)
    starts = (0, 8000, 16000, 27200 - 8000)
    with torch.inference_mode():
        patches = torch.stack([samples[start : start + 8000] for start in starts])
        expected = torch.sigmoid(tagger.network(patches)).mean(0)

    scores = tagger.tag(tmp_path / "song.wav")
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    np.testing.assert_allclose([scores[name] for name in tagger.tag_names], expected, atol=1e-6)
    assert tagger.tag((audio, RATE)) == pytest.approx(scores, abs=1e-4)  # libsndfile rounds to 16 bits its own way
    np.testing.assert_allclose(tagger.predict_song(read_song(tmp_path / "song.wav")), expected, atol=1e-6)


def test_top_and_threshold():
    tagger, source = make_tagger(), (make_song(1.0), RATE)
    scores = tagger.tag(source)
    assert list(tagger.tag(source, top=2).items()) == list(scores.items())[:2]
    assert tagger.tag(source, top=99) == scores
    second = list(scores.values())[1]
    assert list(tagger.tag(source, threshold=second)) == list(scores)[:2]
    assert tagger.tag(source, threshold=1.1) == {}
    with pytest.raises(MusictagError, match="at least 1"):
        tagger.tag(source, top=0)


def test_taggram_rows_are_patches_and_its_mean_is_the_song():
    tagger = make_tagger()
    source = (make_song(2.2), RATE)
    taggram = tagger.taggram(source)
    np.testing.assert_allclose(taggram.times, [0, 0.5, 1.0, 1.5, 1.7])
    assert taggram.tags == tagger.tag_names
    assert taggram.scores.shape == (5, 4)
    assert taggram.scores.dtype == np.float32
    assert np.ptp(taggram.scores, axis=0).max() > 1e-3  # rows differ
    assert dict(zip(taggram.tags, taggram.scores.mean(0), strict=True)) == pytest.approx(tagger.tag(source), abs=1e-6)

    dense = tagger.taggram(source, hop_seconds=0.1)
    np.testing.assert_allclose(dense.times, np.arange(18) * 0.1)
    np.testing.assert_allclose(dense.scores[[0, 5, 10, 15, 17]], taggram.scores, atol=1e-5)
    for hop_seconds in (0, -1, float("nan"), 1e-9):
        with pytest.raises(MusictagError, match="hop_seconds"):
            tagger.taggram(source, hop_seconds=hop_seconds)


def test_long_songs_go_through_in_batches():
    tagger = make_tagger()
    batches = []
    tagger.network.frontend.register_forward_pre_hook(lambda _module, args: batches.append(len(args[0])))
    tagger.tag((make_song(70.0), RATE))
    assert batches == [128, 12]  # 64 s at once


@pytest.mark.parametrize("rate", [8000, 44100])
def test_any_rate_length_and_number_of_channels(rate, tmp_path):
    tagger = make_tagger()
    for seconds in (0.11, 0.5, 1.3):
        audio = make_song(seconds, channels=2, rate=rate)
        soundfile.write(tmp_path / "song.wav", audio, rate, subtype="FLOAT")
        scores = tagger.tag(tmp_path / "song.wav")
        assert set(scores) == set(tagger.tag_names)
        assert tagger.tag(str(tmp_path / "song.wav")) == scores
        assert tagger.tag((audio.T, rate)) == pytest.approx(scores, abs=1e-6)


def test_a_song_shorter_than_a_patch_is_repeated():
    tagger = make_tagger()
    short = make_song(0.2)
    assert tagger.tag((short, RATE)) == tagger.tag((np.concatenate([short, short, short[:1600]]), RATE))


def test_what_cannot_be_tagged(tmp_path):
    tagger = make_tagger()
    with pytest.raises(MusictagError, match=r"0\.050 s of audio is too short; 0\.1 s"):
        tagger.tag((make_song(0.05), RATE))
    broken = make_song(1.0)
    broken[100] = np.nan
    with pytest.raises(SongError, match="not finite"):
        tagger.tag((broken, RATE))
    with pytest.raises(SongError, match="not found"):
        tagger.tag(tmp_path / "nowhere.wav")
    with pytest.raises(MusictagError, match="cannot tag a ndarray"):
        tagger.tag(make_song(1.0))


def test_tagging_leaves_the_training_state_alone():
    network = make_network().train()
    tagger = NetworkTagger(network)
    network.frontend.eval()  # frozen, say
    running = network.backend.norm1.running_mean.clone()
    first = tagger.tag((make_song(1.0), RATE))
    assert tagger.tag((make_song(1.0), RATE)) == first  # no dropout
    assert (network.training, network.backend.training, network.backend.norm1.training) == (True, True, True)
    assert not any(layer.training for layer in network.frontend.modules())
    assert torch.equal(network.backend.norm1.running_mean, running)
    assert network(torch.zeros(2, 8000)).requires_grad


# loading


def test_a_loaded_tagger_scores_the_same(tmp_path):
    network = make_network(
        frontend={"_target_": "musictag.models.frontends.spectrogram.MusicallyMotivated", "num_filters": 1}
    )
    network.fit_normalisation([torch.from_numpy(make_song(1.0).T)])
    source = (make_song(1.0, seed=1), RATE)
    again = musictag.load(str(save(tmp_path / "tagger.safetensors", network)))
    assert isinstance(again, musictag.Tagger)
    assert not again.network.training
    assert again.network.spec == network.spec
    assert again.tag(source) == NetworkTagger(network).tag(source)
    assert musictag.load(tmp_path).tag(source) == again.tag(source)  # the folder of a run


def test_the_file_says_what_it_is_to_whoever_reads_safetensors(tmp_path):
    write_tagger(tmp_path / "x.safetensors", make_network(), epoch=3, validation={"val_loss": 0.5})
    with safe_open(tmp_path / "x.safetensors", framework="numpy") as file:
        description = json.loads(file.metadata()["musictag"])
        assert set(file.keys()) == set(make_network().state_dict())
    assert description == {
        "format": 1,
        **make_network().spec,
        "sample_rate": RATE,
        "epoch": 3,
        "validation": {"val_loss": 0.5},
        "versions": {"musictag": musictag.__version__, "torch": version("torch")},
    }


def test_weights_that_share_memory_are_written(tmp_path):
    network = make_network()
    network.backend.norm1.bias = network.backend.norm1.weight
    save(tmp_path / "x.safetensors", network)
    loaded = load_network(tmp_path / "x.safetensors").backend.norm1
    assert torch.equal(loaded.bias, network.backend.norm1.weight)


def test_files_that_are_no_tagger(tmp_path):
    with pytest.raises(MusictagError, match="there is no tagger"):
        load(tmp_path / "tagger.safetensors")
    with pytest.raises(MusictagError, match="is a folder without a tagger"):
        load(tmp_path)
    torch.save(make_network().state_dict(), tmp_path / "torch")
    for name, content, message in (
        ("empty", b"", "fewer than eight bytes"),
        ("text", b"hello, world", "not a safetensors file, or its header is too long"),
        ("zip", b"PK\x05\x06" + bytes(18), "PyTorch checkpoint"),
        ("torch", (tmp_path / "torch").read_bytes(), r"PyTorch checkpoint.*the tagger\.safetensors in its folder"),
        ("pickle", b"\x80\x02K\x01......", "not a safetensors file"),
        ("json", b'{"what": 1}', "model of a baseline, which has no network"),
        ("strange", safetensors.torch.save({"x": torch.zeros(2)}), "was not written by musictag"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MusictagError, match="is not a tagger of musictag, or is damaged: .*" + message) as refused:
            load(tmp_path / name)
        assert str(tmp_path / name) in str(refused.value)


def test_damaged_taggers_are_refused(tmp_path):
    whole = save(tmp_path / "tagger.safetensors", make_network()).read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        (tmp_path / "cut.safetensors").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(MusictagError, match="damaged"):
            load(tmp_path / "cut.safetensors")


@pytest.mark.parametrize("where", ["weights", "description"])
def test_a_flipped_bit_is_noticed(tmp_path, where):
    network = make_network()
    content = bytearray(save(tmp_path / "tagger.safetensors", network).read_bytes())
    if where == "weights":
        content[content.find(network.backend.conv1.weight.detach().numpy().tobytes()) + 101] ^= 0x40
    else:
        content[content.find(b"violin")] ^= 0x01
    (tmp_path / "tagger.safetensors").write_bytes(content)
    with pytest.raises(MusictagError, match="checksum"):
        load(tmp_path / "tagger.safetensors")


def test_specs_and_weights_that_do_not_belong_together(tmp_path):
    network = make_network()
    path = tmp_path / "tagger.safetensors"
    state = network.state_dict()
    lacking = {name: value for name, value in state.items() if not name.endswith("output.bias")}
    cases = [
        ({"format": None}, "does not declare its format"),
        ({"format": 2}, "it has format 2, but this version of musictag reads format 1"),
        ({"frontend": "waveform"}, "does not consist of dictionaries"),
        ({"frontend": FRONTEND | {"_target_": "os.system"}}, "classes of musictag"),
        ({"frontend": FRONTEND | {"_target_": 7}}, "dotted name of a class"),
        ({"tags": TAGS[:3]}, r"output\.bias is \(4,\), not \(3,\)"),
        ({"backend": BACKEND | {"filters": 10**9}}, "no such setting is larger"),
        ({"backend": BACKEND | {"filters": -8}}, "cannot be built"),
        ({"tags": 7}, "at least one tag"),
        ({"patch_seconds": float("nan")}, "is not a length"),
        ({"state": lacking}, r"output\.bias is missing"),
        ({"state": state | {"third": torch.zeros(1)}}, "'third' is not known"),
        ({"state": state | {"backend.output.bias": torch.zeros(4).half()}}, "output.bias is torch.float16, not"),
        ({"state": state | {"backend.output.bias": torch.zeros(4, dtype=torch.complex64)}}, "is torch.complex64, not"),
        ({"state": {}}, "and [0-9]+ more"),
    ]
    for changes, message in cases:
        save(path, network, **changes)
        with pytest.raises(MusictagError, match=message) as refused:
            load(path)
        assert str(path) in str(refused.value)
    save(path, network)
    stored = read_tagger(path)
    del stored.description["tags"]
    store_tagger(path, stored.description, stored.state)
    with pytest.raises(MusictagError, match="its description lacks tags"):
        load(path)


def test_device_that_is_not_there(tmp_path):
    with pytest.raises(MusictagError, match="device=cuda:99"):
        load(save(tmp_path / "tagger.safetensors", make_network()), device="cuda:99")


def test_importing_and_loading_needs_no_trainer(tmp_path):
    path = save(tmp_path / "tagger.safetensors", make_network())
    program = (
        "import sys, musictag\n"
        "assert musictag.__version__ and 'torch' not in sys.modules and musictag.MusictagError\n"
        f"assert musictag.load({str(path)!r}).tag_names[0] == 'violin'\n"
        "print([m for m in ('pytorch_lightning', 'lightning', 'hydra', 'omegaconf', 'wandb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=CONF.parent)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_public_names_are_all_there():
    assert set(musictag.__all__) == set(dir(musictag))
    for name in musictag.__all__:
        assert getattr(musictag, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'Taggers'"):
        musictag.Taggers  # noqa: B018
