"""Tables for readers, and three formats for them: Markdown, LaTeX, CSV.

Names of tags, songs and systems are untrusted: they are escaped for each format, and never interpreted as markup.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musictag.common.files import atomic_write
from musictag.common.text import printable
from musictag.report.content import Table

_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n")
_MARKDOWN = {character: f"\\{character}" for character in "\\`*_[]<>|~$&"}
_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "−": r"$-$", "–": "--",
    "×": r"$\times$", "…": r"\ldots{}",
} | {character: f"\\{character}" for character in "&%$#_{}"}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """``text`` is displayed; ``value`` is the sorting key (None: last)."""

    text: str
    value: float | str | None = None
    bold: bool = False


@dataclass(frozen=True)
class Sheet:
    """``numeric``: the columns that are right-aligned. A line is drawn above each of the rows ``rules``.

    ``foot``: reference rows, which stay below the others when those are sorted.
    """

    title: str
    headings: list[str]
    rows: list[list[Cell]]
    numeric: frozenset[int] = frozenset()
    rules: frozenset[int] = frozenset()
    foot: list[list[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def text(value: object) -> Cell:
    """A word or a setting; – for None."""
    if value is None or value == "":
        return Cell("–")
    if isinstance(value, bool):
        return Cell("yes" if value else "no", float(value))
    if isinstance(value, int):
        return Cell(f"{value:,}", float(value))
    if isinstance(value, float):
        return Cell(f"{value:g}", value)
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return Cell(str(value), str(value).casefold())


def number(value: float | None, form: str = ".3f", bold: bool = False) -> Cell:
    """A number with a typographic minus; – if it is unknown."""
    if value is None or value != value:
        return Cell("–")
    return Cell(f"{value:{form}}".replace("-", "−"), float(value), bold)


def to_markdown(sheet: Sheet) -> str:
    """Title, pipe table and notes."""

    def cell(shown: Cell) -> str:
        words = markdown_text(shown.text)
        return f"**{words}**" if shown.bold else words

    lines = [f"### {markdown_text(sheet.title)}", ""]
    lines.append("| " + " | ".join(markdown_text(heading) for heading in sheet.headings) + " |")
    lines.append("|" + "|".join("---:" if i in sheet.numeric else "---" for i in range(len(sheet.headings))) + "|")
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in [*sheet.rows, *sheet.foot]]
    lines += [line for note in sheet.notes for line in ("", markdown_text(note))]
    return "\n".join(lines) + "\n"


def markdown_text(words: str) -> str:
    """``words`` as one line of plain text, escaped for Markdown."""
    return _escape(words, _MARKDOWN)


def to_latex(sheet: Sheet, label: str) -> str:
    r"""A ``table`` that needs the package booktabs; the notes go into its caption. ``label`` is for ``\ref``."""

    def cell(shown: Cell) -> str:
        words = _escape(shown.text, _LATEX)
        return f"\\textbf{{{words}}}" if shown.bold else words

    caption = ". ".join(part.rstrip(".") for part in [sheet.title, *sheet.notes])
    alignment = "".join("r" if i in sheet.numeric else "l" for i in range(len(sheet.headings)))
    lines = [
        "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}",
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{_escape(caption, _LATEX)}.}}",
        f"  \\label{{tab:{label}}}",
        f"  \\begin{{tabular}}{{{alignment}}}",
        r"    \toprule",
        "    " + " & ".join(_escape(heading, _LATEX) for heading in sheet.headings) + r" \\",
        r"    \midrule",
    ]
    rules = sheet.rules | {len(sheet.rows)} - {0}
    for place, row in enumerate([*sheet.rows, *sheet.foot]):
        if place in rules:
            lines.append(r"    \midrule")
        lines.append("    " + " & ".join(map(cell, row)) + r" \\")
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def write_csv(table: Table, path: Path) -> None:
    """Every value in full precision; an empty cell for None.

    Spreadsheets execute text that begins like a formula: such text is prefixed with an apostrophe.
    """
    with atomic_write(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(_no_formula, table.columns))
        writer.writerows([["" if value is None else _no_formula(value) for value in row] for row in table.rows])


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA_SIGNS) else value


def _escape(words: str, characters: Mapping[str, str]) -> str:
    return "".join(characters.get(character, character) for character in _one_line(words))


def _one_line(words: str) -> str:
    return printable(" ".join(words.split()))


def join(words: Sequence[Any]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    shown = [str(word) for word in words]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else ""
