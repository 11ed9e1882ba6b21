"""Advice for one's own songs, from the finished runs of `musictag advise`.

Legend: R resamples, n seeds, M sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from musictag.common.errors import MusictagError
from musictag.evaluation.metrics import METRICS
from musictag.report.statistics.forecast import Forecast, Forecasts
from musictag.report.statistics.inference import few_seeds
from musictag.report.statistics.paired_tests import paired_test
from musictag.report.statistics.resampling import Draws, resampled
from musictag.report.statistics.tag_outlook import TagOutlook, tag_outlook
from musictag.report.study import Run, Study
from musictag.report.tables.formats import Sheet, join, number, text
from musictag.report.wording import p_text, signed

#: A tag with a lower ROC-AUC is not learnt; one with a higher one is finished, as far as examples help.
_UNLEARNT, _FINISHED = 0.65, 0.95
_MOST_TAGS = 8


@dataclass(frozen=True)
class Advice:
    """``best``: the system to use. ``answers``: questions with their answers. ``sheet``: scores by system and size."""

    best: str
    answers: list[tuple[str, str]]
    sheet: Sheet


def advise(study: Study, positives: Mapping[str, int], resamples: int = 1000) -> Advice:
    """What the runs of ``study``, at several numbers of training songs, say to the owner of the songs.

    The system is chosen by its mean test score with the most songs: validation scores favour systems that were fitted
    to the validation songs tag by tag, as trees are. ``positives``: training songs with each tag. Raises MusictagError
    as ``resampled`` does, and if no tag has a score.
    """
    draws = resampled(study, resamples)
    metric = next((key for key in ("pr_auc", "rmse") if key in study.metrics), None)
    if metric is None:
        raise MusictagError("no tag could be scored in all runs: each needs test songs with it, and without it")
    largest = max(run.train_songs for run in study.runs)
    top = [system for system in study.systems if _cell(study, system, largest)]
    sign = METRICS[metric].sign
    top.sort(key=lambda system: -sign * _mean(_cell(study, system, largest), metric))
    best, sheet = top[0], _sheet(study, metric, top)
    # what growth brings is known of the best one that has been trained with several numbers of songs
    several = (one for one in top if len({run.train_songs for run in study.runs if run.system == one}) > 1)
    grown = next(several, best)
    named = "" if grown == best else f"Known of {grown}. "
    which = _which(study, draws, metric, top, largest)
    # alone, as it may have sizes that others lack; last, since runs have the conditions of the latest study
    alone = Study(study.name, [run for run in study.runs if run.system == grown])
    (forecast,) = Forecasts(alone, draws, metric).found
    of_tags = Forecasts(alone, draws, "roc_auc").found if "roc_auc" in alone.metrics else []
    answers = [
        ("Which one now?", which),
        ("What would twice the songs bring?", named + _twice(forecast, largest, len(_cell(alone, grown, largest)))),
        ("Which tags want more examples?", named + _tags(tag_outlook(alone, draws, of_tags), positives)),
    ]
    return Advice(best, answers, sheet)


def _cell(study: Study, system: str, songs: int) -> list[Run]:
    return [run for run in study.runs if run.system == system and run.train_songs == songs]


def _mean(runs: list[Run], metric: str) -> float:
    return float(np.mean([run.value(metric) for run in runs]))


def _which(study: Study, draws: Draws, metric: str, top: list[str], largest: int) -> str:
    label, best = METRICS[metric].label, top[0]
    score = METRICS[metric].show(_mean(_cell(study, best, largest), metric))
    words = f"{best}: {label} {score} on the test songs, trained on {largest:,} songs."
    if len(top) == 1:
        return f"{words} There is nothing to compare it with."
    tests = paired_test(study, draws, [(best, other) for other in top[1:]], [metric], picked=True)
    condition = _cell(study, best, largest)[0].condition  # () where there is only one size
    tests = [one for one in tests if one.condition == condition]
    surely = [one.other for one in tests if one.p_holm < 0.05]
    alike = [one.other for one in tests if one.p_holm >= 0.05]
    second = next(one for one in tests if one.other == top[1])
    if surely:
        words += f" It is better than {join(surely)}, beyond chance."
    if alike:
        words += f" It cannot be told apart from {join(alike)} with these songs: take whichever suits you."
    low, high = sorted((second.low, second.high))
    words += (
        f" How sure: {label} {signed(second.value)} against {second.other} (95% interval {signed(low)} to "
        f"{signed(high)}, p after Holm {p_text(second.p_holm)})"
    )
    few = "" if second.pooled else few_seeds(second.seeds)
    return words + (f"; {few}." if few else ".")


def _twice(forecast: Forecast, largest: int, seeds: int) -> str:
    """What the law of the system's curve says of twice the songs."""
    if forecast.doubling is None:
        why = forecast.departure and f"the scores make no learning curve ({forecast.departure.words})"
        return f"Not known: {why or 'there was no time for a second number of songs'}."
    sign, label = METRICS[forecast.metric].sign, METRICS[forecast.metric].label
    gain, *ends = (sign * value for value in forecast.doubling)
    low, high = sorted(ends)
    words = (
        f"About {signed(gain)} {label} ({largest:,} to {2 * largest:,} songs; 95% interval {signed(low)} to "
        f"{signed(high)}), if the curve goes on as before ({forecast.law})."
    )
    if low <= 0 <= high:
        words += " It may be nothing: with so few songs and runs the gain cannot be told from chance."
    notes = "; ".join(filter(None, (few_seeds(seeds), *(note for note in forecast.notes if "held" not in note))))
    return words + (f" ({notes[:1].upper()}{notes[1:]}.)" if notes else "")


