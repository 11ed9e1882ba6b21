"""All tables except the main one: runs, fits and crossings, paired tests, gains of the tags.

Each exists twice: as plain values for CSV files and Weights & Biases, and as a sheet for readers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple

from musictag.evaluation.metrics import METRICS
from musictag.report.content import Table
from musictag.report.settings import flat
from musictag.report.statistics.contrasts import Contrast
from musictag.report.statistics.crossing import Crossing
from musictag.report.statistics.inference import few_seeds
from musictag.report.statistics.paired_tests import Change, Difference, TagGain
from musictag.report.statistics.popularity import MIN_EXPECTED, Exclusive, Popularity
from musictag.report.statistics.scaling import Curve
from musictag.report.study import Study
from musictag.report.tables.formats import Cell, Sheet, join, number, text
from musictag.report.tables.protocol import converged
from musictag.report.tables.scores import run_rows
from musictag.report.wording import factor_label, p_text, setting, signed

#: With more systems than this, a table of tags only shows those that are compared with each other.
_MOST_SYSTEMS = 4
_BETTER_BELOW = "a negative difference is an improvement"
#: CSV columns of a change, in the order of its fields.
_ENDS = ("", "_low", "_high", "_p", "_p_adjusted")
_BIASES = {
    "roc_auc_correlation": "prevalence and ROC-AUC",
    "pr_auc_correlation": "prevalence and PR-AUC",
    "calibration_slope": "slope of the scores",
    "top_share": "slots of the most popular fifth",
}


def run_table(study: Study) -> Table:
    """One line per run."""
    rows = run_rows(study)
    return Table("Runs", list(rows[0]), [list(row.values()) for row in rows])


def run_sheet(study: Study) -> Sheet:
    """One line per run, with what fits on a page."""
    headings = [
        "system",
        *map(factor_label, study.factors),
        "seed",
        *(METRICS[metric].label for metric in study.shown_metrics),
    ]
    headings += ["epochs", "device", "run folder"]
    rows = []
    for run in study.runs:
        cells = [text(run.system), *map(text, run.condition), text(run.seed if run.seed >= 0 else None)]
        cells += [number(run.value(key), f".{METRICS[key].decimals + 1}f") for key in study.shown_metrics]
        epochs = text(run.metrics["epochs"])
        cells += [
            Cell(f"{epochs.text} †", epochs.value) if converged(run) is False else epochs,
            text(run.metrics["device"]),
            text(run.folder.name),
        ]
        rows.append(cells)
    last = len(headings)
    notes = ["†: had not converged."] if any(converged(run) is False for run in study.runs) else []
    return Sheet("Finished runs", headings, rows, frozenset(range(1, last - 2)), notes=notes)


def settings_sheet(study: Study) -> Sheet:
    """The configuration keys that have the same value in all runs, with that value."""
    configs = [flat(run.config) for run in study.runs]
    first = configs[0]
    shared = {key: value for key, value in first.items() if all(key in c and c[key] == value for c in configs)}
    rows = [[text(key), text(value)] for key, value in shared.items() if value is not None]
    return Sheet("Shared settings", ["key", "value"], rows)


def difference_table(study: Study, differences: Sequence[Difference]) -> Table:
    columns = ["system", "other", *study.factors, "metric", "value", "low", "high", "p", "p_holm", "seeds"]
    columns.append("paired_seeds")
    rows = [
        [d.system, d.other, *d.condition, d.metric, d.value, d.low, d.high, d.p, d.p_holm, d.seeds, d.paired_seeds]
        for d in differences
    ]
    return Table("Paired tests", columns, rows)


def difference_sheet(study: Study, differences: Sequence[Difference], picked: bool = False) -> Sheet:
    """``picked``: the pairs are a selection of all pairs, and Holm's correction counts the others, too."""
    headings = ["metric", *map(factor_label, study.factors), "system", "minus", "difference", "95% interval"]
    headings += ["p", "p after Holm", "seeds"]
    rows, rules = [], set()
    for place, d in enumerate(differences):
        if place and d.metric != differences[place - 1].metric:
            rules.add(place)
        cells = [Cell(METRICS[d.metric].label, d.metric), *map(text, d.condition), text(d.system), text(d.other)]
        rows.append([*cells, *tested(d)])
    shown = dict.fromkeys(METRICS[d.metric] for d in differences)
    lower = [metric.label for metric in shown if metric.better == "min"]
    factors = len(study.factors)
    numeric = frozenset({*range(1, 1 + factors), *range(3 + factors, len(headings))})
    counted = "all pairs of systems, from which validation scores selected these" if picked else "all rows of a metric"
    notes = [
        "Over songs and seeds: both systems are scored on the same resamples of the test songs, and compared seed by "
        "seed where both have them; the intervals account for the small number of seeds. p is two-sided; Holm's "
        f"correction is over {counted}. Bold: below 0.05 after it."
        f"{f' {join(lower)}: {_BETTER_BELOW}.' if lower else ''}",
        *seed_notes(d.seeds for d in differences if not d.pooled),
    ]
    return Sheet("Differences of systems", headings, rows, numeric, frozenset(rules), notes=notes)


