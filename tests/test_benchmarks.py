"""The benchmarks run and measure; how fast is for them to say."""

from __future__ import annotations

import pytest

from musictag import benchmarks
from musictag.errors import MusictagError


def test_the_data_section_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "_SONGS", 68)
    monkeypatch.setattr(benchmarks, "_STEPS", 5)
    figures = list(benchmarks.benchmark_data())
    assert len(figures) == 13
    assert figures[0].value > 1000
    shares = [figure.value for figure in figures if figure.unit.startswith("%")]
    assert len(shares) == 6
    assert all(0 < share < 100 for share in shares)


def test_the_other_sections_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "_MODELS", {"spectrogram, small": benchmarks._MODELS["spectrogram, small"]})
    monkeypatch.setattr(benchmarks, "_RENDERED_SONGS", 3)
    monkeypatch.setattr(benchmarks, "_TEST_SETS", ((100, 5, 10),))
    training, tagging = benchmarks.benchmark_models()
    assert 0 < training.value < tagging.value
    reading, rendering = benchmarks.benchmark_songbook()
    assert reading.unit == "s"
    assert rendering.value > 0.5
    assert len(list(benchmarks.benchmark_metrics())) == 1


def test_an_unknown_section_is_named() -> None:
    with pytest.raises(MusictagError, match="no benchmark speed; there are data, models"):
        benchmarks.main(["speed"])
