"""`musictag export --int8`: 8-bit integers, and what they cost on songs with tags."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import musictag
from musictag.cli import main
from tests.helpers.embeddings import save
from tests.helpers.experiments import TINY, folders, run
from tests.helpers.teachers import network

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def trained(tiny_catalogue: Path, tmp_path: Path) -> tuple[str, list[str]]:
    words = ["data=catalogue", f"data.path={tiny_catalogue}", *folders(tmp_path)]
    return str(run(*words, *TINY)[0]), [*words, "evaluation.bootstrap_resamples=20", "data.prepare_workers=1"]


def test_the_certificate_has_what_is_lost(
    trained: tuple[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, words = trained
    out = tmp_path / "x.onnx"
    command = ["export", folder, "-o", str(out)]
    assert main([*command, "--max-loss", "-1", "--int8", *words]) == 1
    said = capsys.readouterr().err
    assert "of PR-AUC" in said
    assert "no file was written" in said
    assert not out.exists()

    assert main([*command, "--max-loss", "1", "--int8", *words]) == 0
    found = musictag.load(out).certificate["int8"]
    metrics = json.loads((Path(folder) / "metrics.json").read_text())
    assert main(["evaluate", "--model", str(out), *words, "--out", str(tmp_path / "again")]) == 0
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    for key in ("pr_auc", "roc_auc"):
        assert found["float32"][key] == pytest.approx(metrics["test"][key], abs=1e-6)
        assert found["int8"][key] == again["test"][key]
        change = found["change"][key]
        assert change["value"] == pytest.approx(found["int8"][key]["value"] - found["float32"][key]["value"], abs=1e-9)
        assert change["low"] <= change["value"] <= change["high"]
    assert found["int8"]["bytes"] == pytest.approx(out.stat().st_size, rel=0.05)
    assert (found["songs"], found["calibration_songs"]) == ("7 test songs of catalogue", 5)
    printed = capsys.readouterr().out
    assert f"{found['int8']['pr_auc']['value']:.4f}" in printed

    # the first convolution hears the waveform in float32, the others are in 8 bits
    graph = onnx.load(out).graph
    sizes = {tensor.name: (tensor.data_type, len(tensor.dims)) for tensor in graph.initializer}
    assert [name for name, size in sizes.items() if size == (onnx.TensorProto.FLOAT, 3)] == [
        "network.frontend.layers.0.0.weight"
    ]
    assert sum(size == (onnx.TensorProto.INT8, 3) for size in sizes.values()) >= 5
    with np.load(tmp_path / "again" / "predictions.npz") as one, np.load(Path(folder) / "predictions.npz") as other:
        largest = np.abs(one["scores"] - other["scores"]).max()
    assert musictag.load(out).certificate["largest_difference"] == pytest.approx(largest, abs=1e-4)
    assert 1e-5 < largest < 0.1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--int8"], "needs songs with tags, to measure"),
        (["--int8", "data=songbook", "--format", "torch-export"], "is for ONNX"),
        (["--max-loss", "0.1"], "go with --int8"),
    ],
)
def test_what_does_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    suffix = "pt2" if "torch-export" in words else "onnx"
    assert main(["export", "musicnn-msd", "-o", str(tmp_path / f"x.{suffix}"), *words]) == 1
    assert why in capsys.readouterr().err


def test_without_tags_in_common_nothing_is_exported(
    tiny_catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("musictag.inference.export.export", None)
    model = save(tmp_path / "tagger.safetensors", network(3))
    assert main(["export", model, "-o", str(tmp_path / "x.onnx"), "--int8", str(tiny_catalogue)]) == 1
    assert "tagger and data set have no tag in common (slow" in capsys.readouterr().err


def test_without_songs_those_of_the_run_are_compared(trained: tuple[str, list[str]], tmp_path: Path) -> None:
    folder, _ = trained
    out = tmp_path / "x.onnx"
    assert main(["export", folder, "-o", str(out)]) == 0
    assert musictag.load(out).certificate["compared_on"] == "8 songs of catalogue"
    shutil.rmtree(tmp_path / "data")
    assert main(["export", folder, "-o", str(out)]) == 0
    assert musictag.load(out).certificate["compared_on"] == "a synthesised clip"
