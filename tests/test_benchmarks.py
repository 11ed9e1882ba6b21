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


def test_an_unknown_section_is_named() -> None:
    with pytest.raises(MusictagError, match="no benchmark speed; there are data"):
        benchmarks.main(["speed"])
