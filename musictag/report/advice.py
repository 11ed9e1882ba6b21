"""Advice for one's own songs, from the finished runs of `musictag advise`.

Legend: R resamples, n seeds, M sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from musictag.evaluation.metrics import METRICS
from musictag.report.statistics.inference import estimate, few_seeds, margins
from musictag.report.statistics.paired_tests import TagGain, paired_test, tag_gains
from musictag.report.statistics.resampling import Draws, resampled, seeds_of
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
    as ``resampled`` does.
    """
    draws = resampled(study, resamples)
    metric = next(key for key in ("pr_auc", "rmse") if key in study.metrics)
    largest = max(run.train_songs for run in study.runs)
    top = [system for system in study.systems if _cell(study, system, largest)]
    sign = METRICS[metric].sign
    top.sort(key=lambda system: -sign * _mean(_cell(study, system, largest), metric))
    best, sheet = top[0], _sheet(study, metric, top)
    # what growth brings is known of the best one that has been trained with several numbers of songs
    several = (one for one in top if len({run.train_songs for run in study.runs if run.system == one}) > 1)
    grown = next(several, best)
    named = "" if grown == best else f"Known of {grown}. "
    which, twice = _which(study, draws, metric, top, largest), _twice(study, draws, metric, grown, largest)
    # alone, as it may have sizes that others lack; last, since runs have the conditions of the latest study
    gains = tag_gains(Study(study.name, [run for run in study.runs if run.system == grown]), draws, [])
    answers = [
        ("Which one now?", which),
        ("What would twice the songs bring?", named + twice),
        ("Which tags want more examples?", named + _tags(gains, grown, positives)),
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
    return words + (f"; {few}." if (few := few_seeds(second.seeds)) else ".")


def _twice(study: Study, draws: Draws, metric: str, best: str, largest: int) -> str:
    """The gain per doubling: a line through the scores over the doublings, for each seed that has all sizes."""
    runs = [run for run in study.runs if run.system == best]
    sizes = sorted({run.train_songs for run in runs})
    seeds = [seed for seed in study.seeds if sizes == sorted({run.train_songs for run in runs if run.seed == seed})]
    if len(sizes) < 2 or not seeds:
        return "Not known: there was no time for a second number of songs."
    cells = [sorted((run for run in runs if run.seed == seed), key=lambda run: run.train_songs) for seed in seeds]
    scores = np.stack([seeds_of(cell, draws, metric) for cell in cells], axis=1)  # (1 + R) x n x M
    doublings = np.log2(sizes) - np.mean(np.log2(sizes))
    found = estimate(scores @ (doublings / (doublings**2).sum()))
    gain, margin = float(found.value), float(margins(found))
    last = float((scores[0, :, -1] - scores[0, :, -2]).mean())
    label, sign = METRICS[metric].label, METRICS[metric].sign
    words = (
        f"About {signed(gain)} {label} ({largest:,} to {2 * largest:,} songs; 95% interval {signed(gain - margin)} to "
        f"{signed(gain + margin)}), if it goes on as from {sizes[0]:,} to {sizes[-1]:,}. The last doubling brought "
        f"{signed(last)}"
    )
    slows = len(sizes) > 2 and sign * last < sign * gain / 2
    words += ", less than the ones before: expect less than that." if slows else "."
    if sign * gain - margin <= 0:
        words += " It may be nothing: with so few test songs the gain cannot be told from chance."
    return words + (f" ({few_seeds(len(seeds)).capitalize()}.)" if few_seeds(len(seeds)) else "")


def _tags(gains: list[TagGain], best: str, positives: Mapping[str, int]) -> str:
    of_tags = [gain for gain in gains if gain.metric == "roc_auc" and best in gain.size_gains]
    if not of_tags:
        return "Not known: no tag could be scored at two numbers of songs."

    def named(tags: list[TagGain]) -> str:
        shown = [f"{one.tag} ({positives.get(one.tag, 0):,} songs, ROC-AUC {one.scores[best][1]:.2f})" for one in tags]
        rest = f" and {len(shown) - _MOST_TAGS} more" if len(shown) > _MOST_TAGS else ""
        return ", ".join(shown[:_MOST_TAGS]) + rest

    scored = sorted(of_tags, key=lambda one: one.scores[best][1] or 0.0)
    rising = [one for one in scored if one.size_gains[best].low > 0 and (one.scores[best][1] or 0) < _FINISHED]
    unlearnt = [one for one in scored if (one.scores[best][1] or 0) < _UNLEARNT and one not in rising]
    finished = [one for one in scored if (one.scores[best][1] or 0) >= _FINISHED]
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
