"""The benchmarks run and return figures; the speeds themselves are not tested."""

from __future__ import annotations

import csv
from importlib import import_module
from pathlib import Path

import pytest
import torch

from musictag.common.errors import MusictagError
from musictag.models.inference_form import has_bfloat16
from tests import benchmarks
from tests.benchmarks import (
    architectures,
    baseline,
    data,
    growth,
    inference,
    library,
    metrics,
    models,
    prepare,
    probe,
    profile,
    songbook,
    startup,
    training,
)
from tests.benchmarks.figures import Figure


@pytest.mark.slow
def test_the_data_section_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "_SONGS", 68)
    monkeypatch.setattr(data, "_STEPS", 5)
    figures = list(data.benchmark())
    assert len(figures) == 14
    assert figures[0].value > 1000
    shares = [figure.value for figure in figures if figure.unit.startswith("%")]
    assert len(shares) == 6
    assert all(0 < share < 100 for share in shares)


def test_the_other_sections_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MODELS", {"spectrogram, small": models.MODELS["spectrogram, small"]})
    monkeypatch.setattr(metrics, "_TEST_SETS", ((100, 5, 10),))
    training, tagging = models.benchmark()
    assert 0 < training.value < tagging.value
    monkeypatch.setattr(architectures, "_PRESETS", ["dieleman_waveform"])
    training, tagging = architectures.benchmark()
    assert training.what == "dieleman_waveform: training, batches of 5 x 3.00 s"
    assert 0 < training.value < tagging.value
    assert len(list(metrics.benchmark())) == 1


@pytest.mark.slow
def test_the_inference_section_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_PRESETS", {"waveform_small": 1.5})
    monkeypatch.setattr(inference, "_PIPELINES", ())
    figures = list(inference.benchmark())
    assert len(figures) == 4 + has_bfloat16(torch.device("cpu"))
    assert min(figure.value for figure in figures) > 0


@pytest.mark.slow
def test_the_library_section_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "MODEL", "waveform_small")
    monkeypatch.setattr(library, "SECONDS", 2)
    monkeypatch.setattr(library, "DOZENS", 1)
    monkeypatch.setattr(library, "ROUNDS", 1)
    found = {figure.what: figure.value for figure in library.benchmark()}
    song, command = found["folder: a song"], found["a command for each: a song"]
    assert found["a command for each / folder"] == pytest.approx(command / song)
    assert command > song
    in_turn = found["one after another in a process: a song"]
    assert found["one after another in a process / folder"] == pytest.approx(in_turn / song)
    song, command = found["folder --hop 15: a song"], found["a command for each --hop 15: a song"]
    assert found["a command for each --hop 15 / folder --hop 15"] == pytest.approx(command / song)
    assert found["folder --hop 15: 22,000 of these songs"] == pytest.approx(song * 22_000 / 3600)


@pytest.mark.slow
def test_the_profile_names_what_takes_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "_MODELS", ("waveform_small",))
    found = {figure.what: figure.value for figure in profile.benchmark()}
    assert found["waveform_small, inference form: convolutions"] > found["waveform_small, inference form: copying"] > 0
    assert found["waveform_small, training step: optimiser"] > 0
    assert "waveform_small, training step: products of matrices" in found


@pytest.mark.slow
def test_the_training_section_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_MODELS", training._MODELS[:2])
    monkeypatch.setattr(training, "_COMPILED", training._COMPILED[:1])
    monkeypatch.setattr(training, "_STEPS", 1)
    monkeypatch.setattr(training, "_BUSY_STEPS", 1)
    figures = list(training.benchmark())
    assert [figure.unit for figure in figures] == (["s of audio / s"] * 3 + ["x"]) * 2 + ["x"] + ["ms"] * 4
    assert all(figure.value > 0 for figure in figures)


@pytest.mark.slow
def test_the_probe_section_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_SONGS", 480)
    monkeypatch.setattr(probe, "_TAGS", 3)
    figures = list(probe.benchmark())
    assert len(figures) == 1 + 2 * 4
    assert all(figure.value > 0 for figure in figures[:4])


