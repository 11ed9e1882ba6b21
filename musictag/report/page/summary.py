"""The context of a report's numbers: the systems, the data, the commands and the versions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from musictag.report.study import Study, find_runs, of_study
from musictag.report.tables.formats import join
from musictag.report.wording import NAMED, SIZE, factor_label, setting, short

#: Characters of a list of systems that is not replaced by their number, and entries of other lists.
_LONGEST_LIST = 100
_MOST_LISTED = 8


def list_studies(folder: Path) -> list[str]:
    """A line for each study below ``folder``: its name, its finished runs, and what varies in it."""
    lines = []
    for name in sorted({run.metrics["study"] for run in find_runs(folder)}, key=str):
        found = find_runs(folder)  # again: a study changes its runs, which others may share
        of = [run for run in found if run.metrics["study"] is None] if name is None else of_study(found, folder, name)
        one = Study(name, of)
        varies = ", ".join(map(factor_label, one.factors)) or ("systems" if len(one.systems) > 1 else "seeds")
        shown = name if name is not None else "(unnamed: cannot be chosen)"
        lines.append(f"{shown}: {len(of)} finished runs of {join(one.systems)}; varies: {varies}")
    return lines


def lead(study: Study) -> str:
    """One sentence: the systems, the data and the factors."""
    what = join(list(map(short, study.systems)))
    if len(what) > _LONGEST_LIST:
        what = f"{len(study.systems)} systems"
    over = " and ".join(f"{len(study.legend)} named settings" if f == NAMED else factor_label(f) for f in study.factors)
    return f"{what} on {study.data}{f', over {over}' if over else ''}."


def tiles(study: Study) -> list[tuple[str, str]]:
    """Numbers with their labels."""
    tags = len(study.runs[0].metrics["test"]["tags"])
    conditions = len(study.full_conditions)
    tiles = [(len(study.runs), "finished runs"), (len(study.systems), "systems"), (len(study.seeds), "seeds")]
    if conditions > 1:
        tiles.append((conditions, "sizes" if study.factors == [SIZE] else "conditions"))
    tiles += [(study.test_songs, "test songs"), (tags, "tags")]
    return [(f"{count:,}", label.removesuffix("s") if count == 1 else label) for count, label in tiles]


def about_songs(study: Study, silent: str) -> str:
    """Describes the song browser; ``silent``: why there is no audio, empty if there is."""
    words = (
        "The predictions of the systems next to the truth: the classification tags with the highest scores, for each "
        "system's first seed. Half of the songs are spread over the test set; in the others the systems differ most"
        if len(study.systems) > 1
        else "The system's predictions next to the truth: the classification tags that its first seed scores highest"
    )
    return f"{words}. " + (f"There is no audio: {silent}." if silent else "Each has an excerpt of up to ten seconds.")


def commands(study: Study, command: str) -> list[str]:
    """The commands that make the runs and this report."""
    lines = []
    if study.name and Path("sweep", f"{study.name}.yaml").is_file():
        lines.append(f"python train.py sweep={study.name}")
    return [*lines, *([command] if command else [])]


def facts(study: Study, resamples: int) -> list[tuple[str, str]]:
    """Names and values needed to reproduce the study."""

    def distinct(values: Sequence[Any]) -> str:
        return ", ".join(sorted({str(value) for value in values}))

    runs = [run.metrics for run in study.runs]
    commits = [m["git"]["commit"][:12] + (" with changes" if m["git"]["changed"] else "") for m in runs if m["git"]]
    packages = sorted({package for m in runs for package in m["versions"]})
    versions = "; ".join(
        f"{name} {distinct([m['versions'][name] for m in runs if name in m['versions']])}" for name in packages
    )
    facts = [
        ("Data", f"{study.data}: {study.test_songs:,} test songs"),
        ("Varies", _some(study.keys) or "the systems"),
        ("Conditions", _some([words for c in study.conditions if (words := setting(study.factors, c))], "; ")),
        ("Seeds", ", ".join(map(str, study.seeds))),
        ("Training", f"{study.train_hours:.1f} hours in total"),
        ("Devices", f"{distinct([m['device'] for m in runs])} on {distinct([m['machine'] for m in runs])}"),
        ("Commit", distinct(commits)),
        ("Versions", versions),
        ("Resamples", f"{resamples:,} of the test songs, the same for all runs"),
    ]
    return [(name, value) for name, value in facts if value]


def _some(words: Sequence[str], between: str = ", ") -> str:
    """The first of the words, and how many more there are."""
    left = len(words) - _MOST_LISTED
    return between.join([*words[:_MOST_LISTED], *([f"and {left:,} more"] if left > 0 else [])])
