"""Which tags are finished and which want more positives, on tags whose curves are known."""

from __future__ import annotations

import numpy as np
import pytest

from musictag.experiment.results.files import Predictions
from musictag.report.statistics.forecast import Forecast
from musictag.report.statistics.resampling import Draws
from musictag.report.statistics.tag_outlook import STEP, TagOutlook, tag_outlook
from tests.helpers.curve_studies import curve_study

SIZES = (250, 500, 1000, 2000, 4000)


def outlook(
    truths: dict[str, np.ndarray], law: str = "power law", exponent: float = 0.5, seeds: int = 3, noise: float = 0.002
) -> dict[str, TagOutlook]:
    """``truths``: scores of each tag at the sizes."""
    study, rng, draws = curve_study(seeds, SIZES), np.random.default_rng(0), Draws(10, 100, 0)
    names, kinds = np.array(list(truths)), np.array(["classification"] * len(truths))
    for run in study.runs:
        empty = np.zeros((10, len(truths)), dtype=np.float32)
        run.predictions = Predictions(np.arange(10), names, kinds, empty, empty)
        values = [truth[SIZES.index(run.train_songs)] + noise * rng.standard_normal() for truth in truths.values()]
        run.metrics["test"]["tags"] = [
            {"name": name, "kind": "classification", "prevalence": 0.1, "pr_auc": value}
            for name, value in zip(truths, values, strict=True)
        ]
        again = np.array(values) + 0.001 * rng.standard_normal((100, len(truths)))
        draws.by_tag[run.folder.name] = {"pr_auc": again.astype(np.float32)}
    parameters = (0.9, 1.0, exponent) if law == "power law" else (0.5, 0.02)
    forecast = Forecast("one", "pr_auc", law, parameters, {}, [], None, [], None, None)
    return {row.tag: row for row in tag_outlook(study, draws, [forecast])}


def test_finished_gaining_and_undecided_tags() -> None:
    sizes = np.array(SIZES, dtype=float)
    found = outlook({
        "level": np.full(5, 0.7),
        "rising": 0.8 - 6 * sizes**-0.5,
        "wild": 0.5 + np.array([0.0, 0.04, -0.03, 0.05, -0.01]),
    })  # fmt: skip
    assert {tag: row.verdict for tag, row in found.items()} == {
        "level": "finished", "rising": "gaining", "wild": "undecided" if found["wild"].high >= STEP else "finished",
    }  # fmt: skip
    rising = found["rising"]
    assert rising.gain == pytest.approx(6 * 4000**-0.5 * (1 - 0.5**0.5), abs=0.004)
    assert rising.low < rising.gain < rising.high
    assert rising.positives == 400
    # a doubling brings STEP where the gain has fallen to it: at 4000 (gain / STEP)²
    wanted = 400 * ((6 * 4000**-0.5 * (1 - 0.5**0.5) / STEP) ** 2 - 1)
    assert rising.more[0] < wanted < rising.more[1]
    assert found["level"].more == (0, 0)


def test_a_line_over_the_doublings_never_ends() -> None:
    found = outlook({"rising": 0.4 + 0.05 * np.arange(5.0), "slow": 0.4 + 0.02 * np.arange(5)}, law="log-linear")
    assert found["rising"].gain == pytest.approx(0.05, abs=0.003)
    assert found["rising"].more == (None, None)


def test_no_gain_goes_beyond_a_perfect_score() -> None:
    found = outlook({"nearly": np.array([0.85, 0.89, 0.93, 0.96, 0.997])}, law="log-linear")["nearly"]
    assert max(found.gain, found.low, found.high) <= 1 - found.score < STEP
    assert (found.verdict, found.more) == ("finished", (0, 0))


def test_noise_makes_tags_undecided_and_one_seed_knows_the_songs_only() -> None:
    truth = {"slow": 0.5 + 0.005 * np.arange(5.0)}
    assert outlook(truth, law="log-linear", noise=0.03)["slow"].verdict == "undecided"
    single = outlook(truth, law="log-linear", seeds=1)["slow"]
    assert single.seeds == 1
    assert single.high - single.low < 0.003


def test_two_seeds_borrow_the_variance_of_all_tags() -> None:
    """Else one degree of freedom made every interval 13 standard errors long."""
    truths = {f"tag {k}": 0.4 + 0.03 * np.arange(5.0) for k in range(12)}
    found = outlook(truths, law="log-linear", seeds=2, noise=0.005)
    assert all(0.001 < row.high - row.low < 0.03 for row in found.values())
    assert sum(row.verdict == "gaining" for row in found.values()) == 12