def _tags(rows: list[TagOutlook], positives: Mapping[str, int]) -> str:
    if not rows:
        return "Not known: there is no learning curve of tags that songs have or have not."

    def named(tags: list[TagOutlook]) -> str:
        shown = [f"{one.tag} ({positives.get(one.tag, 0):,} songs, ROC-AUC {one.score:.2f})" for one in tags]
        rest = f" and {len(shown) - _MOST_TAGS} more" if len(shown) > _MOST_TAGS else ""
        return ", ".join(shown[:_MOST_TAGS]) + rest

    scored = sorted(rows, key=lambda one: one.score)
    rising = [one for one in scored if one.verdict == "gaining" and one.score < _FINISHED]
    unlearnt = [one for one in scored if one.score < _UNLEARNT and one not in rising]
    finished = [one for one in scored if one.score >= _FINISHED]
    parts = [
        f"Those that still gain with more songs: {named(rising)}." if rising else "",
        f"Hardly learnt so far, and more songs have not helped yet (few examples, or labels that the audio does not "
        f"show; listen to some): {named(unlearnt)}." if unlearnt else "",
        f"Finished: {join([one.tag for one in finished[:_MOST_TAGS]])}." if finished else "",
    ]  # fmt: skip
    return " ".join(filter(None, parts)) or "None stands out: no tag is hardly learnt, and none gains beyond chance."


def _sheet(study: Study, metric: str, top: list[str]) -> Sheet:
    """Mean test scores, systems by sizes."""
    sizes = sorted({run.train_songs for run in study.runs})
    systems = [*top, *(system for system in study.systems if system not in top)]
    rows = []
    for system in systems:
        cells = [_cell(study, system, size) for size in sizes]
        scores = [_mean(cell, metric) if cell else None for cell in cells]
        counts = sorted({len(cell) for cell in cells})
        seconds = [run.metrics["seconds"]["train"] for run in cells[-1]]
        minutes = number(float(np.mean(seconds)) / 60 if seconds else None, ".1f")
        shown = [number(score, f".{METRICS[metric].decimals}f", bold=system == top[0]) for score in scores]
        rows.append(
            [text(system), *shown, text(" to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))), minutes]
        )
    headings = ["system", *(f"{size:,} songs" for size in sizes), "seeds", "minutes"]
    title = f"{METRICS[metric].label} of {study.test_songs:,} test songs, by number of training songs"
    notes = ["Means over the seeds, and minutes of training; the best first. The best of several is a little too good."]
    if study.problems:
        notes.append(f"There was no time for all: {'; '.join(study.problems)}.")
    return Sheet(title, headings, rows, frozenset(range(1, len(headings))), notes=notes)


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ title }}</title><style>{{ style | safe }}</style></head><body>
<header><h1>{{ title }}</h1></header><main>
{% for question, answer in answers %}<section><h2>{{ question }}</h2><p>{{ answer }}</p></section>{% endfor %}
<section><h2>Numbers</h2><div class="scroll"><table><caption>{{ sheet.title }}</caption>
<thead><tr>{% for heading in sheet.headings %}<th scope="col">{{ heading }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in sheet.rows %}<tr>
{%- for cell in row %}<td{% if loop.index0 %} class="number"{% endif %}>{{ cell.text }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>{% for note in sheet.notes %}<p class="note">{{ note }}</p>{% endfor %}</section>
<section><h2>Commands</h2><pre>{{ commands | join("\n") }}</pre></section>
</main></body></html>
"""


def page(title: str, advice: Advice, commands: list[str]) -> str:
    """The advice as one HTML page; everything in it is escaped."""
    from importlib.resources import files

    from jinja2 import Environment, StrictUndefined

    style = (files("musictag.report.page") / "assets" / "page.css").read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(PAGE)
    return template.render(title=title, style=style, answers=advice.answers, sheet=advice.sheet, commands=commands)
