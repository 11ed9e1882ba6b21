"""The Tagger: made from plain dictionaries, tagging audio of any length, loaded without surprises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

import musictag
from musictag.common.errors import MusictagError, SongError
from musictag.data.audio.decode import read_song
from musictag.inference.network_tagger import NetworkTagger
from musictag.models import inference_form
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


def test_with_a_hop_the_song_is_the_mean_over_patches_with_gaps():
    tagger, heard = make_tagger(), []
    tagger.network.backend.register_forward_pre_hook(lambda _module, args: heard.append(len(args[0])))
    sources = [(make_song(seconds, seed), RATE) for seed, seconds in enumerate((7.2, 0.3, 0.5, 61.0))]
    expected = [tagger.taggram(source, hop_seconds=3).scores.mean(0) for source in sources]
    consecutive = tagger.tag(sources[0])
    heard.clear()
    tagger.set_hop(3.0)
    found = [song.tags for song in tagger.tag_many(sources)]
    assert sum(heard) == 4 + 1 + 1 + 22  # at 0, 3, 6 and 6.7 s of the first song
    for scores, tags, source in zip(expected, found, sources, strict=True):
        assert tags == pytest.approx(dict(zip(tagger.tag_names, scores, strict=True)), abs=1e-6)
        assert tagger.tag(source) == pytest.approx(tags, abs=1e-6)
    assert found[0] != pytest.approx(consecutive, abs=1e-4)
    for hop_seconds in (0, -1, float("inf"), float("nan"), 1e-9):
        with pytest.raises(MusictagError, match="hop_seconds"):
            tagger.set_hop(hop_seconds)


def test_long_songs_go_through_in_batches():
    tagger = make_tagger()
    batches = []
    tagger.network.backend.register_forward_pre_hook(lambda _module, args: batches.append(len(args[0])))
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


def test_a_song_in_bfloat16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Scores and penultimate features; the tolerance is that of docs/tagging.md."""
    song, path = (make_song(1.3), RATE), save(tmp_path / "tagger.safetensors", make_network())
    monkeypatch.setattr(inference_form, "has_bfloat16", lambda _device: True)
    exact, fast = (musictag.load(path, precision=precision) for precision in ("32-true", "bf16-mixed"))
    assert fast.tag(song) == pytest.approx(exact.tag(song), abs=0.03)
    assert fast.tag(song) != exact.tag(song)
    assert fast.embed(song) == pytest.approx(exact.embed(song), abs=0.03 * float(np.abs(exact.embed(song)).max()))
    assert not np.array_equal(fast.embed(song), exact.embed(song))
    with pytest.raises(MusictagError, match="only penultimate can be had in bfloat16"):
        fast.embed(song, "frontend")
    monkeypatch.setattr(inference_form, "has_bfloat16", lambda _device: False)
    with pytest.raises(MusictagError, match="no instructions for bfloat16"):
        musictag.load(path, precision="bf16-mixed")
