"""What differs from seed to seed widens every interval of a report."""

from __future__ import annotations

import numpy as np
import pytest

from musictag.report.statistics.paired_tests import paired_test
from musictag.report.statistics.resampling import Draws, resampled
from musictag.report.statistics.scaling import crossings, curves
from musictag.report.study import Study, read_study
from tests.helpers.studies import write_study


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[Study, Draws], tuple[Study, Draws]]:
    """The same study twice: seeds hardly differ, and differ by far more than the songs make of it."""
    found = []
    for deviation in (0.0, 0.08):
        folder = tmp_path_factory.mktemp("study")
        write_study(folder, songs=400, tags=8, regression_tags=0, seeds=range(5), seed_deviation=deviation)
        study = read_study(folder)
        found.append((study, resampled(study, 200)))
    return tuple(found)


def test_curves_have_wider_bands_where_seeds_differ(studies: tuple) -> None:
    for calm, wild in zip(*(curves(study, draws, "roc_auc") for study, draws in studies), strict=True):
        widths = [np.mean(np.subtract(high, low)) for _, low, high in (calm.trend_band, wild.trend_band)]
        assert widths[1] > 1.5 * widths[0]


def test_crossings_have_wider_intervals_where_seeds_differ(studies: tuple) -> None:
    found = [crossings(study, draws, "roc_auc")[0] for study, draws in studies]
    widths = [np.log((one.high or 2000) / (one.low or 250)) for one in found]
    assert widths[1] > 1.5 * widths[0]


def test_differences_have_wider_intervals_where_seeds_differ(studies: tuple) -> None:
    found = [paired_test(study, draws, metrics=["roc_auc"]) for study, draws in studies]
    widths = [np.mean([one.high - one.low for one in tested]) for tested in found]
    assert widths[1] > 1.5 * widths[0]