def tested(one: Difference | Contrast) -> list[Cell]:
    """Value, interval, p, p after Holm's correction (–: none) and seeds."""
    value, low, high = (signed(number, METRICS[one.metric].decimals) for number in (one.value, one.low, one.high))
    clear = (one.p if one.p_holm is None else one.p_holm) < 0.05
    p_values = [Cell("–" if p is None else p_text(p), p) for p in (one.p, one.p_holm)]
    return [Cell(value, one.value, clear), Cell(f"{low} to {high}", one.low), *p_values, text(one.seeds)]


def crossing_table(crossings: Sequence[Crossing]) -> Table:
    columns = ["system", "other", "metric", "fit", "size", "low", "high", "seeds", "text"]
    return Table("Crossings", columns, [[getattr(c, column) for column in columns] for c in crossings])


def crossing_sheet(crossings: Sequence[Crossing]) -> Sheet:
    rows = [[text(METRICS[c.metric].label), text(c.fit), Cell(c.text, c.text)] for c in crossings]
    notes = [
        "Only within the measured sizes, without extrapolation. The interval contains the sizes at which the fits do "
        "not differ significantly, over songs and seeds; each interval is 95% by itself.",
        *seed_notes(c.seeds for c in crossings),
    ]
    return Sheet("Where one system overtakes another", ["metric", "fit", "result"], rows, notes=notes)


def fit_table(curves: Mapping[str, Sequence[Curve]]) -> Table:
    columns = ["system", "metric", "intercept", "gain_per_doubling", "trend_r2", "asymptote", "factor", "exponent"]
    rows = []
    for curve in (curve for of_metric in curves.values() for curve in of_metric):
        trend, power = curve.trend or (None, None), curve.power_law or (None, None, None)
        rows.append([curve.system, curve.metric, *trend, curve.trend_r2, *power, curve.power_law_r2])
    return Table("Fits", [*columns, "power_law_r2"], rows)


def fit_sheet(curves: Mapping[str, Sequence[Curve]]) -> Sheet:
    headings = ["metric", "system", "gain per doubling", "R² of the trend", "power law", "R² of the power law"]
    rows, rules, remarks = [], set(), {}
    for of_metric in curves.values():
        rules.add(len(rows))
        for curve in of_metric:
            decimals = METRICS[curve.metric].decimals
            slope = Cell("–") if curve.trend is None else Cell(signed(curve.trend[1], decimals), curve.trend[1])
            law = Cell("–")
            if curve.power_law is not None:
                asymptote, factor, exponent = curve.power_law
                sign = "−" if METRICS[curve.metric].better == "max" else "+"
                law = Cell(f"{asymptote:.3f} {sign} {factor:.3g} × songs^−{exponent:.2f}", asymptote)
            cells = [text(METRICS[curve.metric].label), text(curve.system), slope, number(curve.trend_r2, ".2f"), law]
            rows.append([*cells, number(curve.power_law_r2, ".2f")])
            for note in curve.notes:
                remarks.setdefault(note, []).append(f"{curve.system} by {METRICS[curve.metric].label}")
    notes = [f"{note[:1].upper()}{note[1:]} ({'; '.join(of)})." for note, of in remarks.items()]
    return Sheet("Fits to the scores", headings, rows, frozenset({2, 3, 4, 5}), frozenset(rules - {0}), notes=notes)


