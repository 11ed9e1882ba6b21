"""The report as one self-contained HTML page: styles, script, figures and audio are embedded, nothing is fetched.

Its content comes from untrusted configurations and data sets: Jinja escapes all text, the script only creates text
nodes, and a content security policy allows no other script to run.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from musictag.evaluation.metrics import METRICS
from musictag.report.content import Report
from musictag.report.tables.formats import Sheet, join

HEADLINES = ("scaling", "conditions", "cost")
_WIDE = 1000  # pixels of a figure that is not legible beside text


@dataclass(frozen=True)
class Section:
    """A section of the page: ``key`` is its anchor, ``short`` its navigation label, ``figures`` keys of figures."""

    key: str
    title: str
    short: str
    words: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    sheets: list[tuple[str, Sheet]] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """What the page shows in addition to the report. ``songs`` as returned by ``song_data``."""

    title: str
    lead: str
    tiles: list[tuple[str, str]]
    sections: list[Section]
    about_songs: str
    songs: dict[str, Any]
    commands: list[str]
    facts: list[tuple[str, str]]
    runs: Sheet
    settings: Sheet


@dataclass(frozen=True)
class _Figure:
    title: str
    uri: str
    alt: str
    caption: str
    is_wide: bool


def render_page(report: Report, page: Page) -> str:
    """The page as text."""
    assets = files("musictag.report.page") / "assets"
    html, style, script = (
        (assets / f"page.{kind}").read_text(encoding="utf-8").strip() for kind in ("html", "css", "js")
    )
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    pictures = {name: _figure(report, name) for name in report.figures}
    headline = next((pictures[name] for name in HEADLINES if name in pictures), None)
    sections = [
        vars(section) | {"figures": [pictures[name] for name in section.figures if name in pictures]}
        for section in page.sections
    ]
    sections[0]["figures"] += [pictures[name] for name in HEADLINES if name in pictures][1:]
    return environment.from_string(html).render(
        page=page,
        answers=report.answers,
        problems="; ".join(report.study.problems),
        headline=headline,
        sections=sections,
        songs=page.songs | _first_look(report),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _first_look(report: Report) -> dict[str, Any]:
    """Families of the systems, and their order for the song browser: systems that are compared come first."""
    study = report.study
    compared = [name for d in report.differences for name in (d.system, d.other)]
    order = list(dict.fromkeys([*compared, *study.systems]))
    return {
        "families": [study.family(system) for system in study.systems],
        "first": [study.systems.index(system) for system in order],
    }


def _figure(report: Report, name: str) -> _Figure:
    path = report.figures[name]
    svg = path.with_suffix(".svg")
    source, kind = (svg, "svg+xml") if svg.exists() else (path, "png")
    encoded = base64.b64encode(source.read_bytes()).decode("ascii")
    title, caption = _CAPTIONS[name]
    if report.study.legend and name != "popularity":
        caption += " What the names of settings stand for is below the scores."
    metrics = join([METRICS[metric].label for metric in report.study.headlines])
    answer = report.answers[0] if report.answers else ""  # which the headline figure illustrates
    alt = f"{title}: {metrics} of {join(report.study.systems)}. {answer}"
    width = int.from_bytes(path.read_bytes()[16:20], "big")  # the first field of every PNG
    return _Figure(title, f"data:image/{kind};base64,{encoded}", alt.strip(), caption, width > _WIDE)


_CAPTIONS = {
    "scaling": (
        "Scores against the number of training songs",
        "Points: runs. Lines: trend over the doublings of the training set, its 95% band over songs and seeds; "
        "dashed: power law. The numbers are in the tables below.",
    ),
    "conditions": (
        "Scores under each condition",
        "Means over the seeds with intervals over songs and seeds; small points: the seeds. The table has the numbers.",
    ),
    "cost": (
        "PR-AUC against parameters and against tagging speed",
        "Points: means over the seeds; bars span them.",
    ),
    "tag_gains": (
        "Scores of each tag, and what one system gains over another",
        "The numbers are in the tables below.",
    ),
    "laws": (
        "The law of each curve, and what the smaller sizes predict for the largest",
        "Points: runs and their means. Lines: the law, its 95% band up to twice the largest size. Bars: the bands that "
        "were predicted for the hidden sizes. The numbers are in the tables below.",
    ),
    "compute": (
        "Scores over songs, over compute, and over both",
        "Means over the runs. The numbers are in the table below.",
    ),
    "popularity": ("Scores of tags against their prevalence", "The numbers are in the table below."),
}


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