@pytest.mark.slow
def test_the_startup_section_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "_REPETITIONS", 1)
    songs = ("data.num_songs=60", "data.validation_songs=20", "data.test_songs=20", "data.seconds=3.0")
    monkeypatch.setattr(startup, "_DATA", (*songs, "data.patch_seconds=1.5", "data.min_songs_per_tag=0"))
    seconds = {figure.what: figure.value for figure in startup.benchmark()}
    assert len(seconds) == 16
    torch, first_step = (seconds[f"{what}: of a processor"] for what in ("import torch", "train.py, to the first step"))
    assert 0 < torch < first_step


@pytest.mark.slow
def test_the_songbook_section_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(songbook, "_RENDERED_SONGS", 3)
    reading, rendering = songbook.benchmark()
    assert reading.unit == "s"
    assert rendering.value > 0.5


@pytest.mark.slow
def test_the_baseline_section_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "_SONG_SECONDS", (2, 5))
    monkeypatch.setattr(baseline, "_TRAIN_SONGS", 300)
    monkeypatch.setattr(baseline, "_VALIDATION_SONGS", 100)
    short, longer, apart, *fits = baseline.benchmark()
    assert short.what == "features of songs of 2 s"
    assert min(short.value, longer.value, apart.value) > 0
    assert [figure.unit for figure in fits] == ["s"] * 4


@pytest.mark.slow
def test_the_prepare_section_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = prepare.Kind("short clips", (1.0, 2.0), 22050, 2, songs=12)
    monkeypatch.setattr(prepare, "_KINDS", (kind,))
    monkeypatch.setattr(prepare, "_REPETITIONS", 1)
    monkeypatch.setattr(prepare, "available_cores", lambda: 2)
    bare, reading, prepared, *shares = prepare.benchmark()
    assert min(bare.value, reading.value, prepared.value) > 0
    assert [share.unit for share in shares] == ["%", "%"]
    assert shares[0].value == pytest.approx(prepared.value / bare.value * 100)
    assert shares[1].value == pytest.approx(prepared.value / reading.value * 100)


def test_growth_is_the_slope_of_the_logarithms(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert growth.exponent((1, 10, 1000), (3.0, 300.0, 3e6)) == pytest.approx(2)
    costs = {10: growth.Cost(1.0, 5.0), 100: growth.Cost(1.0, 5.0), 200: growth.Cost(2.0, 20.0)}
    monkeypatch.setattr(growth, "SERIES", {"a toy": growth.Series(costs.get, "songs", (10, 100, 200)), "another": None})
    assert benchmarks.main(["growth", "toy", "--out", str(tmp_path)]) == 0
    assert "another" not in capsys.readouterr().out
    *sizes, slopes = list(csv.reader((tmp_path / "growth.csv").read_text().splitlines()))[1:]
    assert sizes[2] == ["a toy", "200 songs", "2", "20", "", "", "", ""]
    assert [float(slopes[place]) for place in (5, 7)] == [1.0, 2.0]
    assert 0 < float(slopes[4]) < 1


@pytest.mark.slow
def test_the_growth_section_measures() -> None:
    assert min(growth.metrics_of_songs(100)) > 0
    assert min(growth.metrics_of_tags(3)) > 0
    assert min(growth.SERIES["spectrogram, two patches"].measure(1.5)) > 0
    assert min(growth.catalogue(300)) > 0


def test_every_section_can_be_run_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in benchmarks.SECTIONS:
        module = import_module(f"tests.benchmarks.{name}")
        monkeypatch.setattr(
            module, "benchmark", lambda name=name: iter([Figure(f"{name} figure", 1234.5, "songs / s")])
        )
    assert benchmarks.main([]) == 0
    told = capsys.readouterr().out
    assert all(f"{name} figure" in told for name in benchmarks.SECTIONS)
    assert "1,234" in told
    assert benchmarks.main(["metrics"]) == 0
    assert "data figure" not in capsys.readouterr().out


def test_an_unknown_section_is_named() -> None:
    with pytest.raises(MusictagError, match="no benchmark speed; choose from prepare, data, models"):
        benchmarks.main(["speed"])