def gain_table(study: Study, gains: Sequence[TagGain]) -> Table:
    columns = ["tag", "kind", "metric", "prevalence"]
    for system in study.systems:
        columns += [f"{system}_{name}" for name in ("first", "last", *(f"gain{end}" for end in _ENDS))]
    columns += [f"{one}_minus_{other}{end}" for one, other in gains[0].system_gains for end in _ENDS]
    rows = []
    for gain in gains:
        row = [gain.tag, gain.kind, gain.metric, gain.prevalence]
        for system in study.systems:
            change = gain.size_gains.get(system)
            row += [*gain.scores[system], *(astuple(change) if change else [None] * len(_ENDS))]
        rows.append(row + [value for change in gain.system_gains.values() for value in astuple(change)])
    return Table("Gains of the tags", columns, rows)


def gain_sheets(study: Study, gains: Sequence[TagGain]) -> dict[str, Sheet]:
    """One sheet per metric: each tag's scores, gains from the first to the last condition, and between systems."""
    return {
        metric: _gain_sheet(study, of_metric)
        for metric in study.metrics
        if (of_metric := [gain for gain in gains if gain.metric == metric])
    }


def _gain_sheet(study: Study, gains: Sequence[TagGain]) -> Sheet:
    pairs = list(gains[0].system_gains)
    systems = study.systems
    if len(systems) > _MOST_SYSTEMS:
        systems = [system for system in systems if any(system in pair for pair in pairs)]
    metric = gains[0].metric
    with_songs = any(gain.prevalence is not None for gain in gains)
    headings = ["tag", *(["songs with it"] if with_songs else [])]
    between = [system for system in systems if any(system in gain.size_gains for gain in gains)]
    for system in systems:
        headings += [system, *([f"{system}: gain"] if system in between else [])]
    headings += [f"{one} minus {other}" for one, other in pairs]
    rows = []
    for gain in gains:
        cells = [text(gain.tag), *([number(gain.prevalence, ".1%")] if with_songs else [])]
        for system in systems:
            cells.append(number(gain.scores[system][-1]))
            if system in between:
                cells.append(_change(gain.size_gains.get(system)))
        rows.append([*cells, *map(_change, gain.system_gains.values())])
    notes = [
        "In brackets: the 95% interval of this change alone, over songs and seeds. Bold: p below 0.05 after Benjamini "
        "and Hochberg's correction for all changes between sizes, or between systems, of this metric: of those in "
        "bold, at most 5% are due to chance on average.",
        *seed_notes(len(cell) for cell in study.cells if cell[0].system in systems),
    ]
    if between:
        conditions = [condition for condition in study.conditions if None not in condition]
        first, last = (setting(study.factors, conditions[place]) for place in (0, -1))
        notes.insert(0, f"Scores with {last}; gain: difference from those with {first}.")
    if METRICS[metric].better == "min":
        notes.append("A negative change is an improvement.")
    title = f"{METRICS[metric].label} of every tag"
    return Sheet(title, headings, rows, frozenset(range(1, len(headings))), notes=notes)


def _change(change: Change | None) -> Cell:
    if change is None:
        return Cell("–")
    words = f"{signed(change.value)} ({signed(change.low)} to {signed(change.high)})"
    return Cell(words, change.value, change.p_adjusted < 0.05)


