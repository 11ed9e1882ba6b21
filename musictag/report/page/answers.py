"""The findings of a study in sentences: crossings, the best system per condition, and what paired tests confirm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from musictag.evaluation.metrics import METRICS, Metric
from musictag.report.statistics.crossing import Crossing
from musictag.report.statistics.paired_tests import Difference, leading_pairs, matching
from musictag.report.study import Study
from musictag.report.tables.details import seed_notes
from musictag.report.tables.formats import join
from musictag.report.tables.scores import Row, score_rows
from musictag.report.wording import NAMED, SIZE, counted, p_text, setting, short, shown, signed

#: Characters of a list of winners; a longer one is counted.
_LONGEST = 120
_MOST_WINNERS = 3


def answers(study: Study, crossings: Sequence[Crossing], differences: Sequence[Difference]) -> list[str]:
    """The most important sentence first, for the headline metrics. Names of systems are not escaped."""
    pairs = leading_pairs(study)
    crossings = [one for one in crossings if METRICS[one.metric].headline]
    differences = [one for one in differences if METRICS[one.metric].headline]
    crossed, best = _crossing_words(crossings, pairs), _best_words(study)
    return [
        # a crossing answers for two systems only
        *(best + crossed if len(pairs) > 1 else crossed + best),
        *_difference_words(study, differences, pairs),
        *seed_notes([*(c.seeds for c in crossings), *(d.seeds for d in differences if not d.pooled)]),
    ]


def _crossing_words(crossings: Sequence[Crossing], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Crossings of the trend lines: every metric for the first pair, the first metric for the others."""
    lines = []
    for place, pair in enumerate(pairs):
        of_pair = [c for c in crossings if c.fit == "trend" and {c.system, c.other} == set(pair)]
        shown = of_pair[:1] if place else of_pair
        for c in shown:
            text = c.text
            for system in (c.system, c.other):
                text = text.replace(system, short(system))
            lines.append(f"{METRICS[c.metric].label}: {text}.")
    return lines


def _best_words(study: Study) -> list[str]:
    """Which systems are best, and under which conditions; but for sizes, of which more are better, also the best cell.
    Metrics with the same answer share a sentence."""
    rows = {(row.system, row.condition): row for row in score_rows(study)}
    found: dict[str, list[str]] = {}
    highest: dict[str, dict[str, str]] = {}
    for metric in map(METRICS.get, study.headlines):
        if by_winner := _winners(study, rows, metric):
            found.setdefault(_wins(study, by_winner), []).append(metric.label)
        if not by_winner or study.factors != [SIZE]:
            row = max(rows.values(), key=lambda row: metric.sign * row.scores[metric.key].value)
            where = setting(study.factors, row.condition)
            words = f"{short(row.system)}{f' ({where})' if where else ''}"
            highest.setdefault(words, {})[metric.label] = metric.show(row.scores[metric.key].value)
    lines = [f"Best by {join(metrics)}: {words}." for words, metrics in found.items()]
    scores = {words: join([f"{label} {value}" for label, value in of.items()]) for words, of in highest.items()}
    if found and scores:
        lines.append(f"Best mean of all: {'; '.join(f'{words}, {said}' for words, said in scores.items())}.")
    elif len(rows) == 1:
        lines += [f"{words}: {said}." for words, said in scores.items()]
    else:
        lines += [f"Best by {join(list(of))}: {words}, {join(list(of.values()))}." for words, of in highest.items()]
    return lines


def _winners(
    study: Study, rows: Mapping[tuple[str, tuple[Any, ...]], Row], metric: Metric
) -> dict[tuple[str, ...], list[tuple[Any, ...]]]:
    """The conditions under which systems are best, equal to the metric's decimals; none without systems to compare."""
    by_winner: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    for condition in study.full_conditions if study.factors else ():
        cells = [runs for system in study.systems if (runs := matching(study, system, condition))]
        there = [rows[runs[0].system, runs[0].condition] for runs in cells]
        merit = {row.system: metric.sign * round(row.scores[metric.key].value, metric.decimals) for row in there}
        if len(merit) > 1:
            winners = tuple(system for system, value in merit.items() if value == max(merit.values()))
            by_winner.setdefault(winners, []).append(condition)
    return by_winner


def _wins(study: Study, by_winner: Mapping[tuple[str, ...], Sequence[tuple[Any, ...]]]) -> str:
    """Where which system is best, or how often if that would be a long list."""
    total = sum(map(len, by_winner.values()))
    if len(by_winner) == 1 and total > 1:
        several = "" if total == len(study.full_conditions) else " with several systems"
        every = "both" if total == 2 else f"all {total:,}"
        return f"{_systems(next(iter(by_winner)))} under {every} conditions{several}"
    parts = [f"{_systems(winners)} ({_settings(study, conditions)})" for winners, conditions in by_winner.items()]
    if len("; ".join(parts)) <= _LONGEST:
        return "; ".join(parts)
    ranked = sorted(by_winner.items(), key=lambda item: -len(item[1]))
    parts = [f"{_systems(winners)} in {len(conditions):,}" for winners, conditions in ranked[:_MOST_WINNERS]]
    parts[0] += f" of {total:,} conditions"
    left = sum(len(conditions) for _, conditions in ranked[_MOST_WINNERS:])
    return join([*parts, *([f"others in {left:,}"] if left else [])])


def _systems(winners: Sequence[str]) -> str:
    return f"{join(list(map(short, winners)))}{' alike' if len(winners) > 1 else ''}"


def _difference_words(study: Study, differences: Sequence[Difference], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """For each leading pair, or the requested pair, under the last condition that both have."""
    if not differences and len(study.systems) > 1:
        return ["No two systems were run under the same condition, so no test compares them."]
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
        pair_words = f"{short(one.system)} minus {short(one.other)}{f' with {where}' if where else ''}"
        kind = "Paired test" if one.paired_seeds else "Test"
        lines.append(f"{kind}, {pair_words}: {', '.join(parts)}.")
    return lines


def _settings(study: Study, conditions: Sequence[tuple[Any, ...]]) -> str:
    """Several conditions in words, with the name of a single factor said once, and of sizes in a row the ends."""
    factors, every = study.factors, study.full_conditions
    first = every.index(conditions[0])
    if factors == [SIZE] and len(conditions) > 2 and every[first : first + len(conditions)] == [*conditions]:
        return counted(SIZE, f"{shown(conditions[0][0])} to {shown(conditions[-1][0])}")
    if len(factors) > 1 or factors[0] == NAMED or None in conditions[0]:
        return "; ".join(setting(factors, condition) for condition in conditions) or "every condition"
    return counted(factors[0], join([shown(condition[0]) for condition in conditions]))
