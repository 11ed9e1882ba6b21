"""Laws chosen by what they predict, bands that hold what is measured, and curves that are none."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from musictag.report.statistics.forecast import Fitted, Forecast, Forecasts, coverage_words, hidden_sizes
from musictag.report.statistics.points import departure, measured
from musictag.report.statistics.resampling import Draws
from musictag.report.study import Study
from musictag.report.tables.forecasts import reach_sheet
from tests.helpers.curve_studies import SIZES, TRUTHS, Noise, coverage, curve_study, forecasts, gain_coverage, measure
from tests.helpers.null_studies import empty_study

CALM = Noise(run=0.002, seed=0.001, songs=0.004, specific=0.0005)


def scores_of(truth: np.ndarray, seeds: int = 3, deviation: float = 0.004, seed: int = 0) -> np.ndarray:
    """(1 + R)×n×M: noise of the runs alone, none of the songs."""
    rng = np.random.default_rng(seed)
    runs = truth + deviation * rng.standard_normal((seeds, len(truth)))
    return np.repeat(runs[None], 201, axis=0)


def fitted(truth: np.ndarray, sizes: np.ndarray, **noise: float) -> Fitted:
    return Fitted(measured("one", sizes, scores_of(truth, **noise)), 1.0)


@pytest.mark.parametrize(
    "law", ["constant", "log-linear", "power law", pytest.param("broken power law", marks=pytest.mark.slow)]
)
def test_the_law_that_made_the_points_is_chosen(law: str) -> None:
    found = forecasts(3, SIZES, law, 12, CALM)
    assert sum(forecast.law == law for forecast in found) >= 9
    assert coverage_words(found)


def test_a_law_is_chosen_by_what_it_predicts_and_not_by_its_fit() -> None:
    """A power law fits at least as closely as the line of which it is nearly a case."""
    sizes = np.array(SIZES[:6])
    found = fitted(0.6 + 0.04 * np.log2(sizes / 125), sizes)
    assert found.errors["power law"] >= 0
    assert found.chosen.name == "log-linear"
    levelled = fitted(0.9 - 0.4 * (sizes / 125) ** -0.6, sizes)
    assert levelled.chosen.name == "power law"
    assert levelled.errors["log-linear"] > 3 * levelled.errors["power law"]
    assert "log-linear" not in [law.name for law in levelled.contenders]
    noisy = fitted(0.9 - 0.3 * (sizes / 125) ** -0.4, sizes, deviation=0.016, seed=8)
    assert [law.name for law in noisy.contenders] == ["log-linear", "power law"]  # both fit within the noise
    assert noisy.chosen.name == "power law"


def test_points_are_weighted_by_their_variance() -> None:
    """One size with wild runs does not bend the line."""
    sizes = np.array([250, 500, 1000, 2000])
    truth = 0.6 + 0.05 * np.arange(4)
    runs = truth + 0.001 * np.random.default_rng(0).standard_normal((3, 4))
    runs[:, 3] += [0.2, -0.1, 0.11]
    points = measured("one", sizes, np.repeat(runs[None], 101, axis=0))
    assert points.variance[3] > 2 * points.variance[0]
    found = Fitted(points, 1.0)
    line = found.draws(next(law for law in found.contenders if law.name == "log-linear"), sizes[:1])[0, 0]
    (intercept,) = np.polyval(np.polyfit(np.arange(4), runs.mean(axis=0), 1), [0])
    assert abs(line - 0.6) < 0.8 * abs(intercept - 0.6)


def test_hidden_sizes_are_not_seen() -> None:
    study = curve_study(3, SIZES[:6])
    draws = measure(study, TRUTHS["power law"], np.random.default_rng(0), CALM)
    before = Forecasts(study, draws, "roc_auc").found[0]
    for run in study.runs:
        if run.train_songs in SIZES[4:6]:
            run.metrics["test"]["roc_auc"]["value"] -= 0.1
            draws[run.folder.name]["roc_auc"] -= 0.1
    after = Forecasts(study, draws, "roc_auc").found[0]
    assert [row.size for row in before.held_out] == [2000, 4000]
    for one, other in zip(before.held_out, after.held_out, strict=True):
        assert (one.predicted, one.low, one.high) == pytest.approx((other.predicted, other.low, other.high))
        assert one.runs == 3
        assert (one.hit, other.hit) == (True, False)
    assert coverage_words([before]).startswith("Of 2 scores at the largest sizes of 1 curves")
    assert "0 (0%) lie" in coverage_words([after])


def test_what_the_songs_do_alike_to_all_sizes_widens_no_band() -> None:
    """Predictions are for the same songs; but how many songs of this kind a score needs is uncertain by it."""
    widths, reached = [], []
    for songs in (0.0, 0.03):
        study = curve_study(3, SIZES[:6])
        noise = Noise(run=0.004, seed=0.0, songs=songs, specific=0.0)
        found = Forecasts(study, measure(study, TRUTHS["log-linear"], np.random.default_rng(0), noise), "roc_auc")
        widths.append(found.found[0].held_out[0].high - found.found[0].held_out[0].low)
        (reach,) = found.reaches(found.found[0].held_out[0].measured)
        reached.append((reach.high or np.inf) / (reach.low or 1.0))
    assert widths[1] == pytest.approx(widths[0], rel=0.2)
    assert reached[1] > 2 * reached[0]


def test_a_break_beyond_the_visible_sizes_is_a_miss() -> None:
    sizes = np.array(SIZES[:6])
    scores = scores_of(TRUTHS["broken power law"](sizes.astype(float)), deviation=0.001)
    points = measured("one", sizes, scores, visible=4)
    _, _, high = Fitted(points, 1.0).hidden(0.95)
    assert points.means[5] > high[1]


@pytest.mark.parametrize(
    ("sizes", "seeds", "truth"),
    [
        (4, 3, "log-linear"),
        pytest.param(6, 2, "power law", marks=pytest.mark.slow),
        pytest.param(8, 1, "constant", marks=pytest.mark.slow),
    ],
)
def test_bands_hold_what_is_measured(sizes: int, seeds: int, truth: str) -> None:
    chosen = SIZES[:sizes]
    found = forecasts(seeds, chosen, truth, 20)
    assert coverage(found) >= 0.9
    assert gain_coverage(found, truth, chosen[-1]) >= 0.86


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("truth", [truth for truth in TRUTHS if truth != "broken power law"])
def test_bands_hold_as_often_as_promised(truth: str, seeds: int) -> None:
    for sizes in (SIZES[1:5], SIZES[:6], SIZES):
        found = forecasts(seeds, sizes, truth, 200)
        assert coverage(found) >= 0.92
        assert gain_coverage(found, truth, sizes[-1]) >= 0.9
        assert np.mean([forecast.departure is not None for forecast in found]) <= 0.03


def test_a_curve_that_falls_is_said_to_and_not_fitted() -> None:
    truth = np.array([0.7, 0.74, 0.77, 0.7, 0.8, 0.82])
    points = measured("one", np.array(SIZES[:6]), scores_of(truth))
    found = departure(points)
    assert (found.before, found.after, found.between) == (500, 1000, None)
    assert found.drop == pytest.approx(0.07, abs=0.01)
    assert found.words.startswith("not monotone: worse with 1,000 songs than with 500, by 0.0")
    forecast = forecast_of(truth)
    assert forecast.departure is not None
    assert (forecast.law, forecast.doubling, forecast.band, forecast.held_out) == (None, None, None, [])
    assert forecast.notes == ["nothing predicted: the smaller sizes alone have not the shape of a learning curve"]


def test_gains_that_grow_are_said_to() -> None:
    found = departure(measured("one", np.array(SIZES[:5]), scores_of(np.array([0.6, 0.6, 0.605, 0.61, 0.8]))))
    assert found.between is not None
    assert found.words.startswith("gains do not diminish: 0.")


def test_noise_alone_is_no_departure() -> None:
    """Level and straight curves are the hardest to tell from those that fall or bend."""
    sizes = np.array(SIZES[:6])
    for truth in (np.full(6, 0.7), 0.6 + 0.3 * sizes / sizes[-1]):
        wrong = [
            departure(measured("one", sizes, scores_of(truth, deviation=0.01, seed=seed))) is not None
            for seed in range(150)
        ]
        assert np.mean(wrong) <= 0.04


def test_what_does_not_fall_is_no_departure_whatever_the_noise() -> None:
    points = measured("one", np.array(SIZES[:4]), scores_of(0.6 + 0.02 * np.arange(4)))
    assert departure(replace(points, noise=np.full_like(points.noise, np.nan))) is None


def test_songs_that_a_score_needs() -> None:
    sizes = np.array(SIZES[:6], dtype=float)
    forecasts_of = planted(0.6 + 0.04 * np.log2(sizes / 125))
    (within,) = forecasts_of.reaches(0.7)
    assert within.size == pytest.approx(125 * 2**2.5, rel=0.1)
    assert within.low < within.size < within.high
    (beyond,) = forecasts_of.reaches(0.84)
    assert beyond.size == pytest.approx(8000, rel=0.15)
    assert beyond.size > beyond.largest == 4000
    (never,) = planted(0.8 - 0.2 * (sizes / 125) ** -1.0).reaches(0.9)
    assert (never.size, never.high) == (None, None)
    assert never.low == pytest.approx(64_000)  # as far as the question is answered
    assert reach_sheet([never]).rows[0][4].text == "64,000 to more than 64,000"
    (already,) = forecasts_of.reaches(0.5)
    assert already.low is None
    assert reach_sheet([already]).rows[0][3].text == "at most 125"


def test_what_twice_the_songs_bring_with_its_interval() -> None:
    sizes = np.array(SIZES, dtype=float)
    (forecast,) = planted(0.9 - 0.4 * (sizes / 125) ** -0.4).found
    gain, low, high = forecast.doubling
    wanted = 0.4 * (11500 / 125) ** -0.4 * (1 - 2**-0.4)
    assert gain == pytest.approx(wanted, abs=0.004)
    assert low < wanted < high


def test_a_crossing_may_lie_beyond_the_data() -> None:
    sizes = np.array(SIZES[:6], dtype=float)
    doublings = np.log2(sizes / 125)
    found = planted(0.7 + 0.02 * doublings, 0.62 + 0.032 * doublings)  # equal after 6.7 doublings: 12,700 songs
    (prospect,) = found.prospects()
    assert (prospect.system, prospect.other) == ("other", "one")
    assert prospect.size == pytest.approx(12_700, rel=0.35)
    assert prospect.text.startswith(
        "one is ahead of other with 4,000 songs; by their laws other overtakes beyond the data"
    )
    assert prospect.uncertain
    assert re.search(r"which of them is ahead is uncertain ([\d,]+ to|from) ", prospect.text)
    (apart,) = planted(0.8 + 0.02 * doublings, 0.6 + 0.02 * doublings, deviation=0.001).prospects()
    assert (apart.system, apart.size, apart.uncertain) == ("other", None, False)
    assert apart.text == "one is ahead of other with 4,000 songs and by their laws stays so up to 64,000"


def test_systems_without_common_sizes_have_no_prospects() -> None:
    study = empty_study(3, SIZES[:6])
    study = Study("apart", [run for run in study.runs if (run.system == "one") == (run.train_songs <= 500)])
    draws = Draws(10, 100, 0)
    for run in study.runs:
        run.metrics["test"]["roc_auc"]["value"] = value = 0.6 + 0.02 * np.log2(run.train_songs / 125)
        draws[run.folder.name] = {"roc_auc": np.full(100, value)}
    found = Forecasts(study, draws, "roc_auc")
    assert [one.law is not None for one in found.found] == [True, True]
    assert found.prospects() == []


def test_a_law_that_misses_the_largest_sizes_is_said_to() -> None:
    (wrong,) = planted(np.array([0.6, 0.65, 0.7, 0.75, 0.8, 0.8])).found
    (right,) = planted(0.6 + 0.04 * np.arange(6)).found
    said = [any("this law misses the largest sizes" in note for note in one.notes) for one in (wrong, right)]
    assert said == [True, False]


def test_few_sizes_say_what_they_lack() -> None:
    (two,) = planted(np.array([0.6, 0.7])).found
    assert (two.law, two.held_out) == ("log-linear", [])
    assert two.notes == ["nothing held out: it needs three sizes", "too few sizes to choose a law by held-out ones"]
    (single,) = planted(np.array([0.6, 0.7, 0.75, 0.8]), seeds=1).found
    assert any(note.startswith("one run per size") for note in single.notes)
    assert [hidden_sizes(count) for count in (3, 5, 6, 8)] == [1, 1, 2, 2]


def forecast_of(truth: np.ndarray) -> Forecast:
    return planted(truth).found[0]


def planted(*truths: np.ndarray, seeds: int = 3, deviation: float = 0.003) -> Forecasts:
    """Of one or two systems with these true scores at the smallest sizes."""
    sizes = SIZES[: len(truths[0])]
    study = empty_study(seeds, sizes)
    names = ("one", "other")[: len(truths)]
    study = Study("planted", [run for run in study.runs if run.system in names])
    draws, rng = Draws(10, 200, 0), np.random.default_rng(1)
    for run in study.runs:
        value = truths[names.index(run.system)][sizes.index(run.train_songs)] + deviation * rng.standard_normal()
        run.metrics["test"]["roc_auc"]["value"] = float(value)
        draws[run.folder.name] = {"roc_auc": np.full(200, value)}
    return Forecasts(study, draws, "roc_auc")
