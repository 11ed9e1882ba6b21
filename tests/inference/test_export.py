"""Exported networks: the same scores, a certificate that fits, and nothing else is believed."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import musictag
from musictag.cli import main
from musictag.common.errors import MusictagError
from musictag.data.audio.patches import fit_length
from musictag.evaluation.calibration import calibrate
from musictag.experiment.int8 import _quantised
from musictag.inference import export as exporting
from musictag.inference.familiarity import fit_familiarity, sound
from musictag.inference.network_tagger import NetworkTagger
from musictag.inference.onnx_tagger import OnnxTagger, certified
from musictag.models.checkpoint import write_tagger
from musictag.models.network import TaggingNetwork
from tests.helpers.experiments import ROOT
from tests.helpers.models import PRESETS, as_trained, make_small_network
from tests.helpers.notes import notes

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
RATE = 16000


def trained(name: str) -> TaggingNetwork:
    """A small network whose scores are not all close to 0 or 1, where differences would not show."""
    network = make_small_network(name)
    as_trained(network)
    with torch.no_grad():
        logits = network(torch.from_numpy(notes(0, 40.0)[: network.input_samples] / np.float32(32768))[None])
        for value in (network.backend.output.weight, network.backend.output.bias):
            value /= logits.abs().max()
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tagger with a calibration, and its export: making one takes seconds."""
    folder = tmp_path_factory.mktemp("export")
    network = trained("spectrogram_small")
    scores = np.linspace(1, 0, 80, dtype=np.float32)[:, None].repeat(3, 1)
    calibration = {
        "tags": calibrate(scores, (scores > 0.5).astype(np.float32), network.tag_kinds),
        "familiarity": fit_familiarity([sound(notes(seed), RATE) for seed in range(50)]),
    }
    facts = {"calibration": calibration, "test": {"roc_auc": 0.8}, "test_intervals": {"roc_auc": [0.7, 0.9]}}
    facts |= {"training": {"data": "songbook", "songs": 3, "fingerprint": "ab"}, "epoch": 1, "validation": {}}
    write_tagger(folder / "tagger.safetensors", network, **facts)
    arguments = ["export", str(folder / "tagger.safetensors"), "-o", str(folder / "x.onnx"), "--licence", "CC0-1.0"]
    assert main(arguments) == 0
    return folder


def test_the_file_gives_the_scores_of_the_tagger(folder: Path) -> None:
    tagger, exported = musictag.load(folder / "tagger.safetensors"), musictag.load(folder / "x.onnx")
    assert (exported.tags, exported.sample_rate) == (tagger.tags, tagger.sample_rate)
    for seconds in (0.5, 3.0, 11.3):  # shorter than a patch, and several of them
        song = (notes(1, seconds), RATE)
        expected, found = tagger.tag(song), exported.tag(song)
        assert list(found.values()) == pytest.approx([expected[name] for name in found], abs=1e-5)
        taggrams = [made.taggram(song, hop_seconds=0.7) for made in (tagger, exported)]
        np.testing.assert_allclose(taggrams[0].scores, taggrams[1].scores, atol=1e-5)
        np.testing.assert_array_equal(taggrams[0].times, taggrams[1].times)
    audio = tagger.read((notes(1, 5.0), RATE))
    assert exported.confident_song(audio).why == tagger.confident_song(audio).why
    with pytest.raises(MusictagError, match="no layers"):
        exported.embed(song)
    with pytest.raises(MusictagError, match="at least one sample"):
        exported.taggram(song, hop_seconds=0)
    with pytest.raises(MusictagError, match="on the CPU"):
        musictag.load(folder / "x.onnx", device="cuda")


def test_the_certificate_says_what_the_file_is(folder: Path) -> None:
    certificate = musictag.load(folder / "x.onnx").certificate
    tagger = musictag.load(folder / "tagger.safetensors")
    for key in ("calibration", "test", "test_intervals", "training"):
        assert certificate[key] == tagger.facts[key]
    assert certificate["tags"] == tagger.tags
    assert (certificate["licence"], certificate["compared_on"]) == ("CC0-1.0", "a synthesised clip")
    assert (certificate["sample_rate"], certificate["patch_samples"]) == (RATE, 48000)
    assert 0 <= certificate["largest_difference"] < 1e-5
    content = (folder / "x.onnx").read_bytes()
    assert b"network.backend.output.weight" in content
    assert b".py" not in content  # PyTorch notes the path of every line that made a layer


