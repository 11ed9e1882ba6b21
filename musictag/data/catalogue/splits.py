"""Makes a split for a catalogue that has none: saved beside the table, and kept when songs are added later.

# split made by musictag: {"fractions": [0.8, 0.1, 0.1], "seed": 0}
song_id,split
albums/a/01.mp3,train
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from filelock import FileLock

from musictag.common.errors import MusictagError
from musictag.common.files import atomic_write
from musictag.data.catalogue.stratify import stratify
from musictag.data.manifest import SPLITS, Manifest
from musictag.data.random_draws import song_keys, subset_order

#: Default fractions of train, validation and test.
FRACTIONS = (0.8, 0.1, 0.1)
_FIRST_LINE = "# split made by musictag: "
_FIRST_LINE_CHARACTERS = 1_000


class SavedSplit:
    """The split of the songs in ``table_path``: read from ``path``, or made and saved there.

    ``path`` is by default ``<name of the table>.split-<seed>.csv`` beside it. A song never changes its split: new songs
    join the split of their group, and the others go where tags and fractions lack most; the file grows. Copies of a
    recording belong to one group, and so do all songs of groups that share a recording. The assignment depends on the
    songs, not on the order of the rows.

    ``fractions`` None means those that the file was made with, or ``FRACTIONS`` if there is no file yet.

    Raises MusictagError for fractions that are not three positive numbers with sum 1, or a seed that is not an integer.
    """

    def __init__(
        self,
        table_path: Path,
        fractions: Sequence[float] | None = None,
        seed: int = 0,
        path: str | Path | None = None,
    ) -> None:
        shares = [float(share) for share in fractions or FRACTIONS]
        if len(shares) != len(SPLITS) or min(shares) <= 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
            raise MusictagError(
                f"split_fractions={list(fractions)}: give one positive fraction for each of {', '.join(SPLITS)}, with "
                "sum 1, such as [0.8,0.1,0.1]"
            )
        if type(seed) is not int or seed < 0:
            raise MusictagError(f"split_seed={seed}: give 0 or a positive integer")
        self.path = Path(path) if path else table_path.with_name(f"{table_path.stem}.split-{seed}.csv")
        self._table_path = table_path
        self._about = {"fractions": shares, "seed": seed}
        self._any_fractions = fractions is None

    def of(
        self, manifest: Manifest, copies: Callable[[np.ndarray], Iterable[np.ndarray]] = lambda among: ()
    ) -> tuple[np.ndarray, str]:
        """The split of every song (S strings; the manifest's own column is ignored), and where it comes from.

        ``copies`` is called only if songs need a split; it takes these as booleans S, and yields one or more ``firsts``
        of the songs (see ``musictag.data.catalogue.copies``).

        Raises MusictagError if there are fewer than three groups, if the file is damaged or was made with other
        fractions or another seed, and if it cannot be written.
        """
        saved, codes = self._known(manifest)
        if (codes < 0).any():
            with self._lock():
                saved, codes = self._known(manifest)  # with what another process has saved
                if (codes < 0).any():
                    return self._make(manifest, copies, saved, codes)
        return np.array(SPLITS, dtype=object)[codes], f"split saved in {self.path}"

    def _known(self, manifest: Manifest) -> tuple[pa.Table, np.ndarray]:
        """The file, and the split that every song has in it as a number (int8 S), -1 for a new one."""
        saved = self._read()
        row_in_file = pc.index_in(manifest.column("song_id"), saved["song_id"].combine_chunks())
        known = saved["split"].combine_chunks().take(row_in_file)
        return saved, pc.fill_null(pc.index_in(known, pa.array(SPLITS)), -1).to_numpy().astype(np.int8)

    def _make(
        self,
        manifest: Manifest,
        copies: Callable[[np.ndarray], Iterable[np.ndarray]],
        saved: pa.Table,
        codes: np.ndarray,
    ) -> tuple[np.ndarray, str]:
        song_ids, new = manifest.column("song_id"), np.flatnonzero(codes < 0)
        identical = list(copies(codes < 0))
        group_of_song, keys = _groups(manifest, identical)
        if len(keys) < len(SPLITS):
            what = f"{len(manifest)} songs of {len(keys)} groups" if len(keys) < len(manifest) else f"{len(keys)} songs"
            raise MusictagError(
                f"{self._table_path}: {what} cannot be split into {', '.join(SPLITS)} without dividing a group: at "
                f"least {len(SPLITS)} groups are needed (a song without a group counts as one, and so do copies of a "
                "recording). Or assign each song in a column split"
            )
        order = np.empty(len(keys), dtype=np.int64)
        order[subset_order(keys, self._about["seed"])] = np.arange(len(keys))
        fixed = _splits_of_groups(group_of_song, codes, len(keys))
        codes[new] = stratify(group_of_song, order, manifest, self._about["fractions"], fixed)[group_of_song[new]]
        splits = np.array(SPLITS, dtype=object)[codes]
        self._write(saved, song_ids.take(pa.array(new)), splits[new])
        copied = np.count_nonzero(np.any([firsts >= 0 for firsts in identical], axis=0)) if identical else 0
        together = f", {copied:,} songs that are copies of each other kept together" if copied else ""
        if len(saved):
            return splits, f"split saved in {self.path}, now with {len(new):,} new songs{together}"
        shares = ", ".join(f"{share:g}" for share in self._about["fractions"])
        return splits, f"split made ({shares}; seed {self._about['seed']}) and saved in {self.path}{together}"

    def _read(self) -> pa.Table:
        """song_id and split of every song that has one; no rows if there is no file."""
        if not self.path.exists():
            return pa.table({"song_id": pa.array([], pa.string()), "split": pa.array([], pa.string())})
        remedy = f"delete {self.path} for a new split, or use another file with data.split_path=..."
        try:
            with open(self.path, encoding="utf-8", newline="") as file:
                first = file.readline(_FIRST_LINE_CHARACTERS)
            about = json.loads(first.removeprefix(_FIRST_LINE)) if first.startswith(_FIRST_LINE) else None
            table = pacsv.read_csv(
                self.path,
                read_options=pacsv.ReadOptions(skip_rows=1),
                parse_options=pacsv.ParseOptions(newlines_in_values=True),
                convert_options=pacsv.ConvertOptions(column_types={"song_id": pa.string(), "split": pa.string()}),
            )
        except (OSError, ValueError, RecursionError, MemoryError, pa.ArrowException) as error:
            raise MusictagError(f"the split in {self.path} cannot be read ({error}): {remedy}") from error
        if not _is_about(about) or table.column_names != ["song_id", "split"]:
            raise MusictagError(f"{self.path} is not a split made by musictag: {remedy}")
        if self._any_fractions and about.get("seed") == self._about["seed"]:
            self._about = about
        if about != self._about:
            was, asked = (f"fractions {entry['fractions']} and seed {entry['seed']}" for entry in (about, self._about))
            fractions = ",".join(f"{share:g}" for share in about["fractions"])
            raise MusictagError(
                f"{self.path} was made with {was}, not {asked}. To keep it, use data.split_fractions=[{fractions}] "
                f"data.split_seed={about['seed']}; otherwise {remedy}"
            )
        unknown = pc.unique(table["split"].filter(pc.invert(pc.is_in(table["split"], pa.array(SPLITS)))))
        repeated = len(table) - pc.count_distinct(table["song_id"]).as_py()
        if len(unknown) or repeated:
            what = (
                f"unknown splits {', '.join(map(str, unknown))}" if len(unknown) else f"{repeated} songs more than once"
            )
            raise MusictagError(f"{self.path} names {what}: {remedy}")
        return table

    def _write(self, saved: pa.Table, song_ids: pa.Array, splits: np.ndarray) -> None:
        added = sorted(zip(song_ids.to_pylist(), splits, strict=True))
        with self._saving(), atomic_write(self.path, "w") as file:
            file.write(f"{_FIRST_LINE}{json.dumps(self._about)}\n")
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["song_id", "split"])
            writer.writerows(zip(*(saved[name].to_pylist() for name in ("song_id", "split")), strict=True))
            writer.writerows(added)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One process at a time makes the split; it may read many files for it."""
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        with self._saving():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _saving(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise MusictagError(
                f"the split cannot be saved in {self.path} ({error.strerror}); use another file with "
                "data.split_path=..., for example data.split_path=my-split.csv"
            ) from error


def _is_about(about: Any) -> bool:
    """Whether this is the first line that ``SavedSplit`` writes."""
    if not isinstance(about, dict) or set(about) != {"fractions", "seed"} or type(about["seed"]) is not int:
        return False
    shares = about["fractions"]
    return (
        isinstance(shares, list)
        and len(shares) == len(SPLITS)
        and all(type(share) in (int, float) and 0 < share < 1 for share in shares)
    )


def _groups(manifest: Manifest, identical: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Each song's group as a number (int64 S), and one key per group (uint64) derived from its name alone.

    Groups that share a recording (``identical``: ``firsts`` of the songs) are merged, under the first of their names.
    """
    groups, song_ids = manifest.column("group"), manifest.column("song_id")
    # a song of unknown group is its own group; the prefix keeps it apart from a group of the same name
    names = pc.if_else(
        pc.is_valid(groups),
        pc.binary_join_element_wise("group", groups, " "),
        pc.binary_join_element_wise("song", song_ids, " "),
    )
    encoded = names.dictionary_encode()
    group_of_song, names = encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()
    pairs = [np.stack([firsts[firsts >= 0], np.flatnonzero(firsts >= 0)]) for firsts in identical]
    pairs = group_of_song[np.concatenate(pairs, axis=1)] if pairs else np.empty((2, 0), dtype=np.int64)
    pairs = pairs[:, pairs[0] != pairs[1]]
    if pairs.size:
        whole_of_group, names = _joined(pairs, names)
        group_of_song = whole_of_group[group_of_song]
    return group_of_song, song_keys(names)


def _joined(pairs: np.ndarray, names: list[str]) -> tuple[np.ndarray, list[str]]:
    """Merge the G groups ``names`` that are connected by ``pairs`` (2×P). Returns each group's merged number, int64 G,
    and the name of every merged group: the first of its members' names, whatever their order."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(pairs.shape[1], dtype=bool), tuple(pairs)), shape=(len(names), len(names)))
    count, wholes = connected_components(graph, directed=False)
    first_names: list[str | None] = [None] * count
    for whole, name in zip(wholes.tolist(), names, strict=True):
        known = first_names[whole]
        first_names[whole] = name if known is None else min(known, name)
    return wholes.astype(np.int64), first_names


def _splits_of_groups(group_of_song: np.ndarray, codes: np.ndarray, num_groups: int) -> np.ndarray:
    """The split (int8) of most songs in each group; -1 if none has one yet."""
    known = codes >= 0
    cells = group_of_song[known] * len(SPLITS) + codes[known]
    songs = np.bincount(cells, minlength=num_groups * len(SPLITS)).reshape(num_groups, len(SPLITS))
    return np.where(songs.any(axis=1), songs.argmax(axis=1), -1).astype(np.int8)
