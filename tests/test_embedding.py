"""Features from inside a tagger: the right numbers, in files that are whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from torch import Tensor, nn

import musictag
from musictag import cli, embedding
from musictag.audio import read_song
from musictag.embedding import Embedder, layers
from musictag.errors import MusictagError, SongError
from musictag.tagger import Tagger

RATE = 16000
TAGS = [{"name": name} for name in ("violin", "drums", "reel")]
WAVEFORM = {"_target_": "musictag.frontends.waveform.SampleLevel", "channels": [8, 8, 8, 8, 8]}
RESIDUAL = {"_target_": "musictag.backends.residual.Residual", "filters": 8, "dense_units": 6}
MUSICNN = {"_target_": "musictag.frontends.musicnn.Musicnn", "timbral_filters": 5, "temporal_filters": 2}
CONNECTED = {"_target_": "musictag.backends.musicnn.DenselyConnected", "filters": 4, "dense_units": 6}
TRANSFORMER = {"_target_": "musictag.backends.self_attention.SelfAttention", "hidden_units": 4, "num_heads": 2}
RECURRENT = {"_target_": "musictag.backends.recurrent.Recurrent"}
LINEAR = {"_target_": "musictag.backends.dense.Dense", "hidden_units": []}


def make_tagger(frontend: dict = WAVEFORM, backend: dict = RESIDUAL) -> Tagger:
    """Weights drawn at random; batch norms as after training: nothing is 0 or 1."""
    torch.manual_seed(0)
    tagger = Tagger(frontend, backend, TAGS, patch_seconds=0.5)
    for layer in tagger.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            for values in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                values.uniform_(0.5, 1.5)
    return tagger


def write_song(path: Path, seconds: float, seed: int = 0) -> str:
    """Noise whose loudness changes, so that patches differ."""
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    soundfile.write(path, noise * np.linspace(0.02, 0.3, len(noise)), RATE, subtype="PCM_16")
    return str(path)


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


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    tagger = make_tagger()
    state = {f"tagger.{name}": value for name, value in tagger.state_dict().items()}
    torch.save({"hyper_parameters": {"tagger": tagger.spec}, "state_dict": state}, tmp_path / "best.ckpt")
    return str(tmp_path / "best.ckpt")


def embed(*words: str) -> int:
    return cli.main(["embed", *words])


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
    with pytest.raises(RuntimeError, match="out of memory"):
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


# the command


@pytest.mark.parametrize("patches", [False, True])
@pytest.mark.parametrize("block_bytes", [1, 1 << 24])
def test_parquet(
    patches: bool, block_bytes: int, checkpoint: str, song: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "BLOCK_BYTES", block_bytes)
    files, out = [song, write_song(tmp_path / "Ünï, [b].wav", 0.3, seed=1)], tmp_path / "new" / "features.parquet"
    assert embed(*files, "--model", checkpoint, "--out", str(out), *(["--patches"] if patches else [])) == 0
    table = pq.read_table(out)
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 6)
    assert table.column_names == (["path", "seconds", "embedding"] if patches else ["path", "embedding"])
    assert pq.ParquetFile(out).num_row_groups == (2 if block_bytes == 1 else 1)
    found = np.array(table["embedding"].to_pylist(), np.float32)
    embedder = Embedder(musictag.load(checkpoint))
    if patches:
        assert table["path"].to_pylist() == [song] * 4 + files[1:]
        assert table["seconds"].to_pylist() == [0, 0.5, 1.0, 1.2, 0]
        np.testing.assert_array_equal(found, np.concatenate([embedder.patches(path)[1] for path in files]))
    else:
        assert table["path"].to_pylist() == files
        np.testing.assert_array_equal(found, [embedder.song(path) for path in files])
    assert json.loads(table.schema.metadata[b"about"]) == {
        "model": checkpoint,
        "model_sha256": hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest(),
        "layer": "penultimate",
        "sample_rate": RATE,
        "patch_seconds": 0.5,
        "musictag": musictag.__version__,
    }
    assert os.listdir(out.parent) == ["features.parquet"]


@pytest.mark.parametrize("patches", [False, True])
def test_npz(patches: bool, checkpoint: str, song: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files, out = [song, write_song(tmp_path / "short.wav", 0.3, seed=1)], tmp_path / "features.npz"
    words = ["--model", checkpoint, "--out", str(out), "--layer", "backend.conv1", *(["--patches"] if patches else [])]
    assert embed(*files, *words) == 0
    songs = "2 songs, 5 patches" if patches else "2 songs"
    assert capsys.readouterr().out == f"{out}: {songs}, 8 numbers each (layer backend.conv1)\n"
    with np.load(out, allow_pickle=False) as arrays:
        embedder = Embedder(musictag.load(checkpoint), "backend.conv1")
        assert arrays["embeddings"].dtype == np.float32
        if patches:
            assert arrays["paths"].tolist() == [song] * 4 + files[1:]
            assert arrays["seconds"].tolist() == [0, 0.5, 1.0, 1.2, 0]
            np.testing.assert_array_equal(arrays["embeddings"][:4], embedder.patches(song)[1])
        else:
            assert set(arrays) == {"paths", "embeddings", "about"}
            assert arrays["paths"].tolist() == files
            np.testing.assert_array_equal(arrays["embeddings"], [embedder.song(path) for path in files])
        assert json.loads(str(arrays["about"]))["layer"] == "backend.conv1"


def test_files_that_cannot_be_read_are_named_and_left_out(
    checkpoint: str, song: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.mp3").write_text("no music")
    latin = os.fsdecode(b"caf\xe9.wav")  # no UTF-8
    files = [str(tmp_path / "broken.mp3"), song, latin, "nowhere.wav"]
    out = tmp_path / "features.parquet"
    assert embed(*files, "--model", checkpoint, "--out", str(out)) == 1
    assert pq.read_table(out)["path"].to_pylist() == [song]
    captured = capfd.readouterr()
    assert captured.out == f"{out}: 1 song, 6 numbers each (layer penultimate)\n"
    assert f"{files[0]}: cannot be read as audio" in captured.err
    assert ".wav: its name is not UTF-8" in captured.err
    assert "nowhere.wav: file not found" in captured.err


@pytest.mark.parametrize("ending", ["parquet", "npz"])
def test_without_a_song_there_is_no_file(
    ending: str, checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / f"features.{ending}"
    assert embed("nowhere.wav", "--model", checkpoint, "--out", str(out)) == 1
    assert f"no file could be embedded, so there is no {out}" in capsys.readouterr().err
    assert os.listdir(out.parent) == []


def test_what_is_refused_before_any_work(
    checkpoint: str, song: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str) -> str:
        assert embed(*words) == 1
        return capsys.readouterr().err

    with monkeypatch.context() as patched:
        patched.setattr(embedding, "load", None)  # not even the model is read
        assert "--out x.csv must end in .parquet or .npz" in refused(song, "--model", checkpoint, "--out", "x.csv")
        message = refused(song, "--model", checkpoint, "--out", song)
        assert "must end in" in message
        (tmp_path / "old.npz").write_text("precious")
        message = refused(song, "--model", checkpoint, "--out", str(tmp_path / "old.npz"))
        assert "old.npz is there already; type another name after --out, or delete it" in message
        assert (tmp_path / "old.npz").read_text() == "precious"
        for words in ([], [song, "--list-layers"]):
            assert "takes the files to embed, or --list-layers" in refused(*words, "--model", checkpoint)
    monkeypatch.chdir(tmp_path)
    assert "no layer backend.conv4; similar names: " in refused(song, "--model", checkpoint, "--layer", "backend.conv4")
    assert "there is no checkpoint x.ckpt" in refused(song, "--model", "x.ckpt")
    assert "song.wav/x.npz cannot be written: " in refused(song, "--model", checkpoint, "--out", f"{song}/x.npz")
    assert sorted(os.listdir(tmp_path)) == ["best.ckpt", "old.npz", "song.wav"]
    with pytest.raises(SystemExit):
        embed(song)


def test_the_list_of_layers(checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert embed("--list-layers", "--model", checkpoint) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["LAYER", "KIND", "A", "PATCH", "BECOMES", "NUMBERS"]
    rows = [line.split() for line in lines]
    assert rows[0] == ["penultimate", "input", "of", "backend.output", "6", "6"]
    frames = musictag.load(checkpoint).frontend.num_frames(8000)
    assert ["frontend", "SampleLevel", f"8×{frames}", "8"] in rows
    assert [row[0] for row in rows] == list(layers(musictag.load(checkpoint))[0])


def test_the_default_file_and_ctrl_c(
    checkpoint: str, song: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir())
    for block_bytes in (1, 1 << 24):  # with and without something in the file that is being written
        with monkeypatch.context() as patched:
            patched.setattr(embedding, "BLOCK_BYTES", block_bytes)
            patched.setattr(Embedder, "patches", interrupted_at("other.wav"))
            assert embed(song, "other.wav", "--model", checkpoint) == 130
        message = capsys.readouterr().err
        assert "embedding: stopped after 1 of 2 songs; nothing was written" in message
        assert "musictag: interrupted; nothing was written" in message
        assert sorted(os.listdir()) == before
    assert embed(song, "--model", checkpoint) == 0
    assert pq.read_table("embeddings.parquet").num_rows == 1


def interrupted_at(name: str):
    whole = Embedder.patches

    def patches(embedder: Embedder, source: str) -> tuple[np.ndarray, np.ndarray]:
        if source == name:
            raise KeyboardInterrupt
        return whole(embedder, source)

    return patches