def seed_notes(seeds: Iterable[int]) -> list[str]:
    """The caveats for results with these numbers of seeds."""
    every = set(seeds)
    where = " (where this applies)" if len(every) > 1 else ""
    found = [words for count in sorted(every) if (words := few_seeds(count))]
    return [f"{words[:1].upper()}{words[1:]}{where}." for words in found]


def popularity_table(study: Study, rows: Sequence[Popularity]) -> Table:
    columns = ["system", *study.factors, "seeds"]
    for name in _BIASES:
        columns += [name, f"{name}_low", f"{name}_high"]
    lines = []
    for row in rows:
        line = [row.system, *row.condition, row.seeds]
        for name in _BIASES:
            line += [None if end != end else end for end in getattr(row, name) or [None] * 3]
        lines.append([*line, row.true_share])
    return Table("Popular tags", [*columns, "true_share"], lines)


def popularity_sheet(study: Study, rows: Sequence[Popularity]) -> Sheet:
    headings = ["system", *map(factor_label, study.factors), *_BIASES.values(), "their true share"]
    shown = []
    for row in rows:
        cells = [text(row.system), *map(text, row.condition)]
        cells += [_with_interval(getattr(row, name), ".1%" if name == "top_share" else ".2f") for name in _BIASES]
        shown.append([*cells, number(row.true_share, ".1%")])
    notes = [
        "Rank correlation over the tags between prevalence and ROC-AUC, or PR-AUC scaled from chance (0) to perfect "
        "(1): above 0, popular tags are predicted better. Slope of the mean score against the prevalence: above 1, "
        "popular tags get more than their share. Slots: as many of a song's highest scores as it has tags, at most "
        "five. In brackets: the 95% interval over songs."
    ]
    return Sheet("Are popular tags predicted better?", headings, shown, frozenset(range(1, len(headings))), notes=notes)


def exclusive_table(study: Study, found: Exclusive) -> Table:
    columns = ["system", *study.factors, "seeds", "ratio", "low", "high"]
    rows = [[mean.system, *mean.condition, mean.seeds, mean.ratio, mean.low, mean.high] for mean in found.means]
    return Table("Tags that exclude each other", columns, rows)


def exclusive_sheets(study: Study, found: Exclusive) -> dict[str, Sheet]:
    """The means over the pairs, and the individual pairs; empty if no tags exclude each other."""
    if not found.pairs:
        return {}
    headings = ["system", *map(factor_label, study.factors), "given together, relative to independence"]
    rows = [
        [text(m.system), *map(text, m.condition), _with_interval((m.ratio, m.low, m.high), ".2f")] for m in found.means
    ]
    notes = [
        f"Mean over {len(found.pairs):,} pairs of tags that no test song has together, although independent tags "
        f"would in {MIN_EXPECTED:g} or more. A tag is given to as many songs as have it, those with "
        "the highest scores. 0: never together; 1: as if they were independent. In brackets: the 95% "
        "interval."
    ]
    means = Sheet(
        "Exclusive tags that are given together", headings, rows, frozenset(range(1, len(headings))), notes=notes
    )
    systems = [system for system in study.systems if system in found.pairs[0].ratios]
    rows = [
        [
            text(pair.tag),
            text(pair.other),
            number(pair.expected, ".1f"),
            *(number(pair.ratios[s], ".2f") for s in systems),
        ]
        for pair in found.pairs
    ]
    headings = ["tag", "and", "expected songs", *systems]
    pairs = Sheet("The pairs, under each system's last condition", headings, rows, frozenset(range(2, len(headings))))
    return {"exclusive": means, "exclusive_pairs": pairs}


def _with_interval(values: tuple[float, float, float] | None, form: str) -> Cell:
    if values is None:
        return Cell("–")
    value, low, high = (f"{one:{form}}".replace("-", "−") for one in values)
    return Cell(f"{value} ({low} to {high})" if values[1] == values[1] else value, values[0])
