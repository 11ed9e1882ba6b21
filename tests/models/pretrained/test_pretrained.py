"""Published weights: the real wheel (if pip can download it), and synthetic wheels of the same form."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import musictag
from musictag.cli import main
from musictag.common.errors import MusictagError
from musictag.inference.embedding import _in_seconds
from musictag.inference.over_patches import in_memory
from musictag.models.backends.dense import Dense
from musictag.models.checkpoint import read_tagger
from musictag.models.network import TaggingNetwork
from musictag.models.pretrained import PRETRAINED, cached, locate
from musictag.models.pretrained import musicnn as pretrained
from musictag.models.pretrained.obtain import obtain
from tests.helpers.clip import RATE, clip
from tests.helpers.models import SMALL_MULTIPLIER, SMALL_UNITS, as_trained, num_parameters
from tests.helpers.tensorflow_files import tensorflow_files
from tests.models.test_parity import draw

#: Output of musicnn's own code and librosa for clip(); the file says how it was made.
REFERENCE = json.loads((Path(__file__).parents[2] / "reference" / "clip.json").read_text())
TAGS = ["guitar", "no vocals", "drums"]
#: Parameters for 50 tags, counted in the published graphs; the two of an architecture have the same.
PARAMETERS = {"musicnn": 787_159, "vgg": 605_748}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("musictag.models.pretrained.user_cache_path", lambda *_, **__: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published architectures with few filters and units: checksums of large files take seconds here."""
    few_filters = {"filter_multiplier": SMALL_MULTIPLIER}
    few_units = {"musicnn": {"filters": SMALL_UNITS, "dense_units": SMALL_UNITS}, "vgg": {}}
    for name, parts in pretrained._ARCHITECTURES.items():
        small = {"frontend": parts["frontend"] | few_filters, "backend": parts["backend"] | few_units[name]}
        monkeypatch.setitem(pretrained._ARCHITECTURES, name, small)


@pytest.fixture(scope="session")
def published_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return pretrained._checked(pretrained._download(tmp_path_factory.mktemp("wheel")))
    except MusictagError as error:
        pytest.skip(f"the published weights cannot be had here: {error}")


def network_of(name: str) -> TaggingNetwork:
    architecture = pretrained._ARCHITECTURES[PRETRAINED[name].architecture]
    torch.manual_seed(1)
    tagger = TaggingNetwork(
        **architecture, tags=[{"name": tag} for tag in TAGS], patch_seconds=pretrained.PATCH_SECONDS
    )
    as_trained(tagger)
    return tagger.eval()


def variables_of(tagger: TaggingNetwork) -> dict[str, np.ndarray]:
    """What TensorFlow would have saved: kernels (time, frequency, in, out), dense ones (time and channels, out)."""
    variables: dict[str, np.ndarray] = {"beta1_power": np.float32(0.5) * np.ones((), np.float32)}
    counts = {"conv": 0, "dense": 0, "norm": 0}

    def name(kind: str, stem: str) -> str:
        counts[kind] += 1
        return stem if counts[kind] == 1 else f"{stem}_{counts[kind] - 1}"

    for layer in tagger.modules():
        if isinstance(layer, nn.Linear):
            key, kernel = name("dense", "dense"), layer.weight.detach()
            if isinstance(tagger.backend, Dense):
                channels = tagger.frontend.out_channels
                kernel = kernel.unflatten(1, (channels, -1)).transpose(1, 2).flatten(1)
            kernel = kernel.T
        elif isinstance(layer, nn.Conv2d):
            vgg = layer.kernel_size == (3, 3)
            counts["conv"] += vgg
            key = f"{counts['conv']}CNN" if vgg else name("conv", "conv2d")
            kernel = layer.weight.detach().permute(3, 2, 1, 0)
        elif isinstance(layer, nn.Conv1d):
            key, kernel = name("conv", "conv2d"), layer.weight.detach().permute(2, 1, 0).unsqueeze(2)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            key = name("norm", "batch_normalization")
            fields = {"gamma": layer.weight, "beta": layer.bias, "moving_mean": layer.running_mean}
            fields["moving_variance"] = layer.running_var
            variables |= {f"{key}/{field}": value.detach().numpy() for field, value in fields.items()}
            continue
        else:
            continue
        variables |= {f"{key}/kernel": kernel.numpy(), f"{key}/bias": layer.bias.detach().numpy()}
    adam = {f"{key}/Adam": np.zeros_like(value) for key, value in variables.items()}
    return variables | adam