def test_the_example_without_musictag_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "tagging.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(import json\n\nimport numpy.*?)```", page, flags=re.DOTALL)
    assert "musictag" not in example.replace('"musictag"', "")
    assert len([line for line in example.splitlines() if line]) == 10
    import soundfile

    soundfile.write(folder / "song.wav", notes(3, 6.0), RATE)
    (folder / "tagger.onnx").write_bytes((folder / "x.onnx").read_bytes())
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    exec(example, names)
    expected = musictag.load(folder / "tagger.safetensors").tag("song.wav")
    for tag, score in zip(names["certificate"]["tags"], names["scores"], strict=True):
        assert score == pytest.approx(expected[tag["name"]], abs=1e-5)


def test_the_log_mel_apart_is_the_one_of_the_certificate(folder: Path, tmp_path: Path) -> None:
    """The recipe of docs/tagging.md, with librosa, makes what the network in the file takes."""
    import librosa
    import onnxruntime

    path, song = folder / "apart.onnx", notes(7, 6.0)
    assert main(["export", str(folder / "tagger.safetensors"), "-o", str(path), "--log-mel", "apart"]) == 0
    exported = musictag.load(path)
    expected = musictag.load(folder / "tagger.safetensors").predict_song(song)
    np.testing.assert_allclose(exported.predict_song(song), expected, atol=1e-5)
    mel = exported.certificate["log_mel"]
    assert (mel["compression"], mel["pad_mode"], mel["mel"]) == ("log10", "constant", "slaney")
    page = (ROOT / "docs" / "tagging.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r'```python\n(mel = certificate\["log_mel"\].*?)```', page, flags=re.DOTALL)
    patch = song[:48000].astype(np.float32) / 32768
    names = {"certificate": exported.certificate, "patch": patch, "np": np, "librosa": librosa}
    exec(recipe, names)
    given = {"log_mel": names["log_mel"][None].astype(np.float32)}
    (scores,) = onnxruntime.InferenceSession(path).run(None, given)[0]
    np.testing.assert_allclose(scores, exported.predict_song(song[:48000]), atol=1e-4)
    model = onnx.load(path)
    for change in ({"n_fft": "512"}, {"n_fft": 2**30}, {"num_mels": mel["num_mels"] + 1}, {"pad_mode": "song"}):
        (tmp_path / "x.onnx").write_bytes(certified(model, exported.certificate | {"log_mel": mel | change}))
        with pytest.raises(MusictagError, match="not a tagger exported by musictag, or is damaged"):
            musictag.load(tmp_path / "x.onnx")


def test_a_waveform_network_has_no_log_mel_to_set_apart() -> None:
    with pytest.raises(
        MusictagError, match="no log-mel spectrogram that could be apart; export it with --log-mel insi"
    ):
        exporting.export(NetworkTagger(make_small_network("waveform_small")), log_mel="apart")


def damaged(folder: Path, change: str) -> bytes:
    model = onnx.load(folder / "x.onnx")
    (entry,) = (entry for entry in model.metadata_props if entry.key == "musictag")
    certificate = json.loads(entry.value)
    if change == "other weights":
        tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        tensor.raw_data = b"\1" + tensor.raw_data[1:]
        return model.SerializeToString()
    if change == "external weights":
        tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")
    elif change == "no certificate":
        model.ClearField("metadata_props")
        return model.SerializeToString()
    else:
        certificate |= {
            "fewer tags": {"tags": certificate["tags"][:2], "calibration": None},
            "other patch": {"patch_samples": 100},
            "no patch": {"patch_samples": 0},
            "margins": {"margin_samples": [1, "2"]},
            "rate": {"sample_rate": "16 kHz"},
            "format": {"format": 2},
            "calibration": {"calibration": [1]},
            "tag": {"tags": [{"name": "a\nb"}]},
        }[change]
    return certified(model, certificate)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("other weights", "not the one that its certificate was written for"),
        ("external weights", "not inside the file"),
        ("no certificate", "no certificate"),
        ("fewer tags", "each of the 2 tags"),
        ("other patch", "x.onnx is not"),
        ("no patch", "lengths"),
        ("margins", "lengths"),
        ("rate", "sample rate"),
        ("format", "format 1"),
        ("calibration", "calibration"),
        ("tag", "one line"),
    ],
)
def test_what_does_not_match_is_refused(folder: Path, tmp_path: Path, change: str, why: str) -> None:
    (tmp_path / "x.onnx").write_bytes(damaged(folder, change))
    with pytest.raises(MusictagError, match=why):
        musictag.load(tmp_path / "x.onnx")


