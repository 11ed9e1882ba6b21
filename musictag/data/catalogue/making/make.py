"""From a folder or a table to a catalogue: detect the form, write the catalogue, report what was done."""

from __future__ import annotations

import csv
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from musictag.common.errors import MusictagError
from musictag.common.files import atomic_write
from musictag.common.text import listed, some
from musictag.data.catalogue.columns import ARTIST
from musictag.data.catalogue.dialect import DELIMITERS
from musictag.data.catalogue.making.cells import read_cells
from musictag.data.catalogue.making.choosing import Chosen, choose
from musictag.data.catalogue.making.files import FIELDS, all_file_tags, read_files
from musictag.data.catalogue.making.fma import find_tracks, is_tracks, read_fma
from musictag.data.catalogue.making.folders import read_folders
from musictag.data.catalogue.making.labels import Labels, Song, find_songs, keep_usable
from musictag.data.catalogue.making.words import free_names
from musictag.data.catalogue.paths import lies_in
from musictag.data.manifest import RESERVED_COLUMNS

_SAMPLE = 200
_SHOWN_TAGS, _SHOWN_LINES = 30, 10


@dataclass(frozen=True)
class Options:
    """The options of `musictag catalogue`. None, or empty: detected, or the documented default."""

    form: str | None = None
    audio: str | Path | None = None
    root: str | Path | None = None
    fields: Sequence[str] = ()
    path_column: str | None = None
    label_columns: Sequence[str] = ()
    separator: str | None = None
    subset: str | None = None
    genres: str | None = None
    min_songs: int = 3
    force: bool = False


def make_catalogue(source: str | Path, out: str | Path, options: Options = Options()) -> str:
    """Write the catalogue ``out`` (.csv, .tsv or .parquet) of the labels in ``source``; returns the report.

    Raises MusictagError for a source that cannot be read or is ambiguous, if nothing is left to learn, and if the file
    ``out`` exists, unless ``options.force``.
    """
    source, out = Path(source), Path(out)
    _check_out(source, out, options.force)
    root = Path(os.path.abspath(options.root or out.parent))
    labels = _read(source, options, out, root)
    _check_inside(labels.songs, root, out)
    keep_usable(labels, root)
    chosen = choose(labels, options.separator, options.min_songs)
    if not chosen.tags and not chosen.numbers:
        raise MusictagError(f"no learnable tag is left in {source}.\n{_findings(labels)}")
    names = free_names(chosen.tags, (*RESERVED_COLUMNS, ARTIST, *chosen.numbers))
    labels.notes += [
        f"tag {tag!r} is in column {name!r}, since its own name is reserved"
        for tag, name in names.items()
        if tag != name
    ]
    _write(out, _columns(chosen, names, root))
    return _report(source, out, root, labels, chosen, options)


def _check_out(source: Path, out: Path, force: bool) -> None:
    if not source.exists():
        raise MusictagError(f"there is no {source}; give a folder of songs, or a table that names them")
    if out.suffix.lower() not in (*DELIMITERS, ".parquet"):
        raise MusictagError(f"-o {out}: a catalogue is a .csv, .tsv or .parquet file, such as -o catalogue.csv")
    if out.exists() and os.path.samefile(source, out):
        raise MusictagError(f"-o {out} is the table to be read; choose another name")
    if out.exists() and not force:
        raise MusictagError(f"{out} already exists; choose another name with -o, or overwrite it with --force")


def _read(source: Path, options: Options, out: Path, root: Path) -> Labels:
    form = options.form
    tracks = find_tracks(source) if source.is_dir() else source if is_tracks(source) else None
    if form == "fma" or (form is None and tracks):
        if tracks is None:
            raise MusictagError(f"{source}: no tracks.csv of FMA, whose header has three rows, here or in fma_metadata")
        _refuse_others(options, "fma")
        return read_fma(tracks, options.audio, options.subset, options.genres or "top")
    if not source.is_dir():
        if form in ("folders", "files"):
            raise MusictagError(f"{source} is a file; --from {form} needs a folder of songs")
        _refuse_others(options, "table")
        return read_cells(source, options.audio, options.path_column, options.label_columns)
    if form == "table":
        raise MusictagError(f"{source} is a folder; name the table in it, and its audio with --audio")
    if not lies_in(os.path.realpath(source), os.path.realpath(root)):
        raise _outside(Path(os.path.abspath(source)), root, out)
    return _read_folder(Path(os.path.abspath(source)), options)


def _read_folder(folder: Path, options: Options) -> Labels:
    paths, links, closed = find_songs(folder)
    if not paths:
        unread = f"\nFolders that cannot be read:\n{listed(closed)}" if closed else ""
        raise MusictagError(
            f"no songs below {folder}: no file there has an audio extension (.wav, .mp3, .flac, ...){unread}"
        )
    form = options.form or ("files" if options.fields else _form_of_folder(folder, paths))
    _refuse_others(options, form)
    if form == "folders":
        labels, other = read_folders(folder, paths), "files uses the tags inside the files"
    else:
        labels = read_files(folder, paths, all_file_tags(paths), options.fields or FIELDS[:1])
        other = "folders uses the names of the folders"
    if not options.form and not options.fields:
        labels.about += f" (--from {other})"
    labels.drop("links to folders, which are not followed", links)
    labels.drop("folders that cannot be read", closed)
    return labels