def write_wheel(path: Path, name: str, variables: dict[str, np.ndarray], labels: list[str] | None = None) -> Path:
    index, data = tensorflow_files(variables)
    architecture, dataset = name.upper().split("-")
    folder = f"{dataset}_{architecture.lower()}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"musicnn/{folder}/.index", index)
        archive.writestr(f"musicnn/{folder}/.data-00000-of-00001", data)
        code = f"import os\nos.abort()\nSR = 16000\n{dataset}_LABELS = {labels or TAGS!r}\n"
        archive.writestr("musicnn/configuration.py", code)
        archive.writestr(pretrained.LICENCE_FILE, "Permission is granted")
    return path


@pytest.mark.parametrize("name", PARAMETERS)
def test_sizes_are_the_published_ones(name):
    tags = [{"name": f"tag {i}"} for i in range(50)]
    with torch.device("meta"):
        tagger = TaggingNetwork(**pretrained._ARCHITECTURES[name], tags=tags, patch_seconds=pretrained.PATCH_SECONDS)
    assert num_parameters(tagger) == PARAMETERS[name]


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("name", PRETRAINED)
def test_a_wheel_becomes_a_tagger_that_goes_by_name(name, tmp_path, monkeypatch):
    original = network_of(name)
    wheel = write_wheel(tmp_path / "own.whl", name, variables_of(original))
    monkeypatch.setattr(pretrained, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert obtain([name], wheel) == {name: cached(name)}
    tagger = musictag.load(name)
    assert tagger.tag_names == tuple(TAGS)
    waveform = 0.1 * torch.randn(2, original.input_samples)
    with torch.inference_mode():
        torch.testing.assert_close(tagger.network(waveform), original(waveform))
    assert read_tagger(cached(name)).description["licence"] == "Permission is granted"
    wheel.unlink()
    obtain([name], wheel)  # it exists: nothing is read


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("name", ["musicnn-mtt", "vgg-msd"])
def test_other_contents_are_refused(name, tmp_path):
    variables = variables_of(network_of(name))
    convolution = "1CNN" if "vgg" in name else "conv2d"
    wrong = {
        "there is no float32 variable dense/bias": {k: v for k, v in variables.items() if k != "dense/bias"},
        "there is no float32 variable that is missing/": {k: v for k, v in variables.items() if "dense" not in k},
        "layer dense": variables | {"dense/kernel": variables["dense/kernel"][:-1]},
        f"layer {convolution}": variables | {f"{convolution}/bias": variables[f"{convolution}/bias"][:-1]},
        "more layers than expected: dense_7": variables | {"dense_7/kernel": np.ones((2, 2), np.float32)},
    }
    for reason, content in wrong.items():
        with pytest.raises(MusictagError, match=f"does not contain {name} as it was published: {reason}"):
            pretrained.convert(write_wheel(tmp_path / "own.whl", name, content), name)
    with pytest.raises(MusictagError, match="duplicate tags"):
        pretrained.convert(write_wheel(tmp_path / "own.whl", name, variables, ["a", "b", "a"]), name)
    with pytest.raises(MusictagError, match="no list M"):
        pretrained.convert(write_wheel(tmp_path / "own.whl", name, variables, [1, 2, 3]), name)
    with zipfile.ZipFile(tmp_path / "empty.whl", "w"):
        pass
    with pytest.raises(MusictagError, match="does not contain"):
        pretrained.convert(tmp_path / "empty.whl", name)


def test_a_damaged_wheel_leaves_nothing_behind(tmp_path, capsys):
    wheel = write_wheel(tmp_path / "own.whl", "musicnn-mtt", {})
    assert main(["pretrained", "musicnn-mtt", "--file", str(wheel)]) == 1
    message = capsys.readouterr().err
    assert "is damaged, or not" in message
    assert pretrained.WHEEL_SHA256 in message
    assert main(["pretrained", "musicnn-mtt", "--file", str(tmp_path / "nowhere.whl")]) == 1
    assert "cannot be read: No such file" in capsys.readouterr().err
    assert not cached("musicnn-mtt").exists()


def test_without_a_network_the_message_says_what_to_do(monkeypatch, capsys):
    for variable in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9/simple")
    for variable in ("PIP_NO_CACHE_DIR", "PIP_NO_INDEX"):
        monkeypatch.setenv(variable, "1")
    assert main(["pretrained", "vgg-mtt"]) == 1
    message = capsys.readouterr().err
    assert "is there a network?" in message
    assert "--file musicnn-0.1.0-py3-none-any.whl" in message


def test_names_and_files(tmp_path, capsys):
    with pytest.raises(MusictagError, match="run once, with internet access: musictag pretrained vgg-msd"):
        locate("vgg-msd")
    with pytest.raises(MusictagError, match="Pretrained models go by name: musicnn-mtt, "):
        locate("musicnn")
    with pytest.raises(MusictagError, match=r"did you mean musicnn-mtt\?"):
        locate("musicnn-mmt")
    with pytest.raises(MusictagError, match=r"is a folder without a tagger"):
        locate(tmp_path)
    (tmp_path / "vgg-msd").touch()
    assert locate(tmp_path / "vgg-msd") == tmp_path / "vgg-msd"
    assert main(["pretrained", "musicnn"]) == 1
    assert "there is no pretrained model musicnn; there are musicnn-mtt, " in capsys.readouterr().err


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_published_weights(name, published_wheel):
    obtain([name], published_wheel)
    tagger = musictag.load(name)
    assert len(tagger.tags) == 50
    assert num_parameters(tagger.network) == PARAMETERS[PRETRAINED[name].architecture]
    assert "Universitat Pompeu Fabra" in read_tagger(cached(name)).description["licence"]


# a clip, against numbers that the published package's own code gave for it


def test_the_log_mel_of_a_clip_is_librosas() -> None:
    """Patch by patch with the song around it, at the published settings: the frames of the whole clip."""
    expected = REFERENCE["log_mel"]
    network = network_of("musicnn-mtt")
    log_mel = network.frontend.log_mel
    _, patches = in_memory(_in_seconds(network, log_mel), clip())
    assert patches.shape == (5, 96, 187)
    consecutive = np.concatenate(patches[:4], axis=1)
    chosen = [frame for frame in expected["frames"] if frame < consecutive.shape[1]]
    values = np.array(expected["values"])
    assert len(chosen) == 11
    np.testing.assert_allclose(consecutive[:, chosen].T, values[:11], rtol=0, atol=5e-5)
    # in one piece, up to the last frame
    audio = np.pad(clip(), log_mel.margin_samples).astype(np.float32) / 32768
    whole = log_mel(torch.from_numpy(audio)[None])[0].numpy()
    assert whole.shape[1] == expected["num_frames"] - 1  # half of librosa's last frame lies beyond the end
    np.testing.assert_allclose(whole[:, expected["frames"]].T, values, rtol=0, atol=5e-5)
    assert values.max() > 4  # so that the tolerance means something
    assert values[0].max() == 0


@pytest.mark.parametrize("name", REFERENCE["drawn"])
def test_drawn_weights_give_the_logits_of_the_published_graphs(name: str, tmp_path: Path) -> None:
    """Without a network: a wheel with the variables that the authors' graph was given, and the clip."""
    expected = REFERENCE["drawn"][name]
    variables = {
        key: np.asarray(draw(expected["seed"], i, key, shape)) for i, (key, shape) in enumerate(expected["variables"])
    }
    wheel = write_wheel(tmp_path / "own.whl", name, variables, [f"tag {k}" for k in range(50)])
    network, _ = pretrained.convert(wheel, name)
    _, logits = in_memory(_in_seconds(network, network), clip())
    assert logits.shape == (5, 50)
    np.testing.assert_allclose(logits[:4], expected["logits"], rtol=0, atol=2e-4)
    spread = np.std(expected["logits"], axis=0)
    assert spread.min() > 0.1  # every tag's logits differ far more than that between the parts of the clip


@pytest.mark.parametrize("name", PRETRAINED)
def test_taggrams_are_those_of_the_published_package(name: str, published_wheel: Path) -> None:
    """To 2e-5 if its graph gets the same spectrogram; the package itself rounds that to float16 (1e-4 here)."""
    obtain([name], published_wheel)
    expected = REFERENCE["taggrams"][name]
    taggram = musictag.load(name).taggram((clip().astype(np.float32) / 32768, RATE))
    assert list(taggram.tags) == expected["tags"]
    assert taggram.scores.shape == (5, 50)  # musicnn leaves out what does not fill a patch at the end
    assert np.abs(taggram.scores[:4] - expected["exact"]).max() < 2e-5
    difference = np.abs(taggram.scores[:4] - expected["rounded"])
    assert difference.max() < 2e-4
    assert difference.mean() < 1e-5