def test_damaged_bytes_are_an_error_of_ours(folder: Path, tmp_path: Path) -> None:
    content, rng = (folder / "x.onnx").read_bytes(), np.random.default_rng(0)
    for _ in range(20):
        place = int(rng.integers(len(content)))
        (tmp_path / "x.onnx").write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        with pytest.raises(MusictagError, match="is not a tagger exported by musictag, or is damaged"):
            musictag.load(tmp_path / "x.onnx")
    (tmp_path / "x.onnx").write_bytes(content[:1000])
    with pytest.raises(MusictagError, match="damaged"):
        musictag.load(tmp_path / "x.onnx")


def test_torch_export_has_the_same_scores_and_certificate(folder: Path) -> None:
    tagger = musictag.load(folder / "tagger.safetensors")
    made = exporting.export(tagger, "torch-export", [notes(5, 7.0)])
    made.save(folder / "x.pt2")
    certificate = made.certificate
    files = {exporting.CERTIFICATE_FILE: ""}
    module = torch.export.load(folder / "x.pt2", extra_files=files).module()
    assert json.loads(files[exporting.CERTIFICATE_FILE]) == certificate
    assert certificate["compared_on"] == "1 songs"
    song = notes(6, 3.0)
    found = module(torch.from_numpy(song.astype(np.float32) / 32768)[None])[0]
    np.testing.assert_allclose(found, tagger.predict_song(song), atol=1e-5)


def test_another_network_than_pytorchs_is_not_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = exporting._exported

    def changed(network: torch.nn.Module, *rest: Any) -> torch.export.ExportedProgram:
        other = copy.deepcopy(network)
        other.backend.output.bias.data += 0.01
        return whole(other, *rest)

    monkeypatch.setattr(exporting, "_exported", changed)
    model, out = str(folder / "tagger.safetensors"), folder / "y.pt2"
    assert main(["export", model, "--format", "torch-export", "-o", str(out)]) == 1
    assert re.search(r"differ from PyTorch's by 0\.00.*no file was written", capsys.readouterr().err)
    assert not out.exists()


def test_what_cannot_be_exported(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(folder / "tagger.safetensors"), "-o", "x.pt2"]) == 1
    assert "should end in .onnx" in capsys.readouterr().err
    assert main(["export", str(folder / "x.onnx"), "-o", str(tmp_path / "y.onnx")]) == 1
    assert "is not a single network" in capsys.readouterr().err
    words = [str(folder / "tagger.safetensors"), "-o"]
    assert main(["export", *words, "y.onnx", "--song", "gone.mp3"]) == 1
    assert "musictag: --song gone.mp3: " in capsys.readouterr().err


def test_scores_that_are_no_numbers_are_not_certified(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([1e-6, float("nan")] * 2)
    monkeypatch.setattr(exporting, "_difference", lambda *given: next(found))
    tagger = musictag.load(folder / "tagger.safetensors")
    song = np.zeros(3 * tagger.network.patch_samples, np.int16)
    with pytest.raises(MusictagError, match="differ from PyTorch's by nan"):
        exporting.export(tagger, "torch-export", [song, song])


def test_a_place_that_cannot_be_written_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "x.pt2"
    assert main(["export", str(folder / "tagger.safetensors"), "--format", "torch-export", "-o", str(out)]) == 1
    assert re.search(r"^musictag: .*file.*: (Not a directory|File exists)", capsys.readouterr().err, re.M)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_exports(name: str, tmp_path: Path) -> None:
    """The table of docs/tagging.md: the length is free unless the back-end has a dense layer over all of its input."""
    network = trained(name)
    write_tagger(tmp_path / "tagger.safetensors", network)
    tagger = musictag.load(tmp_path / "tagger.safetensors")
    made = exporting.export(tagger, "onnx", [notes(0, 20.0)])
    made.save(tmp_path / "x.onnx")
    certificate = made.certificate
    page = (ROOT / "docs" / "tagging.md").read_text(encoding="utf-8")
    (row,) = (line for line in page.splitlines() if line.startswith(f"| {certificate['length']} |"))
    assert f"`{name}`" in row
    exported = musictag.load(tmp_path / "x.onnx")
    patch = (
        fit_length(notes(0, 20.0), exported.input_samples)[None, : exported.input_samples].astype(np.float32) / 32768
    )
    small = OnnxTagger(exporting.Exported(_quantised(made, exported, patch), certificate).content())
    assert 0 < np.abs(small.score(patch) - exported.score(patch)).max() < 0.2