def _form_of_folder(folder: Path, paths: list[str]) -> str:
    """Genres inside the files take precedence over folder names, if most files have one."""
    found = all_file_tags(paths[:: max(1, len(paths) // _SAMPLE)])
    share = sum(bool(tags.first("genre")) for tags in found) / len(found)
    nested = sum(os.path.dirname(path) != str(folder) for path in paths) / len(paths) > 0.5
    if share < 0.1 and nested:
        return "folders"
    if share > 0.5 or (share > 0 and not nested):
        return "files"
    if not nested:
        raise MusictagError(f"{folder}: no folders for genres, and no genre inside the {len(found):,} files looked at")
    raise MusictagError(
        f"{folder}: {share:.0%} of {len(found):,} files have a genre tag, and there are folders, too. Choose "
        "one: --from files or --from folders"
    )


def _refuse_others(options: Options, form: str) -> None:
    """Refuse options that this form would ignore."""
    accepted = {
        "--audio": (options.audio, ("table", "fma")), "--fields": (options.fields, ("files",)),
        "--path-column": (options.path_column, ("table",)), "--column": (options.label_columns, ("table",)),
        "--separator": (options.separator, ("table", "files")), "--subset": (options.subset, ("fma",)),
        "--genres": (options.genres, ("fma",)),
    }  # fmt: skip
    if wrong := [name for name, (value, forms) in accepted.items() if value and form not in forms]:
        raise MusictagError(f"{' and '.join(wrong)}: not an option for labels of this form (--from {form})")


def _check_inside(songs: list[Song], root: Path, out: Path) -> None:
    """Checked before any file is read: a catalogue names no file outside of its root."""
    outside = [song.path for song in songs if not lies_in(song.path, str(root))]
    if outside:
        raise _outside(Path(os.path.commonpath([os.path.dirname(song.path) for song in songs])), root, out)


def _outside(folder: Path, root: Path, out: Path) -> MusictagError:
    return MusictagError(
        f"the songs are in {folder}, not below {root}, and paths of a catalogue may not lead out of its folder. Write "
        f"it there, with -o {shlex.quote(str(folder / out.name))}, or set the folder that paths are relative to with "
        f"--root {shlex.quote(str(folder))}, and with data.root=... for training"
    )


def _columns(chosen: Chosen, names: dict[str, str], root: Path) -> dict[str, list[Any] | np.ndarray]:
    """The catalogue, column by column, without empty columns."""
    songs = chosen.songs
    columns: dict[str, list[Any] | np.ndarray] = {}
    ids = [song.song_id for song in songs]
    if all(ids) and len(set(ids)) == len(ids):
        columns["song_id"] = ids
    columns["path"] = [os.path.relpath(song.path, root) for song in songs]
    if any(song.split for song in songs):
        columns["split"] = [song.split for song in songs]
    if chosen.groups is not None:
        columns[ARTIST] = chosen.groups
    if any(song.duration is not None for song in songs):
        columns["duration"] = [song.duration for song in songs]
    columns |= chosen.numbers
    for at, tag in enumerate(chosen.tags):
        columns[names[tag]] = chosen.has[:, at].astype(np.uint8)
    return columns


def _write(out: Path, columns: dict[str, list[Any] | np.ndarray]) -> None:
    try:
        if out.suffix.lower() == ".parquet":
            with atomic_write(out) as file:
                pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), file)
            return
        with atomic_write(out, "w") as file:
            writer = csv.writer(file, delimiter=DELIMITERS[out.suffix.lower()], lineterminator="\n")
            writer.writerow(columns)
            cells = (values.tolist() if isinstance(values, np.ndarray) else values for values in columns.values())
            writer.writerows([_cell(value) for value in row] for row in zip(*cells, strict=True))
    except OSError as error:
        raise MusictagError(f"{out} cannot be written: {error.strerror}") from error


def _cell(value: Any) -> Any:
    return f"{value:.7g}" if isinstance(value, float) else value


def _report(source: Path, out: Path, root: Path, labels: Labels, chosen: Chosen, options: Options) -> str:
    counts = chosen.has.sum(axis=0)
    tags = [f"{tag} {count:,}" for tag, count in zip(chosen.tags, counts, strict=True)]
    lines = [f"{source}: {labels.about}", *filter(None, [_findings(labels)])]
    if tags:
        lines.append(f"{len(tags):,} tags: {some(tags, _SHOWN_TAGS)}")
    if chosen.numbers:
        lines.append(f"columns of numbers, unchanged: {', '.join(chosen.numbers)}")
    artists = len(set(filter(None, chosen.groups or ())))
    known = f"{artists:,} artists" if artists else "no artists known: songs by one artist may end up in several splits"
    lines.append(f"{out}: {len(chosen.songs):,} songs, {known}")
    lines.append("0 only means that the song was not given the tag; the tag may fit nevertheless")
    place = shlex.quote(str(out))
    elsewhere = options.root is not None and root != Path(os.path.abspath(out.parent))
    check = f" --root {shlex.quote(str(root))}" if elsewhere else ""
    train = f" data.root={shlex.quote(str(root))}" if elsewhere else ""
    lines += [
        "Next:",
        f"  musictag data check {place}{check}",
        f"  python train.py data=catalogue data.path={place}{train}",
    ]
    return "\n".join(lines)


def _findings(labels: Labels) -> str:
    parts = [f"  {note}" for note in labels.notes]
    for what, lines in labels.dropped:
        parts.append(
            f"  left out: {what} ({len(lines):,})\n" + listed([f"  {line}" for line in lines], shown=_SHOWN_LINES)
        )
    return "\n".join(parts)
