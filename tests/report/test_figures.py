"""Figures of studies of all kinds are drawn, with what they must name."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import pytest
from matplotlib.figure import Figure

from musictag.report.figures import figures, forecasts, tags
from musictag.report.figures.panels import Look
from musictag.report.statistics.crossing import Crossing
from musictag.report.statistics.forecast import Forecast
from musictag.report.statistics.paired_tests import tag_gains
from musictag.report.statistics.popularity import exclusive, popularity
from musictag.report.statistics.resampling import resampled
from musictag.report.statistics.scaling import crossings, curves
from musictag.report.study import read_study
from tests.helpers.marks import first_fast
from tests.helpers.studies import SYSTEMS, WITH_TREES, System, write_run, write_study

ONE = {"waveform_small": SYSTEMS["waveform_small"]}


def check(path: Path, *words: str, widest: int = 2000) -> None:
    """A PNG that is no empty sheet, and beside it an SVG that names what it shows."""
    image = matplotlib.image.imread(path)
    assert 500 < image.shape[1] <= widest
    assert image.std() > 0.02
    text = path.with_suffix(".svg").read_text()
    for word in words:
        assert word in text


@pytest.mark.parametrize("systems", first_fast([WITH_TREES, ONE, SYSTEMS]), ids=["three", "one", "two"])
def test_scaling(systems: dict[str, System], tmp_path: Path) -> None:
    write_study(tmp_path, systems=systems, songs=100, tags=6, seeds=(0, 1))
    study = read_study(tmp_path)
    draws = resampled(study, 100)
    by_metric = {metric: curves(study, draws, metric) for metric in study.metrics}
    crossed = [one for metric in study.metrics for one in crossings(study, draws, metric)]
    figures.scaling_figure(study, by_metric, crossed, tmp_path / "scaling.png")
    check(tmp_path / "scaling.png", "ROC-AUC", "PR-AUC", "RMSE (lower is better)", "1,000", *systems)


def test_crossings_of_systems_that_are_not_drawn_are_not_marked(tmp_path: Path) -> None:
    systems = {f"net{place}": System("waveform", 0.8 if place else 0.5, 0.01) for place in range(10)}
    write_study(tmp_path, systems=systems, sizes=(250, 1000), songs=60, tags=4, regression_tags=0, seeds=(0,))
    study = read_study(tmp_path)
    by_metric = {metric: curves(study, resampled(study, 100), metric) for metric in study.headlines}
    for system in ("net0", "net9"):
        crossing = Crossing(system, "net8", "pr_auc", "trend", 500.0, [(400.0, 600.0)], 1, "")
        figures.scaling_figure(study, by_metric, [crossing], tmp_path / f"{system}.png")
    check(tmp_path / "net9.png", "9 of 10 systems", "net9 overtakes net8")
    assert "overtakes" not in (tmp_path / "net0.svg").read_text()


def test_of_many_systems_the_best_nine_are_drawn_and_named(tmp_path: Path) -> None:
    about = {"songs": 60, "tags": 4, "regression_tags": 0, "seeds": (0,)}
    systems = {f"net{place}": System("waveform", 0.8 if place else 0.5, 0.01) for place in range(10)}
    write_study(tmp_path / "sizes", systems=systems, sizes=(250, 1000), **about)
    study = read_study(tmp_path / "sizes")
    found = [Forecast(system, "pr_auc", None, (), {}, [], None, [], None, None) for system in study.systems]
    forecasts.law_figure(study, found, "pr_auc", tmp_path / "laws.png")
    rows = [
        {"system": run.system, "songs": run.train_songs, "steps": 100, "flop": 1e9, "seconds": 60.0,
         "scores": {"pr_auc": run.value("pr_auc")}}
        for run in study.runs
    ]  # fmt: skip
    forecasts.compute_figure(study, rows, "pr_auc", tmp_path / "compute.png")
    write_study(tmp_path / "filters", systems=systems, sizes=(0.5, 1.0), factor="frontend.filter_multiplier", **about)
    study = read_study(tmp_path / "filters")
    figures.capacity_figure(study, resampled(study, 100), tmp_path / "capacity.png")
    for name, words in (("laws", "9 of 10 systems"), ("compute", "9 of 10 systems"), ("capacity", "9 of 10 lines")):
        check(tmp_path / f"{name}.png", words, "net9")
        assert "net0" not in (tmp_path / f"{name}.svg").read_text()


def test_capacity_with_a_baseline_beside_it(tmp_path: Path) -> None:
    write_study(
        tmp_path, sizes=(0.25, 0.5, 1.0), factor="frontend.filter_multiplier", systems=WITH_TREES, songs=100, tags=6,
        seeds=(0, 1),
    )  # fmt: skip
    study = read_study(tmp_path)
    figures.capacity_figure(study, resampled(study, 100), tmp_path / "capacity.png")
    check(tmp_path / "capacity.png", "front-end filters (times)", "gbt", "0.25")


def test_two_factors(tmp_path: Path) -> None:
    for filters in (64, 128):
        for units in (200, 500):
            settings = {"backend.filters": filters, "backend.dense_units": units}
            write_run(tmp_path, "waveform_small", "waveform", 0.7, settings=settings, songs=100, tags=6)
    study = read_study(tmp_path)
    assert study.factors == ["backend.dense_units", "backend.filters"]
    figures.capacity_figure(study, resampled(study, 100), tmp_path / "capacity.png")
    check(tmp_path / "capacity.png", "back-end filters", "dense units", "128", "500")


def test_words_instead_of_numbers(tmp_path: Path) -> None:
    for mode in ("patches", "whole"):
        write_run(tmp_path, "waveform_small", "waveform", 0.7, settings={"evaluation.mode": mode}, songs=100, tags=6)
    study = read_study(tmp_path)
    figures.capacity_figure(study, resampled(study, 100), tmp_path / "modes.png")
    check(tmp_path / "modes.png", "patches", "whole")


def test_nothing_varies_but_the_systems(tmp_path: Path) -> None:
    write_study(tmp_path, sizes=(500,), seeds=(0, 1), songs=100, tags=6, systems=WITH_TREES)
    study = read_study(tmp_path)
    figures.capacity_figure(study, resampled(study, 100), tmp_path / "systems.png")
    check(tmp_path / "systems.png", *WITH_TREES)


def test_gains_and_popularity(tmp_path: Path) -> None:
    write_study(tmp_path, sizes=(250, 1000), seeds=(0, 1), songs=150, tags=8)
    study = read_study(tmp_path)
    draws = resampled(study, 100)
    tags.tag_gain_figure(study, tag_gains(study, draws), tmp_path / "gains.png")
    check(tmp_path / "gains.png", "tag 00", "tag 07", "waveform_small")
    rows = popularity(study, draws)
    figures.popularity_figure(study, rows, tmp_path / "popularity.png", exclusive(study, draws))
    check(tmp_path / "popularity.png", "prevalence", "spectrogram_small")
    figures.popularity_figure(study, rows, tmp_path / "alone.png")
    check(tmp_path / "alone.png", "prevalence")


@pytest.mark.parametrize(
    ("sizes", "numbers"),
    [
        ([125, 1000, 8000, 11000], ["125", "1,000", "", "11,000"]),
        ([100, 105, 110], ["100", "105", "110"]),
        ([2**n for n in range(17)], ["1", "", *("" if n % 2 else f"{2**n:,}" for n in range(2, 17))]),
        ([500], ["500"]),
    ],
)
def test_numbers_of_sizes_that_would_be_over_each_other_are_left_out(sizes: list[int], numbers: list[str]) -> None:
    axes = Figure().subplots()
    figures.size_axis(axes, sizes)
    assert [label.get_text() for label in axes.get_xticklabels()] == numbers


@pytest.mark.parametrize(
    ("size", "undecided", "at"),
    [(1500, (800, 2500), 800), (1500, (200, None), 1500), (300, (250, 500), 500), (300, (None, 9000), 300)],
)
def test_what_is_written_at_a_crossing_stays_in_the_panel(size: int, undecided: tuple, at: int) -> None:
    """Beside its interval, or above it where that is long."""
    axes = Figure().subplots()
    figures.size_axis(axes, [125, 11000])
    crossing = Crossing("one", "other", "roc_auc", "trend", size, [undecided], 1, "")
    figures.mark_crossings(axes, [crossing], {"one": Look((0, 0, 0), "o")}, (125, 11000))
    (text,) = axes.texts
    assert text.xy[0] == at
    assert (text.get_position()[1] > 0) == (at == size)
