"""Checks the files that a catalogue names: whether they exist, are inside the folder, and can be read."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from musictag.common.progress import Progress
from musictag.data.catalogue.copies import crossing, groups_of, same_files
from musictag.data.catalogue.paths import file_problem, relative_paths, tidy_paths
from musictag.data.manifest import SPLITS

if TYPE_CHECKING:
    from musictag.data.catalogue.problems import Report, Rows

_PROGRESS_FROM_SONGS = 20_000
_SHOWN = 20
_SHOWN_OF_A_GROUP = 4
_ERRORS = {
    "missing": "missing files",
    "backslash": "missing files whose paths have backslashes; use / on every system",
    "other": "not a file",
    "empty": "empty files",
    "closed": "files without read permission",
}


def check_files(report: Report, rows: Rows, paths: pa.ChunkedArray, root: Path) -> pa.ChunkedArray:
    """Report what is wrong with the files; returns normalised paths (null: outside of ``root``).

    Links that lead out of ``root`` are errors although training follows them: the same table would be a different
    data set on another machine.
    """
    root = Path(os.path.abspath(root))
    if not root.is_dir():
        report.error(f"the folder {root} that paths are relative to does not exist")
        return pa.chunked_array([pa.nulls(len(paths), pa.string())])
    relative, outside = relative_paths(paths, root)
    if outside:
        what = f"paths that lead out of {root} (--root and data.root set the folder that holds all files)"
        report.error(what, rows.lines(paths, [at for at, _ in outside]), len(outside))
    usable = pc.not_equal(pc.fill_null(pc.utf8_trim_whitespace(relative), ""), "").to_numpy().copy()
    usable[[at for at, _ in outside]] = False
    found: dict[str, list[int]] = {kind: [] for kind in (*_ERRORS, "link")}
    for at, kind in _conditions(relative, np.flatnonzero(usable), root):
        found[kind].append(at)
    for kind, what in _ERRORS.items():
        if found[kind]:
            lines = rows.lines(relative, found[kind])
            if kind in ("missing", "backslash"):
                meant = [_meant(root, relative[at].as_py()) for at in found[kind][: len(lines)]]
                lines = [
                    f"{line}{f'; there is {other!r}' if other else ''}"
                    for line, other in zip(lines, meant, strict=True)
                ]
            report.error(what, lines, len(found[kind]))
    if found["link"]:
        lines = rows.lines(relative, found["link"])
        what = f"links that lead out of {root} (--root and data.root set the folder that really holds the files)"
        report.error(what, lines, len(found["link"]))
    return tidy_paths(pc.if_else(pa.chunked_array([pa.array(usable)]), relative, pa.scalar(None, pa.string())))


def check_copies(report: Report, rows: Rows, paths: pa.ChunkedArray, root: Path, splits: np.ndarray | None) -> None:
    """Report files that are identical byte for byte: those in several splits, and the number of other copies.

    ``paths`` as ``check_files`` returns them, which reports duplicate paths itself.
    """
    encoded = paths.combine_chunks().dictionary_encode()
    codes, places = np.unique(pc.fill_null(encoded.indices, -1).to_numpy(), return_index=True)
    places = np.sort(places[codes >= 0])
    names = paths.take(pa.array(places))
    groups = [places[group] for group in groups_of(same_files(root, names.to_pylist()))]
    leaked = [] if splits is None else crossing(groups, splits)
    if leaked:
        lines = [
            " = ".join(
                f"row {rows.number(at)} ({SPLITS[splits[at]] if splits[at] >= 0 else 'no split'}) {paths[at].as_py()!r}"
                for at in group[:_SHOWN_OF_A_GROUP].tolist()
            )
            + (f" = {len(group) - _SHOWN_OF_A_GROUP} more" if len(group) > _SHOWN_OF_A_GROUP else "")
            for group in leaked[:_SHOWN]
        ]
        report.error("identical files in more than one split: test scores would be too high", lines, len(leaked))
    known = {id(group) for group in leaked}
    others = [group for group in groups if id(group) not in known]
    if others:
        number, within = sum(map(len, others)) - len(others), "" if splits is None else " in the same split"
        examples = " and ".join(str(rows.number(at)) for at in others[0][:2].tolist())
        kept = "; a split that musictag makes keeps them together" if splits is None else ""
        report.notes.append(
            f"{number:,} file{'s are copies' if number > 1 else ' is a copy'} of another{within}, such as rows "
            f"{examples}{kept}"
        )


def _conditions(paths: pa.ChunkedArray, positions: np.ndarray, root: Path) -> Iterator[tuple[int, str]]:
    """Yield what is wrong with the files at ``positions``, one by one; most have no problem."""
    real_root = os.path.realpath(root)
    inside: dict[str, bool] = {}  # whether a folder, with links resolved, is below the root
    texts = paths.take(pa.array(positions)).to_pylist()
    display = Progress("checking files", len(texts)) if len(texts) >= _PROGRESS_FROM_SONGS else nullcontext()
    with display as progress:
        for number, (at, path) in enumerate(zip(positions.tolist(), texts, strict=True), start=1):
            if kind := _condition(path, root, real_root, inside):
                yield at, kind
            if progress is not None and number % 1000 == 0:
                progress.show(number)


def _condition(path: str, root: Path, real_root: str, inside: dict[str, bool]) -> str | None:
    problem = file_problem(f"{root}{os.sep}{path}", real_root, inside)
    return "backslash" if problem == "missing" and "\\" in path else problem


def _meant(root: Path, path: str) -> str | None:
    """Another spelling under which the file exists: some systems store accents as separate characters."""
    spellings = (path.strip(), path.replace("\\", "/"), *(unicodedata.normalize(form, path) for form in ("NFC", "NFD")))
    return next((other for other in spellings if other != path and os.path.isfile(root / other)), None)
