"""Builds the report of a study from its finished runs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from musictag.common.files import atomic_write
from musictag.report import comparison, outlook
from musictag.report.content import Report, Table
from musictag.report.figures import figures, tags
from musictag.report.page import summary
from musictag.report.page.answers import answers
from musictag.report.page.html import Page, Section, render_page
from musictag.report.page.songs import choose_songs, excerpts, song_data
from musictag.report.statistics.contrasts import setting_changes, slopes
from musictag.report.statistics.paired_tests import leading_pairs, paired_test, tag_gains
from musictag.report.statistics.popularity import Exclusive, exclusive, popularity
from musictag.report.statistics.resampling import Draws, resampled
from musictag.report.statistics.scaling import crossings, curves, is_scaling
from musictag.report.study import Study
from musictag.report.tables import details
from musictag.report.tables.calibration import calibration_sheet, calibration_table
from musictag.report.tables.contrasts import contrast_sheet, contrast_table
from musictag.report.tables.formats import Sheet, markdown_text, to_latex, to_markdown, write_csv
from musictag.report.tables.legend import legend_sheet, legend_table
from musictag.report.tables.published_scores import published_beside
from musictag.report.tables.scores import score_sheet, score_table
from musictag.report.tables.tuning import tuned_systems, tuning_sheet, tuning_table

#: With more systems than this, only the best of each family are tested against all the others.
_MOST_PAIRED = 4


def make_report(
    study: Study,
    out: Path,
    *,
    songs: int = 24,
    audio: bool = True,
    resamples: int = 1000,
    pair: tuple[str, str] | None = None,
    targets: Mapping[str, float] | None = None,
    command: str = "",
) -> Report:
    """Compute everything and write it to the folder ``out``. ``targets``: scores by metric, for which the report says
    how many songs they need. Raises MusictagError for a target of which the study has no curve."""
    outlook.check_targets(study, targets or {})
    out.mkdir(parents=True, exist_ok=True)
    draws = resampled(study, resamples)
    has_curves = is_scaling(study)
    by_metric = {metric: curves(study, draws, metric) for metric in study.headlines} if has_curves else {}
    crossed = [c for metric in study.headlines for c in crossings(study, draws, metric)] if has_curves else []
    ahead = outlook.look_ahead(study, draws, targets or {})
    picked = pair is None and len(study.systems) > _MOST_PAIRED
    pairs = [pair] if pair else _picked_pairs(study) if picked else None
    differences = paired_test(study, draws, pairs, picked=picked) if len(study.systems) > 1 else []
    gains = tag_gains(study, draws, [pair] if pair else None)
    slope = [one for metric in study.headlines for one in slopes(study, draws, metric)]
    changes = [one for metric in study.headlines for one in setting_changes(study, draws, metric)]
    popular = popularity(study, draws)
    excluding = exclusive(study, draws)
    tuned, about_tuning = tuned_systems(study)
    words = answers(study, crossed, differences)
    drawn = _draw(study, draws, by_metric, crossed, gains, popular, excluding, out) | outlook.draw(study, ahead, out)
    data = {
        "runs": details.run_table(study),
        "scores": score_table(study),
        "settings": legend_table(study) if study.legend else None,
        "fits": details.fit_table(by_metric) if by_metric else None,
        "crossings": details.crossing_table(crossed) if crossed else None,
        "slopes": contrast_table("Gains per doubling", slope) if slope else None,
        "changes": contrast_table("What settings change", changes) if changes else None,
        "differences": details.difference_table(study, differences) if differences else None,
        "tag_gains": details.gain_table(study, gains) if gains else None,
        "popularity": details.popularity_table(study, popular) if popular else None,
        "tuning": tuning_table(tuned) if tuned else None,
        "exclusive": details.exclusive_table(study, excluding) if excluding.pairs else None,
        "calibration": calibration_table(study),
        **outlook.tables(study, ahead),
    }
    plain: dict[str, Table] = {name: table for name, table in data.items() if table is not None}
    report = Report(
        study=study,
        out=out,
        tables=plain,
        figures=drawn,
        curves=by_metric,
        crossings=crossed,
        differences=differences,
        gains=gains,
        popularity=popular,
        exclusive=excluding,
        answers=words,
    )
    for name, table in plain.items():
        write_csv(table, out / f"{name}.csv")
    sections = [*_sections(report, picked), *outlook.sections(study, ahead)]
    for key, title, found, heading in (
        ("slopes", "Gains per doubling", slope, "The slopes of the trend lines"),
        ("changes", "What settings change", changes, "Each setting minus the last one"),
    ):
        if found:
            sections.append(Section(key, title, title, sheets=[(key, contrast_sheet(heading, found))]))
    if tuned:
        sheet = tuning_sheet(tuned, about_tuning)
        sections.append(Section("tuning", "What each system was tuned to", "Tuning", sheets=[("tuning", sheet)]))
    if "calibration" in plain:
        sheet = calibration_sheet(study)
        sections.append(
            Section("calibration", "Scores as probabilities", "Calibration", sheets=[("calibration", sheet)])
        )
    sheets = {key: sheet for section in sections for key, sheet in section.sheets}
    _write_text(out / "report.md", _markdown(report, sections))
    _write_text(out / "tables.tex", "\n".join(to_latex(sheet, key) for key, sheet in sheets.items()))
    chosen = choose_songs(study, songs)
    sounds, silent = excerpts(study, chosen) if audio else ({}, "the report was made with --no-audio")
    page = Page(
        title=study.name or study.data,
        lead=summary.lead(study),
        tiles=summary.tiles(study),
        sections=sections,
        about_songs=summary.about_songs(study, silent),
        songs=song_data(study, chosen, sounds),
        commands=summary.commands(study, command),
        facts=summary.facts(study, resamples),
        runs=details.run_sheet(study),
        settings=details.settings_sheet(study),
    )
    _write_text(out / "report.html", render_page(report, page))
    return report


def _picked_pairs(study: Study) -> list[tuple[str, str]]:
    """Those with one of the leading systems."""
    leaders = {system for pair in leading_pairs(study) for system in pair}
    return [pair for pair in combinations(study.systems, 2) if leaders & {*pair}]


def _draw(
    study: Study,
    draws: Draws,
    by_metric: dict,
    crossed: list,
    gains: list,
    popular: list,
    excluding: Exclusive,
    out: Path,
) -> dict[str, Path]:
    drawn: dict[str, Path] = {}
    if by_metric:
        drawn["scaling"] = out / "scaling.png"
        figures.scaling_figure(study, by_metric, crossed, drawn["scaling"])
    elif study.headlines:
        drawn["conditions"] = out / "conditions.png"
        figures.capacity_figure(study, draws, drawn["conditions"])
    trained = all(run.epochs is not None for run in study.runs)
    if not study.factors and len(study.systems) > 1 and trained and "pr_auc" in study.metrics:
        drawn["cost"] = out / "cost.png"
        comparison.plot([comparison.row_of(run) for run in study.runs], drawn["cost"])
    if gains:
        drawn["tag_gains"] = out / "tag_gains.png"
        tags.tag_gain_figure(study, gains, drawn["tag_gains"])
    if popular:
        drawn["popularity"] = out / "popularity.png"
        figures.popularity_figure(study, popular, drawn["popularity"], excluding)
    return drawn


def _sections(report: Report, picked: bool) -> list[Section]:
    study = report.study
    published, about = published_beside(study)
    scores = [("scores", score_sheet(study, published, about))]
    scores += [("settings", legend_sheet(study))] if study.legend else []
    found = [Section("scores", "Scores", "Scores", sheets=scores)]
    if report.curves:
        sheets: list[tuple[str, Sheet]] = []
        if report.crossings:
            sheets.append(("crossings", details.crossing_sheet(report.crossings)))
        sheets.append(("fits", details.fit_sheet(report.curves)))
        words = (
            "The trend is a straight line over the doublings of the training set (the paper's are linear fits over "
            "the training-set size); the power law can level off."
        )
        found.append(Section("scaling", "With more training songs", "Scaling", words=[words], sheets=sheets))
    if report.differences:
        sheet = details.difference_sheet(study, report.differences, picked)
        found.append(Section("differences", "Is it more than chance?", "Differences", sheets=[("differences", sheet)]))
    if report.gains:
        sheets = [(f"tags_{name}", sheet) for name, sheet in details.gain_sheets(study, report.gains).items()]
        found.append(Section("tags", "Tag by tag", "Tags", figures=["tag_gains"], sheets=sheets))
    if report.popularity:
        words = "The paper reports that networks favour popular tags; this section measures it."
        sheets = [("popularity", details.popularity_sheet(study, report.popularity))]
        found.append(Section("popularity", "Popular tags", "Popularity", [words], ["popularity"], sheets))
    if report.exclusive.pairs:
        words = (
            "The paper reports that trees, more than networks, give a song tags that exclude each other; this section "
            "measures it."
        )
        sheets = list(details.exclusive_sheets(study, report.exclusive).items())
        found.append(Section("exclusive", "Tags that exclude each other", "Exclusive tags", [words], sheets=sheets))
    return found


def _markdown(report: Report, sections: Sequence[Section]) -> str:
    title, lead = markdown_text(report.study.name or report.study.data), markdown_text(summary.lead(report.study))
    lines = [f"- {markdown_text(sentence)}" for sentence in report.answers]
    lines += ["", *(f"![{name}]({path.name})" for name, path in report.figures.items())]
    text = f"# {title}\n\n{lead}\n\n" + "\n".join(lines) + "\n"
    for section in sections:
        text += f"\n## {section.title}\n\n" + "".join(f"{words}\n\n" for words in section.words)
        text += "\n".join(to_markdown(sheet) for _, sheet in section.sheets)
    return text


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path, "w") as file:
        file.write(text)
