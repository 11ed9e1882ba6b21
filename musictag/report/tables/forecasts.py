"""Tables of laws, held-out predictions, and the questions that they answer.

Each exists twice: as plain values for CSV files and Weights & Biases, and as a sheet for readers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from musictag.evaluation.metrics import METRICS
from musictag.report.content import Table
from musictag.report.statistics.components import DIFFERENCE, Components, SeedsNeeded
from musictag.report.statistics.crossing import number as songs_text
from musictag.report.statistics.forecast import Forecast, Prospect, Reach
from musictag.report.statistics.points import SHAPE_LEVEL
from musictag.report.statistics.tag_outlook import STEP, TagOutlook
from musictag.report.tables.formats import Cell, Sheet, join, number, text
from musictag.report.wording import p_text, signed

_LAWS = ("constant", "log-linear", "power law", "broken power law")


def law_table(forecasts: Sequence[Forecast]) -> Table:
    columns = ["system", "metric", "law", *(f"error_{law.replace(' ', '_').replace('-', '_')}" for law in _LAWS)]
    columns += ["parameters", "allowed", "not_a_curve", "p", "doubling", "doubling_low", "doubling_high"]
    rows = []
    for one in forecasts:
        row = [one.system, one.metric, one.law, *(one.errors.get(law) for law in _LAWS)]
        row += [" ".join(f"{value:.6g}" for value in one.parameters), "; ".join(one.contenders)]
        row += [one.departure.words, one.departure.p] if one.departure else [None, None]
        rows.append([*row, *(one.doubling or (None, None, None))])
    return Table("Laws", columns, rows)


def law_sheet(forecasts: Sequence[Forecast]) -> Sheet:
    """The law of each curve and its errors, or why it has none; and what twice the songs would bring."""
    headings = ["metric", "system", "law", *(f"error: {law}" for law in _LAWS), "twice the songs bring"]
    rows, rules, remarks = [], set(), {}
    for place, one in enumerate(forecasts):
        if place and one.metric != forecasts[place - 1].metric:
            rules.add(place)
        label = METRICS[one.metric].label
        law = one.law or (f"none: {one.departure.words} (p {p_text(one.departure.p)})" if one.departure else "none")
        cells = [text(label), text(one.system), text(law)]
        cells += [number(one.errors.get(law), ".1f", law == one.law) for law in _LAWS]
        rows.append([*cells, _interval(one.doubling, METRICS[one.metric].decimals)])
        for note in one.notes:
            remarks.setdefault(note, []).append(f"{one.system} by {label}")
    notes = [
        "A law is chosen by its error at the largest one or two sizes after a fit to the others (in standard errors of "
        "the points): the simplest whose squared error exceeds the least by at most 1, of those that fit within the "
        "noise (the broken power law only where no other does). All fits are weighted by the variance of each point. "
        "Twice the songs: the difference between twice "
        "the largest number of songs and this number, positive for a better score; its 95% interval covers all "
        "laws that the points allow.",
        f"A curve that falls somewhere, or whose gains grow with the number of songs, with p below {SHAPE_LEVEL:g} "
        "(the largest such contrast against the same maximum under noise), is said to do so and not fitted.",
        *(f"{note[:1].upper()}{note[1:]} ({'; '.join(of)})." for note, of in remarks.items()),
    ]
    return Sheet("The law of each curve", headings, rows, frozenset(range(3, 8)), frozenset(rules), notes=notes)


def held_out_table(forecasts: Sequence[Forecast]) -> Table:
    columns = ["system", "metric", "size", "runs", "law", "predicted", "low", "high", "measured", "hit"]
    rows = [[getattr(row, name) for name in columns] for one in forecasts for row in one.held_out]
    return Table("Held-out predictions", columns, rows)


def held_out_sheet(forecasts: Sequence[Forecast]) -> Sheet:
    """Predicted and measured scores at the hidden sizes."""
    headings = ["metric", "system", "training songs", "law", "predicted", "95% band", "measured", "", "runs"]
    rows, rules, before = [], set(), None
    for row in (row for one in forecasts for row in one.held_out):
        if rows and row.metric != before:
            rules.add(len(rows))
        before, metric = row.metric, METRICS[row.metric]
        form = f".{metric.decimals}f"
        cells = [text(metric.label), text(row.system), text(row.size), text(row.law), number(row.predicted, form)]
        cells += [Cell(f"{row.low:{form}} to {row.high:{form}}", row.low), number(row.measured, form)]
        rows.append([*cells, Cell("hit" if row.hit else "miss", float(row.hit), not row.hit), text(row.runs)])
    notes = [
        "The law was chosen and fitted without the hidden sizes. The band is for the mean of as many runs as were "
        "made there, on the same test songs: it covers the noise of the fit, of those runs, and all laws that the "
        "smaller sizes allow. Curves of one study share songs and seeds, so that their hits are not independent.",
    ]
    return Sheet("The largest sizes, predicted from the smaller ones", headings, rows, frozenset({2, 4, 5, 6, 8}),
                 frozenset(rules), notes=notes)  # fmt: skip


def reach_table(reaches: Sequence[Reach]) -> Table:
    columns = ["system", "metric", "target", "size", "low", "high", "smallest", "largest"]
    return Table("Songs needed", columns, [[getattr(one, name) for name in columns] for one in reaches])


def reach_sheet(reaches: Sequence[Reach]) -> Sheet:
    headings = ["metric", "target", "system", "training songs needed", "95% interval", ""]
    rows = []
    for one in reaches:
        size = f"more than {songs_text(16 * one.largest)}" if one.size is None else songs_text(one.size)
        size = f"at most {size}" if one.size == one.smallest else size
        low = "fewer than measured" if one.low is None else songs_text(one.low)
        high = "more than " + songs_text(16 * one.largest) if one.high is None else songs_text(one.high)
        beyond = "beyond the data" if one.size is None or one.size > one.largest else "within the data"
        cells = [text(METRICS[one.metric].label), number(one.target, f".{METRICS[one.metric].decimals}f")]
        rows.append([*cells, text(one.system), Cell(size, one.size), Cell(f"{low} to {high}", one.low), text(beyond)])
    return Sheet("How many songs for this score", headings, rows, frozenset({1, 3, 4}))


def prospect_table(prospects: Sequence[Prospect]) -> Table:
    columns = ["system", "other", "metric", "size", "text"]
    return Table("Crossings beyond the data", columns, [[getattr(one, name) for name in columns] for one in prospects])


def prospect_sheet(prospects: Sequence[Prospect]) -> Sheet:
    open_ones = [one for one in prospects if one.size is not None or one.uncertain]
    rows = [[text(METRICS[one.metric].label), Cell(one.text, one.text)] for one in open_ones]
    clear = f" {len(prospects) - len(open_ones)} pairs that are clear throughout are left out." if prospects else ""
    notes = [
        "By the law of each curve, up to 16 times the largest size that both have. Which is ahead is uncertain where "
        "the 95% interval of their difference, over songs, seeds and all laws that the points allow, contains zero. "
        f"No interval covers a law that only begins beyond the data.{clear}"
    ]
    return Sheet("Who would be ahead with more songs", ["metric", "result"], rows, notes=notes)


def outlook_table(rows: Sequence[TagOutlook]) -> Table:
    columns = ["tag", "system", "metric", "positives", "score", "gain", "low", "high", "verdict", "seeds"]
    lines = [[*(getattr(row, name) for name in columns), *row.more] for row in rows]
    return Table("Outlook of the tags", [*columns, "more_low", "more_high"], lines)


def outlook_sheet(rows: Sequence[TagOutlook]) -> Sheet:
    """The tags of each system, those that gain most first."""
    label, decimals = METRICS[rows[0].metric].label, METRICS[rows[0].metric].decimals
    headings = ["tag", "system", "songs with it", label, "twice the songs bring", "", "more songs with it"]
    lines = []
    for row in sorted(rows, key=lambda row: -row.gain):
        gain = _interval((row.gain, row.low, row.high), decimals)
        cells = [text(row.tag), text(row.system), text(row.positives), number(row.score, f".{decimals}f"), gain]
        lines.append([*cells, Cell(row.verdict, row.verdict, row.verdict != "undecided"), _more(row)])
    counts, verdicts = Counter((row.system, row.verdict) for row in rows), ("finished", "gaining", "undecided")
    per_system = [
        f"{system}: {join([f'{counts[system, verdict]} {verdict}' for verdict in verdicts])}"
        for system in dict.fromkeys(row.system for row in rows)
    ]
    notes = [
        f"Of the tags, {'; '.join(per_system)}. Finished: twice the songs bring less than {STEP:g} (95% interval of "
        "this tag alone, over songs and seeds); gaining: they bring more than nothing. The last column: how many more "
        f"songs with the tag until twice as many bring less than {STEP:g}, at both ends of that interval. All tags of "
        "a system are given the exponent of its law. Songs with it: by its share of the test songs.",
    ]
    title = "Which tags are finished, and which want more songs"
    return Sheet(title, headings, lines, frozenset({2, 3, 4, 6}), notes=notes)


def component_table(found: Sequence[Components], needed: Sequence[SeedsNeeded]) -> Table:
    """Variances by system and source, then those of the differences of the leading pairs with the seeds they need."""
    columns = ["system", "minus", "metric", "source", "variance", "was_negative", "freedom", "seeds_needed"]
    rows = []
    for one in found:
        rows += [[one.system, None, one.metric, name, value, name in one.negative, one.freedom, None]
                 for name, value in one.parts.items()]  # fmt: skip
        rows.append([one.system, None, one.metric, "test songs", one.songs, False, None, None])
    for one in needed:
        pair = [one.system, one.other, one.metric]
        rows.append([*pair, "seeds", one.seeds_variance, False, one.freedom, one.these_songs])
        rows.append([*pair, "test songs", one.songs_variance, False, None, one.any_songs])
    return Table("Variance by source", columns, rows)


def component_sheets(found: Sequence[Components], needed: Sequence[SeedsNeeded]) -> dict[str, Sheet]:
    """Standard deviations by source, and how many seeds a small difference needs."""
    sheets = {}
    if found:
        rows = []
        for one in found:
            total = sum(one.parts.values()) + one.songs
            for name, value in [*one.parts.items(), ("test songs", one.songs)]:
                deviation = "0 (estimated below 0)" if name in one.negative else f"{value**0.5:.4f}"
                cells = [text(one.system), text(name), Cell(deviation, value)]
                rows.append([*cells, number(value / total if total else None, ".0%"), text(one.runs)])
        notes = [
            f"Of one run's {METRICS[found[0].metric].label}, pooled over all conditions; method of moments (for "
            "balanced designs the analysis of variance). A source whose estimate is negative is set to 0. Test songs: "
            "the bootstrap, common to all runs, so that most of it cancels in differences. With few seeds, these are "
            "rough."
        ]
        headings = ["system", "source", "standard deviation", "share of the variance", "runs"]
        sheets["variance"] = Sheet("What a score varies with", headings, rows, frozenset({2, 3, 4}), notes=notes)
    if needed:
        rows = [
            [text(one.system), text(one.other), number(one.seeds_variance**0.5, ".4f"),
             number(one.songs_variance**0.5, ".4f"), _seeds(one.these_songs, ""),
             _seeds(one.any_songs, " (more test songs)"), text(one.freedom)]
            for one in needed
        ]  # fmt: skip
        headings = ["system", "minus", "SD between seeds", "SD due to the test songs", "seeds, on these songs"]
        headings += ["seeds, on any such songs", "degrees of freedom"]
        notes = [
            f"How many seeds of each system show a difference of {DIFFERENCE:g} in {METRICS[needed[0].metric].label} "
            "with 80% power (the two-sided test of differences at 5%, the same seeds for both where they have them). "
            "More seeds do not reduce what the test songs contribute."
        ]
        sheets["seeds_needed"] = Sheet("Seeds that a small difference needs", headings, rows, frozenset(range(2, 7)),
                                       notes=notes)  # fmt: skip
    return sheets


def _seeds(count: int | None, why: str) -> Cell:
    return Cell(f"none suffices{why}") if count is None else text(count)


def _more(row: TagOutlook) -> Cell:
    low, high = ("over 63 times as many" if end is None else f"{end:,}" for end in row.more)
    return Cell(low if low == high else f"{low} to {high}", None if row.more[0] is None else float(row.more[0]))


def _interval(values: tuple[float, float, float] | None, decimals: int) -> Cell:
    if values is None:
        return Cell("–")
    value, low, high = (signed(one, decimals) for one in values)
    return Cell(f"{value} ({low} to {high})", values[0])
