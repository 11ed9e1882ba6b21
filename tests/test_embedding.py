"""Features from inside a tagger: the right numbers, of the layers that there are."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from musictag.tagger import Tagger
from torch import Tensor, nn

from musictag.audio import read_song
from musictag.embedding import Embedder, layers
from musictag.errors import MusictagError, SongError

from .embeddings import CONNECTED, LINEAR, MUSICNN, RATE, RECURRENT, RESIDUAL, TRANSFORMER, make_tagger, write_song


def patches_of(path: str) -> Tensor:
    """The patches of half a second, by hand: one after the other, the last ends with the song."""
    samples = torch.from_numpy(read_song(path, RATE).astype(np.float32) / 32768)
    starts = [*range(0, len(samples) - 8000 + 1, 8000)]
    if starts[-1] + 8000 < len(samples):
        starts.append(len(samples) - 8000)
    return torch.stack([samples[start : start + 8000] for start in starts])


def hooks(tagger: Tagger) -> int:
    """How many there are, of the kinds that embedding could leave behind."""
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in tagger.modules())


@pytest.fixture
def song(tmp_path: Path) -> str:
    return write_song(tmp_path / "song.wav", 1.7)


# the numbers


@pytest.mark.parametrize("backend", [RESIDUAL, CONNECTED, TRANSFORMER, RECURRENT, LINEAR])
@torch.inference_mode()
def test_the_last_layer_makes_the_scores_out_of_penultimate_features(backend: dict, song: str) -> None:
    tagger = make_tagger(backend=backend)
    times, features = Embedder(tagger).patches(song)
    assert features.shape == (4, tagger.backend.output.in_features)
    assert features.dtype == np.float32
    np.testing.assert_allclose(times, [0, 0.5, 1.0, 1.2])
    scores = tagger.backend.output(torch.from_numpy(features)).sigmoid()
    np.testing.assert_allclose(scores, tagger.taggram(song).scores, atol=1e-6)


def test_a_song_is_the_mean_of_its_patches(song: str) -> None:
    tagger = make_tagger().train()
    _, features = Embedder(tagger).patches(song)
    assert np.ptp(features, axis=0).max() > 1e-3  # patches differ
    whole = tagger.embed(song)
    assert (whole.shape, whole.dtype) == ((6,), np.float32)
    np.testing.assert_allclose(whole, features.mean(axis=0), atol=1e-6)
    samples, rate = soundfile.read(song, dtype="float32")
    np.testing.assert_allclose(tagger.embed((samples, rate)), whole, atol=1e-4)
    assert tagger.training  # and no dropout meanwhile:
    np.testing.assert_array_equal(tagger.embed(song), whole)


@torch.inference_mode()
def test_layers_by_name_are_means_over_time_and_frequency(song: str) -> None:
    tagger = make_tagger(MUSICNN, CONNECTED).eval()
    patches = patches_of(song)
    spectrogram = tagger.frontend.spectrogram(patches)
    features = tagger.frontend(patches)
    first = tagger.backend.convolutions[0](features)
    second = tagger.backend.convolutions[1](first)
    image = nn.functional.pad(spectrogram.unsqueeze(1), (3, 3))
    expected = {
        "frontend": features.mean(2),
        "frontend.log_mel": tagger.frontend.log_mel(patches).mean(2),
        "frontend.timbral.0": tagger.frontend.timbral[0](image).mean((2, 3)),
        "backend.convolutions.1": second.mean(2),
        "backend": tagger(patches),
    }
    for layer, rows in expected.items():
        np.testing.assert_allclose(Embedder(tagger, layer).patches(song)[1], rows, rtol=1e-4, atol=1e-5, err_msg=layer)
        np.testing.assert_allclose(tagger.embed(song, layer), rows.mean(0), rtol=1e-4, atol=1e-5, err_msg=layer)


@torch.inference_mode()
def test_what_a_transformer_says_of_each_frame_is_averaged_over_the_frames(song: str) -> None:
    tagger = make_tagger(backend=TRANSFORMER).eval()
    patches = patches_of(song)
    frames = tagger.backend.projection(tagger.frontend(patches))
    layer = layers(tagger)[0]["backend.encoder.0.widen"]
    assert (layer.size, layer.shape) == (16, (frames.shape[2] + 1, 16))  # and the token
    seen = []
    tagger.backend.encoder[0].widen.register_forward_hook(lambda _layer, _inputs, output: seen.append(output))
    tagger(patches)
    np.testing.assert_allclose(Embedder(tagger, layer.name).patches(song)[1], seen[0].mean(1), atol=1e-6)


def test_features_that_are_changed_in_place_afterwards_are_those_before(song: str) -> None:
    tagger = make_tagger(backend={"_target_": "musictag.backends.dense.Dense", "hidden_units": [4]})
    expected = tagger.embed(song, "backend.hidden.0")
    assert expected.min() < 0
    tagger.backend.hidden[1].inplace = True
    np.testing.assert_array_equal(tagger.embed(song, "backend.hidden.0"), expected)


def test_long_songs_go_through_in_batches(tmp_path: Path) -> None:
    tagger = make_tagger()
    batches = []
    tagger.frontend.register_forward_pre_hook(lambda _module, inputs: batches.append(len(inputs[0])))
    times, features = Embedder(tagger).patches(write_song(tmp_path / "long.wav", 70))
    assert batches == [128, 12]  # 64 s at once
    assert (len(times), features.shape) == (140, (140, 6))


@torch.inference_mode()
def test_the_published_features_of_musicnn_are_where_the_documentation_says(song: str) -> None:
    tagger = make_tagger(MUSICNN, CONNECTED).eval()
    patches = patches_of(song)
    image = tagger.frontend.spectrogram(patches).unsqueeze(1)
    branches = [*tagger.frontend.timbral, *tagger.frontend.temporal]
    edges = [((width - 1) // 2, width // 2) for width in (layer[0].kernel_size[1] for layer in branches)]
    published = [layer(nn.functional.pad(image, edge)).amax(2) for layer, edge in zip(branches, edges, strict=True)]
    timbral, temporal = torch.cat(published[:2], 1), torch.cat(published[2:], 1)
    features = torch.cat(published, 1)
    cnn1 = tagger.backend.convolutions[0](features)
    cnn2 = tagger.backend.convolutions[1](cnn1) + cnn1
    cnn3 = tagger.backend.convolutions[2](cnn2) + cnn2
    together = torch.cat([features, cnn1, cnn2, cnn3], 1)

    def rows(layer: str) -> np.ndarray:
        return Embedder(tagger, layer).patches(song)[1]

    parts = [rows(f"backend.convolutions.{i}") for i in range(3)]
    norm = tagger.backend.summary_norm
    pools = (rows("backend.summary_norm") - norm.bias.numpy()) / norm.weight.numpy()
    pools = pools * (norm.running_var + norm.eps).sqrt().numpy() + norm.running_mean.numpy()
    same = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    same(rows("frontend")[:, :10], timbral.mean(2))
    same(rows("frontend")[:, 10:], temporal.mean(2))
    same(parts[0], cnn1.mean(2))
    same(parts[0] + parts[1], cnn2.mean(2))
    same(sum(parts), cnn3.mean(2))
    same(pools[:, 0::2], together.amax(2))
    same(pools[:, 1::2], together.mean(2))


# the layers


def test_layers_are_listed_and_others_have_a_reason() -> None:
    usable, refused = layers(make_tagger(MUSICNN, CONNECTED))
    assert next(iter(usable)) == "penultimate"
    assert usable["penultimate"].size == 6
    assert (usable["frontend"].shape, usable["frontend"].size, usable["frontend"].kind) == ((16, 32), 16, "Musicnn")
    assert usable["frontend.timbral.0"].shape == (5, 59, 32)
    assert usable["backend.summary_norm"].shape == (2 * (16 + 3 * 4),)
    assert refused == {
        "frontend.timbral": "nothing goes through it as a whole",
        "frontend.temporal": "nothing goes through it as a whole",
        "backend.convolutions": "nothing goes through it as a whole",
        "backend.dropout": "it is used 2 times a patch",
    }
    assert layers(make_tagger(backend=RECURRENT))[1]["backend.recurrent"] == "it returns a tuple, not a tensor"


def test_tensors_of_another_form_are_refused() -> None:
    class Folded(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return features.flatten(0, 1)

    class Turned(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return features.transpose(1, 2).unsqueeze(2)

    class Wrapped(nn.Module):
        def __init__(self, inside: nn.Module, *others: nn.Module):
            super().__init__()
            self.inside, self.others = inside, nn.ModuleList(others)

        def forward(self, features: Tensor) -> Tensor:
            for other in self.others:
                other(features)
            return self.inside(features)

    tagger = make_tagger()
    tagger.backend.conv1 = Wrapped(tagger.backend.conv1, Folded(), Turned())
    refused = layers(tagger)[1]
    assert "neither B×H, B×C×T nor B×C×F×T" in refused["backend.conv1.others.0"]
    assert "with time where the channels should be" in refused["backend.conv1.others.1"]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("frontend.timbral", "cannot be embedded: nothing goes through it as a whole; all that can be asked for"),
        ("backend.dropout", "it is used 2 times a patch"),
        ("backend.convolution.2", r"no layer backend.convolution.2; similar names: backend.convolutions.2, "),
        ("qqq", r"this model has no layer qqq; all .*: musictag embed --model MODEL --list-layers"),
        ("", "this model has no layer ;"),
    ],
)
def test_layers_that_cannot_be_embedded(layer: str, message: str) -> None:
    with pytest.raises(MusictagError, match=message):
        Embedder(make_tagger(MUSICNN, CONNECTED), layer)


def test_a_last_layer_that_hears_frames_is_no_penultimate_layer(song: str) -> None:
    tagger = make_tagger()
    tagger.backend.forward = lambda features: tagger.backend.output(features.transpose(1, 2)[:, :, :6]).mean(1)
    with pytest.raises(MusictagError, match="penultimate of this model does not give one row of numbers a patch"):
        tagger.embed(song)
    assert hooks(tagger) == 0


@pytest.mark.parametrize("layer", ["penultimate", "backend.conv1"])
def test_no_hook_stays(layer: str, song: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tagger = make_tagger()
    embedder = Embedder(tagger, layer)
    assert hooks(tagger) == 0
    embedder.song(song)
    assert hooks(tagger) == 0

    def fails(features: Tensor) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(tagger.backend.dense, "forward", fails)
    with pytest.raises(MusictagError, match="this network needs more memory than there is"):
        embedder.song(song)
    with pytest.raises(RuntimeError, match="out of memory"):
        layers(tagger)
    assert hooks(tagger) == 0


def test_what_cannot_be_heard(tmp_path: Path) -> None:
    tagger = make_tagger()
    with pytest.raises(MusictagError, match="too short"):
        tagger.embed((np.full(800, 0.1), RATE))
    with pytest.raises(SongError, match="not found"):
        tagger.embed(tmp_path / "nowhere.wav")
