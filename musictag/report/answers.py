"""What a study says, in sentences: where the curves cross, who is best where, and what of it a paired test confirms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from musictag.evaluation.registry import METRICS
from musictag.report.crossing import Crossing
from musictag.report.inference import few_seeds
from musictag.report.runs import Study, factor_label
from musictag.report.scores import Row, score_rows
from musictag.report.sheets import join
from musictag.report.systems import Difference, leading_pairs


def answers(study: Study, crossings: Sequence[Crossing], differences: Sequence[Difference]) -> list[str]:
    """The most telling sentence first, of the headline metrics. Names of systems stand in them as they are."""
    pairs = leading_pairs(study)
    crossings = [one for one in crossings if METRICS[one.metric].headline]
    differences = [one for one in differences if METRICS[one.metric].headline]
    return [*_crossing_words(crossings, pairs), *_best_words(study), *_difference_words(study, differences, pairs)]


def setting(factors: Sequence[str], condition: Sequence[Any]) -> str:
    """A condition in words: "1,000 training songs", "back-end filters 64"; empty where nothing varies."""
    parts = [_counted(key, _shown(value)) for key, value in zip(factors, condition, strict=True) if value is not None]
    return ", ".join(parts)


def p_text(p: float) -> str:
    """Three decimals; smaller ones as ``< 0.001``."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _crossing_words(crossings: Sequence[Crossing], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """By the trend lines; every metric of the first pair, the first metric of the others."""
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
    """Of each leading pair, or of the pair that was asked for, under the last condition that both have."""
    tested = {(d.system, d.other) for d in differences}
    lines = []
    for pair in [pair for pair in pairs if pair in tested or pair[::-1] in tested] or sorted(tested):
        of_pair = [d for d in differences if {d.system, d.other} == set(pair)]
        last = max((d.condition for d in of_pair), key=study.conditions.index)
        of_last = [d for d in of_pair if d.condition == last]
        parts = []
        for d in of_last:
            said = ("", "") if parts else ("95% interval ", "p after Holm ")  # once is enough
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


def signed(value: float, decimals: int = 3) -> str:
    """``+0.012`` or ``−0.012``."""
    return f"{value:+.{decimals}f}".replace("-", "−")


def _settings(factors: Sequence[str], conditions: Sequence[tuple[Any, ...]]) -> str:
    if len(factors) == 1:
        known = [_shown(condition[0]) for condition in conditions if condition[0] is not None]
        return _counted(factors[0], join(known)) if known else "without that setting"
    return "; ".join(setting(factors, condition) for condition in conditions)


def _counted(key: str, values: str) -> str:
    return f"{values} training songs" if key == "data.train_songs" else f"{factor_label(key)} {values}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
