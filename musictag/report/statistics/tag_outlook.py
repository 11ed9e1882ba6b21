"""Which tags are finished, and which want how many more positive examples.

Legend: n seeds, R resamples, M sizes, K tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from musictag.evaluation.metrics import METRICS
from musictag.report.statistics.fits import EXPONENTS
from musictag.report.statistics.forecast import Forecast
from musictag.report.statistics.inference import PRIOR_FREEDOM, Estimate, estimate, margins
from musictag.report.statistics.resampling import Draws, tag_scores
from musictag.report.study import Study

#: A doubling that brings less than this is no gain worth having.
STEP = 0.005
_BEYOND = 64  # larger multiples of the songs are not computed
Ends = tuple[float | None, float | None]


@dataclass(frozen=True)
class TagOutlook:
    """What the next doubling of the training songs would bring to a tag, with its interval; positive: better.

    ``positives``: about as many of the largest training set have the tag (by its share of the test songs).
    ``verdict``: *finished* if a gain of STEP is excluded, *gaining* if no gain is, else *undecided*. ``more``: how many
    more positives, at the ends of that interval, until a doubling brings less than STEP; None: more than 63 times those
    it has. ``seeds``: those with the largest size.
    """

    tag: str
    system: str
    metric: str
    positives: int
    score: float
    gain: float
    low: float
    high: float
    verdict: str
    more: Ends
    seeds: int


def tag_outlook(
    study: Study, draws: Draws, forecasts: Sequence[Forecast], confidence: float = 0.95
) -> list[TagOutlook]:
    """The outlook of each classification tag for each of the systems with ``forecasts``, all of one per-tag metric.

    A tag's curve has the exponent of its system's (a line over the doublings has one near 0), so that only its level
    and its gain are fitted: least squares of each seed's own scores. No gain goes beyond a perfect score. Systems whose
    curve has no law are left out.
    """
    return [row for forecast in forecasts if forecast.law for row in _of_system(study, draws, forecast, confidence)]


def _of_system(study: Study, draws: Draws, forecast: Forecast, confidence: float) -> list[TagOutlook]:
    metric, sign = forecast.metric, METRICS[forecast.metric].sign
    runs = [run for run in study.runs if run.system == forecast.system]
    largest = max(run.train_songs for run in runs)
    reference = study.runs[0]
    about = {tag["name"]: tag for tag in reference.metrics["test"]["tags"]}
    order = reference.predictions.tags.tolist()
    tags = [k for k, name in enumerate(order) if about[name]["prevalence"] is not None and about[name][metric]]
    names = [order[k] for k in tags]
    exponent = _exponent(forecast)
    units, scores = [], []
    for seed in sorted({run.seed for run in runs}):
        own = [run for run in runs if run.seed == seed]
        sizes = np.array([run.train_songs for run in own], dtype=np.float64)
        if len(own) < 2 or sizes.max() < largest:
            continue
        decays = (sizes / largest) ** -exponent
        centred = decays - decays.mean()
        contrast = -centred / (centred**2).sum() * (1 - 2**-exponent)  # of the fall of the decay in the next doubling
        values = np.stack([tag_scores(run, draws, metric, names, tags) for run in own], axis=1)
        units.append(sign * np.einsum("m,rmk->rk", contrast, values))
        scores.append(values[0, int(sizes.argmax())])
    if not units:
        return []
    found = _moderated(estimate(np.stack(units, axis=1)))
    margin = margins(found, confidence)
    rows = []
    for place, k in enumerate(tags):
        score = float(np.mean([own[place] for own in scores]))
        left = sign * (METRICS[metric].perfect - score)
        gain, low, high = (min(float(found.value[place] + side * margin[place]), left) for side in (0, -1, 1))
        positives = round(about[order[k]]["prevalence"] * largest)
        verdict = "finished" if high < STEP else "gaining" if low > 0 else "undecided"
        more = (0, 0) if verdict == "finished" else tuple(_more(end, exponent, positives) for end in (low, high))
        rows.append(
            TagOutlook(order[k], forecast.system, metric, positives, score, gain, low, high, verdict, more, len(units))
        )
    return rows


def _moderated(found: Estimate) -> Estimate:
    """With the variance between seeds of each tag drawn towards that of all tags (Smyth, 2004): two seeds alone say
    nearly nothing about it."""
    if not found.freedom:
        return found
    seeds = (PRIOR_FREEDOM * found.seeds.mean() + found.freedom * found.seeds) / (PRIOR_FREEDOM + found.freedom)
    return Estimate(found.value, found.songs, seeds, found.freedom + PRIOR_FREEDOM)


def _exponent(forecast: Forecast) -> float:
    if forecast.law == "power law":
        return forecast.parameters[2]
    return forecast.parameters[3] if forecast.law == "broken power law" else EXPONENTS[0]


def _more(gain: float, exponent: float, positives: int) -> int | None:
    """How many more positives until a doubling that now brings ``gain`` brings STEP."""
    doublings = np.log2(max(gain / STEP, 1.0)) / exponent
    return round(positives * (2**doublings - 1)) if doublings <= np.log2(_BEYOND) else None
