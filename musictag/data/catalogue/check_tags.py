"""Checks the tags of a catalogue: impossible values, and tags that cannot be learned or scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from musictag.common.text import quantity
from musictag.data.catalogue.columns import kind_of
from musictag.data.catalogue.learnable import examples, only_ones
from musictag.data.catalogue.tables import ONLY_ONES, catalogue_command
from musictag.data.manifest import KINDS, SPLITS, Tag

if TYPE_CHECKING:
    from musictag.data.catalogue.problems import Report, Rows

_SHOWN = 20
_FEW_SONGS = 5
_ODD_SHARE = 0.01
_CELLS = {
    "word": "tag cells that are not numbers",
    "infinite": "tag cells that are not finite",
    "outside": "tag values outside [0, 1] (percentages: divide by 100)",
    "kind": "values that are neither 0 nor 1 in tags declared as classification",
}
_ONE_VALUE = "tags with one value only: nothing can be learned"


def check_tags(report: Report, rows: Rows, tags: Mapping[str, str | None], splits: np.ndarray | None) -> None:
    """``tags``: name to declared kind (None: inferred). ``splits``: int8 S, or None without such a column."""
    problems: dict[str, list[str]] = {kind: [] for kind in _CELLS}
    counts = dict.fromkeys(_CELLS, 0)
    words, odd, not_numbers, lacking = [], [], [0, []], _Lacking()
    labelled = slice(None) if rows.unread is None else ~rows.unread
    kinds: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for tag, declared in tags.items():
        column, others, cells = rows.numbers(tag)
        values = column.to_numpy().copy()
        if len(others) and np.isnan(values).all():
            some = cells.take(pa.array(others[:_SHOWN])).to_pylist()
            seen = dict.fromkeys(repr(cell) if isinstance(cell, str) else str(cell) for cell in some)
            words.append(f"{tag}: {', '.join([*seen][:3])}")
            continue
        written_nan = np.flatnonzero(np.isnan(values) & np.asarray(column.is_valid()))
        if len(written_nan):
            not_numbers[0] += len(written_nan)
            not_numbers[1] += rows.lines(cells, written_nan, tag)
        if declared not in (*KINDS, None):
            report.error(f"tag {tag} declared as {declared!r}; the kinds are {' and '.join(KINDS)}")
            continue
        with np.errstate(invalid="ignore"):
            outside = (values < 0) | (values > 1)
        infinite = np.isinf(values)
        wrong = {"word": others, "infinite": np.flatnonzero(infinite), "outside": np.flatnonzero(outside & ~infinite)}
        values[outside] = np.nan
        between = np.flatnonzero(~np.isnan(values) & (values != 0) & (values != 1))
        kind = declared or kind_of(pa.chunked_array([values]))
        wrong["kind"] = between if kind == "classification" else np.empty(0, dtype=np.int64)
        for problem, at in wrong.items():
            counts[problem] += len(at)
            problems[problem] += rows.lines(cells, at[: _SHOWN - len(problems[problem])], tag)
        known = np.count_nonzero(~np.isnan(values))
        if declared is None and kind == "regression" and len(between) <= max(1, _ODD_SHARE * known) < known:
            odd += [f"{line}, in a tag that is otherwise 0 and 1" for line in rows.lines(cells, between, tag)]
        kinds[kind].append(tag)
        if not outside.any():  # the values outside have been reported
            lacking.look_at(Tag(tag, kind), values[labelled], None if splits is None else splits[labelled])
    if words:
        report.error(
            "columns without numbers. If their words are tags (rock, or rock;pop), this makes a column for each: "
            f"{catalogue_command(report.path)}; otherwise choose the tags with --tags and data.tags",
            words,
        )
    for problem, what in _CELLS.items():
        if counts[problem]:
            report.error(what, problems[problem], counts[problem])
    if not_numbers[0]:
        report.warning("cells with NaN, which is read as unknown", not_numbers[1], not_numbers[0])
    if odd:
        report.warning("a few values that turn a tag into a regression tag", odd)
    lacking.tell(report)
    about = [f"{len(names)} {kind}" for kind, names in kinds.items() if names]
    if about:
        report.notes.append(f"tags: {' and '.join(about)}")


class _Lacking:
    """Tags that have no examples, or few, of one of their values in some split."""

    def __init__(self) -> None:
        self.one_value: list[str] = []
        self.constant: list[str] = []
        self.none: dict[str, list[str]] = {split: [] for split in SPLITS}
        self.few: list[str] = []
        self.only_ones: list[str] = []

    def look_at(self, tag: Tag, values: np.ndarray, splits: np.ndarray | None) -> None:
        known = values[~np.isnan(values)]
        if not len(known):
            self.one_value.append(f"{tag.name} (no known value)")
            return
        if (known == known[0]).all():
            line = f"{tag.name} (always {known[0]:g})"
            if only_ones(tag, values):
                self.only_ones.append(f"{tag.name}: 1 or empty")
            (self.one_value if tag.kind == "classification" else self.constant).append(line)
            return
        wholes = {"": values} if splits is None else {s: values[splits == i] for i, s in enumerate(SPLITS)}
        for split, part in wholes.items():
            if not len(part):
                continue  # reported as a split without songs
            for what, songs in examples(tag, part).items():
                if not songs:
                    self.none[split].append(f"{tag.name} (no {what})")
                elif songs < _FEW_SONGS and tag.kind == "classification":
                    self.few.append(f"{tag.name}: {quantity(songs, what)}" + (f" in {split}" if split else ""))

    def tell(self, report: Report) -> None:
        if self.one_value:
            report.error(_ONE_VALUE, self.one_value)
        if self.only_ones:
            report.warning(
                f"{ONLY_ONES}, or use this command to write it: {catalogue_command(report.path)}", self.only_ones
            )
        if self.none["train"]:
            report.error("tags that cannot be learned from the training split", self.none["train"])
        for split in SPLITS[1:]:
            if self.none[split]:
                report.error(f"tags that cannot be scored on the {split} split", self.none[split])
        if self.constant:
            report.warning("regression tags with one value only", self.constant)
        if self.few:
            report.warning(f"fewer than {_FEW_SONGS} songs to learn or score a tag from", self.few)
