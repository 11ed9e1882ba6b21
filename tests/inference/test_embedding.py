"""Features from inside a tagger: the right numbers, of the layers that there are."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from musictag.common.errors import MusictagError, SongError
from musictag.data.audio.decode import read_song
from musictag.inference.embedding import Embedder, layers
from musictag.inference.network_tagger import NetworkTagger
from musictag.models.network import TaggingNetwork
from tests.helpers.embeddings import (
    CONNECTED,
    LINEAR,
    MUSICNN,
    RATE,
    RECURRENT,
    RESIDUAL,
    TRANSFORMER,
    make_network,
    write_song,
)


def patches_of(path: str) -> Tensor:
    """The patches of half a second, by hand: one after the other, the last ends with the song."""
    samples = torch.from_numpy(read_song(path, RATE).astype(np.float32) / 32768)
    starts = [*range(0, len(samples) - 8000 + 1, 8000)]
    if starts[-1] + 8000 < len(samples):
        starts.append(len(samples) - 8000)
    return torch.stack([samples[start : start + 8000] for start in starts])


def hooks(network: TaggingNetwork) -> int:
    """How many there are, of the kinds that embedding could leave behind."""
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules())


@pytest.fixture
def song(tmp_path: Path) -> str:
    return write_song(tmp_path / "song.wav", 1.7)


# the numbers


@pytest.mark.parametrize("backend", [RESIDUAL, CONNECTED, TRANSFORMER, RECURRENT, LINEAR])
@torch.inference_mode()
def test_the_last_layer_makes_the_scores_out_of_penultimate_features(backend: dict, song: str) -> None:
    network = make_network(backend=backend)
    times, features = Embedder(network).patches(song)
    assert features.shape == (4, network.backend.output.in_features)
    assert features.dtype == np.float32
    np.testing.assert_allclose(times, [0, 0.5, 1.0, 1.2])
    scores = network.backend.output(torch.from_numpy(features)).sigmoid()
    np.testing.assert_allclose(scores, NetworkTagger(network).taggram(song).scores, atol=1e-6)


def test_a_song_is_the_mean_of_its_patches(song: str) -> None:
    network = make_network().train()
    _, features = Embedder(network).patches(song)
    assert np.ptp(features, axis=0).max() > 1e-3  # patches differ
    whole = NetworkTagger(network).embed(song)
    assert (whole.shape, whole.dtype) == ((6,), np.float32)
    np.testing.assert_allclose(whole, features.mean(axis=0), atol=1e-6)
    samples, rate = soundfile.read(song, dtype="float32")
    np.testing.assert_allclose(NetworkTagger(network).embed((samples, rate)), whole, atol=1e-4)
    assert network.training  # and no dropout meanwhile:
    np.testing.assert_array_equal(NetworkTagger(network).embed(song), whole)


@torch.inference_mode()
def test_layers_by_name_are_means_over_time_and_frequency(song: str) -> None:
    network = make_network(MUSICNN, CONNECTED).eval()
    patches = patches_of(song)
    spectrogram = network.frontend.spectrogram(patches)
    features = network.frontend(patches)
    first = network.backend.convolutions[0](features)
    second = network.backend.convolutions[1](first)
    image = nn.functional.pad(spectrogram.unsqueeze(1), (3, 3))
    expected = {
        "frontend": features.mean(2),
        "frontend.log_mel": network.frontend.log_mel(patches).mean(2),
        "frontend.timbral.0": network.frontend.timbral[0](image).mean((2, 3)),
        "backend.convolutions.1": second.mean(2),
        "backend": network(patches),
    }
    for layer, rows in expected.items():
        np.testing.assert_allclose(Embedder(network, layer).patches(song)[1], rows, rtol=1e-4, atol=1e-5, err_msg=layer)
        np.testing.assert_allclose(
            NetworkTagger(network).embed(song, layer), rows.mean(0), rtol=1e-4, atol=1e-5, err_msg=layer
        )


@torch.inference_mode()
def test_what_a_transformer_says_of_each_frame_is_averaged_over_the_frames(song: str) -> None:
    network = make_network(backend=TRANSFORMER).eval()
    patches = patches_of(song)
    frames = network.backend.projection(network.frontend(patches))
    layer = layers(network)[0]["backend.encoder.0.widen"]
    assert (layer.size, layer.shape) == (16, (frames.shape[2] + 1, 16))  # and the token
    seen = []
    network.backend.encoder[0].widen.register_forward_hook(lambda _layer, _inputs, output: seen.append(output))
    network(patches)
    np.testing.assert_allclose(Embedder(network, layer.name).patches(song)[1], seen[0].mean(1), atol=1e-6)


def test_features_that_are_changed_in_place_afterwards_are_those_before(song: str) -> None:
    network = make_network(backend={"_target_": "musictag.models.backends.dense.Dense", "hidden_units": [4]})
    expected = NetworkTagger(network).embed(song, "backend.hidden.0")
    assert expected.min() < 0
    network.backend.hidden[1].inplace = True
    np.testing.assert_array_equal(NetworkTagger(network).embed(song, "backend.hidden.0"), expected)


def test_long_songs_go_through_in_batches(tmp_path: Path) -> None:
    network = make_network()
    batches = []
    network.backend.register_forward_pre_hook(lambda _module, inputs: batches.append(len(inputs[0])))
    times, features = Embedder(network).patches(write_song(tmp_path / "long.wav", 70))
    assert batches == [128, 12]  # 64 s at once
    assert (len(times), features.shape) == (140, (140, 6))


@torch.inference_mode()
def test_the_published_features_of_musicnn_are_where_the_documentation_says(song: str) -> None:
    network = make_network(MUSICNN, CONNECTED).eval()
    patches = patches_of(song)
    image = network.frontend.spectrogram(patches).unsqueeze(1)
    branches = [*network.frontend.timbral, *network.frontend.temporal]
    edges = [((width - 1) // 2, width // 2) for width in (layer[0].kernel_size[1] for layer in branches)]
    published = [layer(nn.functional.pad(image, edge)).amax(2) for layer, edge in zip(branches, edges, strict=True)]
    timbral, temporal = torch.cat(published[:2], 1), torch.cat(published[2:], 1)
    features = torch.cat(published, 1)
    cnn1 = network.backend.convolutions[0](features)
    cnn2 = network.backend.convolutions[1](cnn1) + cnn1
    cnn3 = network.backend.convolutions[2](cnn2) + cnn2
    together = torch.cat([features, cnn1, cnn2, cnn3], 1)

    def rows(layer: str) -> np.ndarray:
        return Embedder(network, layer).patches(song)[1]

    parts = [rows(f"backend.convolutions.{i}") for i in range(3)]
    norm = network.backend.summary_norm
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
    usable, refused = layers(make_network(MUSICNN, CONNECTED))
    assert next(iter(usable)) == "penultimate"
    assert usable["penultimate"].size == 6
    assert (usable["frontend"].shape, usable["frontend"].size, usable["frontend"].kind) == ((16, 32), 16, "Musicnn")
    assert usable["frontend.timbral.0"].shape == (5, 59, 32)
    assert usable["backend.summary_norm"].shape == (2 * (16 + 3 * 4),)
    assert refused == {
        "frontend.timbral": "its forward method is never called",
        "frontend.temporal": "its forward method is never called",
        "backend.convolutions": "its forward method is never called",
        "backend.dropout": "it is used 2 times per patch",
    }
    assert layers(make_network(backend=RECURRENT))[1]["backend.recurrent"] == "it returns a tuple, not a tensor"


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

    network = make_network()
    network.backend.conv1 = Wrapped(network.backend.conv1, Folded(), Turned())
    refused = layers(network)[1]
    assert "neither B×H, B×C×T nor B×C×F×T" in refused["backend.conv1.others.0"]
    assert "with time where the channels should be" in refused["backend.conv1.others.1"]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("frontend.timbral", "cannot be embedded: its forward method is never called; to list all layers"),
        ("backend.dropout", "it is used 2 times per patch"),
        ("backend.convolution.2", r"no layer backend.convolution.2; similar names: backend.convolutions.2, "),
        ("qqq", r"this model has no layer qqq; to list all .*: musictag embed --model MODEL --list-layers"),
        ("", "this model has no layer ;"),
    ],
)
def test_layers_that_cannot_be_embedded(layer: str, message: str) -> None:
    with pytest.raises(MusictagError, match=message):
        Embedder(make_network(MUSICNN, CONNECTED), layer)


def test_a_last_layer_that_hears_frames_is_no_penultimate_layer(song: str) -> None:
    network = make_network()
    network.backend.forward = lambda features: network.backend.output(features.transpose(1, 2)[:, :, :6]).mean(1)
    with pytest.raises(MusictagError, match="penultimate of this model does not return one vector per patch"):
        NetworkTagger(network).embed(song)
    assert hooks(network) == 0


@pytest.mark.parametrize("layer", ["penultimate", "backend.conv1"])
def test_no_hook_stays(layer: str, song: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_network()
    embedder = Embedder(network, layer)
    assert hooks(network) == 0
    embedder.song(song)
    assert hooks(network) == hooks(embedder._runs) == 0

    def fails(layer: nn.Linear, features: Tensor) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(nn.Linear, "forward", fails)
    with pytest.raises(MusictagError, match="this network needs more memory than is available"):
        embedder.song(song)
    with pytest.raises(RuntimeError, match="out of memory"):
        layers(network)
    assert hooks(network) == hooks(embedder._runs) == 0


def test_what_cannot_be_heard(tmp_path: Path) -> None:
    network = make_network()
    with pytest.raises(MusictagError, match="too short"):
        NetworkTagger(network).embed((np.full(800, 0.1), RATE))
    with pytest.raises(SongError, match="not found"):
        NetworkTagger(network).embed(tmp_path / "nowhere.wav")
