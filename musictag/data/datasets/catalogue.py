"""Your own music: a CSV or Parquet table with files and their tags, and optionally splits and groups."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from musictag.common.errors import MusictagError
from musictag.common.progress import tell
from musictag.common.text import as_list, is_one_line, listed, quantity, some
from musictag.data.catalogue.columns import group_column, header_problems, kind_of, tag_columns
from musictag.data.catalogue.learnable import chosen_tags, examples, only_ones
from musictag.data.catalogue.names import DIFFER_LITTLE, listed_alike
from musictag.data.catalogue.paths import relative_paths
from musictag.data.catalogue.splits import SavedSplit
from musictag.data.catalogue.tables import ONLY_ONES, catalogue_command, column_names, emptied, read_columns
from musictag.data.datasets.audio_files import AudioFiles
from musictag.data.manifest import KINDS, SPLITS, UNLABELLED, Manifest, Tag

_SHOWN = 8


class CatalogueFile(AudioFiles):
    """A table with one row per song: ``path`` and one column per tag; optional are ``song_id`` (default: the path),
    ``split``, ``group`` (the artist or the work; a column ``artist`` serves as well) and ``duration`` (seconds).

    A tag whose values are all 0 or 1 is a classification tag, one with other values in [0, 1] a regression tag; an
    empty cell means unknown. ``tags`` chooses among the tag columns, and as a mapping to "classification" or
    "regression" (None: by its values) also decides their kinds; ``min_songs_per_tag`` leaves out rare ones (see
    ``musictag.data.catalogue.learnable``). Paths are relative to ``root`` (default: the folder of
    the table) and may not lead out of it; links inside it are followed wherever they lead. ``name`` (default: the
    table's file name) names the folders of the prepared audio and of the runs.

    Without a column ``split`` a stratified split is made that divides no group and keeps identical recordings together
    (those in ``data_dir`` are known by their samples, too), with ``split_fractions`` of the songs
    for training, validation and test (None: 0.8, 0.1, 0.1), drawn with ``split_seed``. It is saved at ``split_path``
    (default: beside the table) and kept from then on; songs that come later are added to it (see
    ``musictag.data.catalogue.splits``).

    Songs with the split ``unlabelled`` have no known tags, whatever their cells say: they are for a teacher.

    A summary is printed once on standard error. Raises MusictagError for a table that cannot be read or used, naming
    its problems (``musictag data check`` names all), and for a split that cannot be made or saved.
    """

    locations = ("path", "root", "split_path", "split_fractions", "split_seed")

    def __init__(
        self,
        path: str | Path,
        root: str | Path | None = None,
        tags: Sequence[str] | Mapping[str, str | None] | None = None,
        name: str | None = None,
        split_fractions: Sequence[float] | None = None,
        split_seed: int = 0,
        split_path: str | Path | None = None,
        max_seconds: float | None = None,
        sample_rate: int = 16000,
        min_songs_per_tag: int = 1,
        data_dir: str | Path | None = None,
    ) -> None:
        self.path = Path(path)
        root = self.path.parent if root is None else root
        super().__init__(root, max_seconds, sample_rate, tags, min_songs_per_tag, data_dir)
        self.name = name or re.sub(r"[^\w.-]+", "-", self.path.stem).strip(".") or "catalogue"
        if self.name != Path(self.name).name or self.name == ".." or not is_one_line(self.name):
            raise MusictagError(f"data.name={self.name!r}: it names folders, so use one word, without / and ..")
        self._tags = chosen_tags(tags)
        self._split = SavedSplit(self.path, as_list(split_fractions), split_seed, split_path)

    def _load(self) -> Manifest:
        header = column_names(self.path)
        names, group = choose_columns(self.path, header, self._tags)
        texts = [column for column in ("song_id", "path", "split", *([group] if group else [])) if column in header]
        numbers = [*(["duration"] if "duration" in header else []), *names]
        read = read_columns(self.path, texts, numbers)
        columns = {"path": self._inside(read["path"])}
        columns["song_id"] = read["song_id"] if "song_id" in read else columns["path"]
        length = len(columns["path"])
        columns["group"] = emptied(read[group]) if group else pa.nulls(length, pa.string())
        columns["duration"] = read.get("duration", pa.nulls(length, pa.float32()))
        columns |= {name: read[name] for name in names}
        given = self._tags if isinstance(self._tags, Mapping) else {}
        tags = [Tag(name, given.get(name) or kind_of(columns[name])) for name in names]
        # without a column split, everything is checked before songs are assigned and a split is saved
        columns["split"] = read.get("split", pa.array(np.full(length, SPLITS[0])))
        try:
            manifest = Manifest(pa.table(columns), tags, self.name)
        except MusictagError as error:
            raise MusictagError(f"{self.path}: {error}") from error
        inferred = [tag for tag in tags if not given.get(tag.name)]
        about = [_about_songs(self.path, manifest, group), *_about_tags(tags, inferred), *self._doubts(manifest)]
        if "split" in read:
            how = "column split"
        else:
            splits, how = self._split.of(manifest, partial(self.copies, manifest))
            manifest = Manifest(pa.table(columns | {"split": pa.array(splits)}), tags, self.name)
        tell("\n  ".join([*about, *about_splits(manifest, how)]))
        return manifest

    def _inside(self, paths: pa.ChunkedArray) -> pa.ChunkedArray:
        paths, outside = relative_paths(paths, self.root)
        if outside:
            raise MusictagError(
                f"paths in {self.path} lead out of {self.root}; set the folder that holds all files with "
                f"data.root=...:\n{listed([f'row {at + 1}: {path}' for at, path in outside])}"
            )
        return paths

    def _doubts(self, manifest: Manifest) -> list[str]:
        """Warnings about what is allowed but rarely intended."""
        lines = [f"tags {DIFFER_LITTLE}: {same}" for same in listed_alike(tag.name for tag in manifest.tags)]
        known = manifest.labelled()
        if ones := [tag.name for tag in manifest.tags if only_ones(tag, known.values(tag.name))]:
            lines.append(
                f"{some(ones, _SHOWN)}: {ONLY_ONES}, or use this command to write it: {catalogue_command(self.path)}"
            )
        paths = manifest.column("path")
        odd = paths.filter(pc.match_substring(paths, "\\"))
        if len(odd) and not (self.root / odd[0].as_py()).exists():
            lines.append(f"{quantity(len(odd), 'path')} with backslashes, such as {odd[0]}: use / on every system")
        return lines


def choose_columns(
    path: Path, header: Sequence[str], tags: Sequence[str] | Mapping[str, str | None] | None
) -> tuple[list[str], str | None]:
    """The tag columns, and the column that holds the groups (None: none). Raises MusictagError for the first of
    ``header_problems``."""
    if problems := header_problems(path, header, tags):
        what, columns = problems[0]
        raise MusictagError(f"{path}: {what}" + (f": {', '.join(columns)}" if columns else ""))
    return tag_columns(header, tags), group_column(header, tags)


def about_splits(manifest: Manifest, how: str) -> list[str]:
    """Songs per split, the origin of the split, and tags without examples in some split."""
    parts = {split: manifest.split(split) for split in (*SPLITS, UNLABELLED)}
    lines = [f"{how}: " + ", ".join(f"{split} {len(parts[split]):,}" for split in SPLITS)]
    if without := len(parts[UNLABELLED]):
        lines[0] += f", {UNLABELLED} {without:,} (for a teacher; their tag cells are not read)"
    for split in SPLITS:
        counts = {tag.name: [*examples(tag, parts[split].values(tag.name)).values()] for tag in manifest.tags}
        if lacking := [tag for tag, (having, *_) in counts.items() if not having]:
            lines.append(f"no song of {split} has: {some(lacking, _SHOWN)}")
    return lines


def _about_songs(path: Path, manifest: Manifest, group: str | None) -> str:
    songs = f"{path}: {len(manifest):,} songs"
    if not group:
        return f"{songs}, no groups (a column group would name the artist or the work)"
    groups = manifest.column("group")
    unknown = f", unknown for {groups.null_count:,} songs" if groups.null_count else ""
    return f"{songs}, {pc.count_distinct(groups).as_py():,} groups (column {group}{unknown})"


def _about_tags(tags: Sequence[Tag], inferred: Sequence[Tag]) -> list[str]:
    by_kind = {kind: [tag.name for tag in tags if tag.kind == kind] for kind in KINDS}
    lines = [
        f"{len(names)} {kind} tag{'s' if len(names) > 1 else ''}: {some(names, _SHOWN)}"
        for kind, names in by_kind.items()
        if names
    ]
    if inferred:
        example = f"'data.tags={{{inferred[0].name}:{inferred[0].kind},...}}'"
        lines.append(f"kinds inferred from the values; {example} chooses tags and their kinds")
    return lines
