"""Checks a catalogue and reports all problems at once, with row numbers: `musictag data check`.

An error is something that training refuses, that makes scores wrong or missing, or that would make the same table a
different data set elsewhere. A warning deserves a look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from musictag.common.errors import MusictagError
from musictag.common.text import quantity
from musictag.data.catalogue.check_files import check_copies, check_files
from musictag.data.catalogue.check_tags import check_tags
from musictag.data.catalogue.columns import group_column, header_problems, meant_names, tag_columns
from musictag.data.catalogue.learnable import chosen_tags
from musictag.data.catalogue.names import DIFFER_LITTLE, listed_alike
from musictag.data.catalogue.problems import _SHOWN, Report, Rows
from musictag.data.catalogue.splits import SavedSplit
from musictag.data.catalogue.tables import Cells, emptied, unlabelled
from musictag.data.manifest import SPLITS, UNLABELLED, UNWRITABLE


def check(
    path: str | Path,
    root: str | Path | None = None,
    tags: Sequence[str] | Mapping[str, str | None] | None = None,
) -> Report:
    """Read the whole table and check every file that it names; nothing is written.

    ``path``, ``root`` and ``tags`` mean what they do in ``CatalogueFile``.
    """
    report, tags = Report(Path(path)), chosen_tags(tags)
    try:
        cells = Cells(report.path)
    except MusictagError as error:
        report.error(str(error))
        return report
    report.songs = len(cells.row_numbers) + len(cells.ragged)
    if not report.songs:
        report.error("the table has no rows")
    if cells.ragged:
        wanted = len(cells.names)
        lines = [f"row {row}: {number} cells" for row, number in cells.ragged]
        report.error(f"rows whose number of cells is not {wanted}, the number of columns; skipped below", lines)
    places = _columns(report, cells, tags)
    rows = Rows(report, cells, places)
    song_ids = rows.text("song_id", needed=True)
    if song_ids is not None:
        _unwritable(report, rows, song_ids, "song_id")
        _repeated(report, rows, song_ids, "song_id already used above")
    paths = rows.text("path", needed=True)
    if paths is not None:
        _unwritable(report, rows, paths, "path")
        root = Path(report.path.parent if root is None else root)
        repeated = check_files(report, rows, paths, root)
        _repeated(report, rows, repeated, "file already named above")
    splits = _splits(report, rows)
    if paths is not None and root.is_dir():
        check_copies(report, rows, repeated, root, splits)
    if group := group_column(places, tags):
        _groups(report, emptied(rows.text(group)), splits)
    if "duration" in places:
        _durations(report, rows)
    names = tag_columns(places, tags)
    if spaced := [repr(name) for name in names if name != name.strip() and not tags]:
        report.warning("tag names with surrounding spaces", spaced)
    if same := listed_alike(names):
        report.warning(f"tags {DIFFER_LITTLE}", same)
    kinds = tags if isinstance(tags, Mapping) else {}
    check_tags(report, rows, {name: kinds.get(name) for name in names if name in places}, splits)
    return report


def _columns(report: Report, cells: Cells, tags: Sequence[str] | Mapping[str, str | None] | None) -> dict[str, int]:
    """The position of each column. One that must be renamed is read under its new name, to check what it holds."""
    for what, names in header_problems(report.path, cells.names, tags):
        report.error(what, names)
    meant = meant_names(cells.names, tags)
    places: dict[str, int] = {}
    for position, name in enumerate(cells.names):
        if name.strip():
            places.setdefault(meant.get(name, name), position)
    return places


def _repeated(report: Report, rows: Rows, texts: pa.ChunkedArray, what: str) -> None:
    """Report texts (null: ignored) that already occur in an earlier row."""
    encoded = texts.combine_chunks().dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy()
    firsts = np.full(len(encoded.dictionary), -1)
    known = np.flatnonzero((codes >= 0) & (pc.fill_null(texts, "").to_numpy() != ""))
    firsts[codes[known][::-1]] = known[::-1]
    again = known[firsts[codes[known]] != known]
    if len(again):
        lines = rows.lines(texts, again)
        first_rows = [rows.number(firsts[codes[at]]) for at in again[:_SHOWN]]
        report.error(what, [f"{line}, as row {row}" for line, row in zip(lines, first_rows, strict=True)], len(again))


def _unwritable(report: Report, rows: Rows, texts: pa.ChunkedArray, column: str) -> None:
    wrong = np.flatnonzero(pc.fill_null(pc.match_substring_regex(texts, UNWRITABLE), False).to_numpy())
    if len(wrong):
        report.error(
            f"cells in column {column} with a NUL byte or a carriage return", rows.lines(texts, wrong), len(wrong)
        )


def _splits(report: Report, rows: Rows) -> np.ndarray | None:
    """The number of each song's split (int8, -1: none), or None if there is no such column. Tags of unlabelled songs
    are not read from here on."""
    texts = rows.text("split", needed=True)
    if texts is None:
        saved = SavedSplit(report.path).path
        state = "is used" if saved.exists() else "will be made when first needed, and saved"
        report.notes.append(
            f"no column split: the one in {saved} {state} (data.split_path and data.split_seed choose another)"
        )
        return None
    codes = pc.fill_null(pc.index_in(texts, pa.array(SPLITS)), -1).to_numpy().astype(np.int8)
    rows.unread = without = unlabelled(texts)
    written = pc.fill_null(pc.utf8_trim_whitespace(texts), "").to_numpy() != ""
    unknown = np.flatnonzero((codes < 0) & written & ~without)
    if len(unknown):
        what = f"split is not one of {', '.join((*SPLITS, UNLABELLED))} (spelled like this, without spaces)"
        report.error(what, rows.lines(texts, unknown), len(unknown))
    songs = {split: int((codes == number).sum()) for number, split in enumerate(SPLITS)}
    if empty := [split for split, count in songs.items() if not count]:
        report.error("splits without songs; training needs all three", empty)
    songs |= {UNLABELLED: int(without.sum())} if without.any() else {}
    report.notes.append("column split: " + ", ".join(f"{split} {count:,}" for split, count in songs.items()))
    return codes


def _groups(report: Report, groups: pa.ChunkedArray, splits: np.ndarray | None) -> None:
    unknown = f", unknown for {quantity(groups.null_count, 'song')}" if groups.null_count else ""
    report.notes.append(f"{pc.count_distinct(groups).as_py():,} groups{unknown}")
    if splits is None:
        if (parts := pc.count_distinct(groups).as_py() + groups.null_count) < len(SPLITS):
            report.error(f"{parts} groups cannot be split into {', '.join(SPLITS)} without dividing one")
        return
    encoded = groups.combine_chunks().dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy()
    there = (codes >= 0) & (splits >= 0)
    cells = codes[there].astype(np.int64) * len(SPLITS) + splits[there]
    songs = np.bincount(cells, minlength=len(encoded.dictionary) * len(SPLITS)).reshape(-1, len(SPLITS))
    leaked = np.flatnonzero((songs > 0).sum(axis=1) > 1)
    if len(leaked):
        lines = [
            f"{encoded.dictionary[at].as_py()}: "
            + ", ".join(f"{count} in {split}" for split, count in zip(SPLITS, songs[at], strict=True) if count)
            for at in leaked[:_SHOWN].tolist()
        ]
        report.error("groups in more than one split: test scores would be too high", lines, len(leaked))


def _durations(report: Report, rows: Rows) -> None:
    values, others, cells = rows.numbers("duration")
    seconds = values.to_numpy()
    wrong = np.union1d(others, np.flatnonzero((seconds <= 0) | np.isinf(seconds)))
    if len(wrong):
        report.error("duration is not a number of seconds above 0", rows.lines(cells, wrong), len(wrong))
