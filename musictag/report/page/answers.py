"""The findings of a study in sentences: crossings, the best system per condition, and what paired tests confirm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from musictag.evaluation.metrics import METRICS
from musictag.report.statistics.crossing import Crossing
from musictag.report.statistics.inference import few_seeds
from musictag.report.statistics.paired_tests import Difference, leading_pairs
from musictag.report.study import Study
from musictag.report.tables.formats import join
from musictag.report.tables.scores import Row, score_rows
from musictag.report.wording import _counted, _shown, p_text, setting, signed


def answers(study: Study, crossings: Sequence[Crossing], differences: Sequence[Difference]) -> list[str]:
    """The most important sentence first, for the headline metrics. Names of systems are not escaped."""
    pairs = leading_pairs(study)
    crossings = [one for one in crossings if METRICS[one.metric].headline]
    differences = [one for one in differences if METRICS[one.metric].headline]
    return [*_crossing_words(crossings, pairs), *_best_words(study), *_difference_words(study, differences, pairs)]


def _crossing_words(crossings: Sequence[Crossing], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Crossings of the trend lines: every metric for the first pair, the first metric for the others."""
    lines = []
    for place, pair in enumerate(pairs):
        of_pair = [c for c in crossings if c.fit == "trend" and {c.system, c.other} == set(pair)]
        shown = of_pair[:1] if place else of_pair
        lines += [f"{METRICS[c.metric].label}: {c.text}{_alone(c.seeds) if c is shown[0] else ''}." for c in shown]
    return lines


def _best_words(study: Study) -> list[str]:
    rows = score_rows(study)
    lines = []
    for metric in study.headlines:
        if len(study.systems) == 1 or not study.factors:
            lines.append(_single_best(study, rows, metric))
            continue
        by_winner: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
        for condition in study.conditions:
            winners = tuple(row.system for row in rows if row.condition == condition and row.scores[metric].best)
            if winners:
                by_winner.setdefault(winners, []).append(condition)
        parts = [
            f"{join(winners)}{' alike' if len(winners) > 1 else ''} ({_settings(study.factors, conditions)})"
            for winners, conditions in by_winner.items()
        ]
        if parts:
            lines.append(f"Best by {METRICS[metric].label}: {'; '.join(parts)}.")
    return lines


def _single_best(study: Study, rows: Sequence[Row], metric: str) -> str:
    best = max(rows, key=lambda row: METRICS[metric].sign * row.scores[metric].value)
    where = setting(study.factors, best.condition)
    score = METRICS[metric].show(best.scores[metric].value)
    return f"Best by {METRICS[metric].label}: {best.system}{f' ({where})' if where else ''}, {score}."


def _difference_words(study: Study, differences: Sequence[Difference], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """For each leading pair, or the requested pair, under the last condition that both have."""
    tested = {(d.system, d.other) for d in differences}
    lines = []
    for pair in [pair for pair in pairs if pair in tested or pair[::-1] in tested] or sorted(tested):
        of_pair = [d for d in differences if {d.system, d.other} == set(pair)]
        last = max((d.condition for d in of_pair), key=study.conditions.index)
        of_last = [d for d in of_pair if d.condition == last]
        parts = []
        for d in of_last:
            said = ("", "") if parts else ("95% interval ", "p after Holm ")  # only the first time
            value, low, high = (signed(number, METRICS[d.metric].decimals) for number in (d.value, d.low, d.high))
            between = f"{said[0]}{low} to {high}, {said[1]}{p_text(d.p_holm)}"
            parts.append(f"{METRICS[d.metric].label} {value} ({between})")
        where = setting(study.factors, last)
        one = of_last[0]
        pair_words = f"{one.system} minus {one.other}{f' with {where}' if where else ''}"
        kind = "Paired test" if one.paired_seeds else "Test"
        lines.append(f"{kind}, {pair_words}: {', '.join(parts)}{_alone(one.seeds)}.")
    return lines


def _alone(seeds: int) -> str:
    return f"; {words}" if (words := few_seeds(seeds)) else ""


def _settings(factors: Sequence[str], conditions: Sequence[tuple[Any, ...]]) -> str:
    if len(factors) == 1:
        known = [_shown(condition[0]) for condition in conditions if condition[0] is not None]
        return _counted(factors[0], join(known)) if known else "without that setting"
    return "; ".join(setting(factors, condition) for condition in conditions)
