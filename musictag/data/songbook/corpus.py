"""The corpus of real scores in the music21 wheel: read once, cached, clustered by tune and split.

music21 is never imported (it is slow, and its parser even slower): musictag's own readers read its corpus files.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from hashlib import blake2b
from importlib import metadata, util
from itertools import pairwise
from pathlib import Path

import numpy as np
from filelock import FileLock

from musictag.common.errors import MusictagError
from musictag.common.files import atomic_write
from musictag.common.processes import follow_parent
from musictag.common.progress import say
from musictag.data.songbook.notation.abc import read_abc
from musictag.data.songbook.notation.kern import read_kern
from musictag.data.songbook.notation.musicxml import read_musicxml
from musictag.data.songbook.notation.score import Score
from musictag.data.songbook.tunes import split_clusters, tune_clusters

#: Increased with every change to the output of readers, clusters or splits: caches of other versions are not used.
VERSION = 1
OLDEST_MUSIC21 = (9, 3)
MIN_NOTES, MIN_QUARTERS = 12, 8.0
LOWEST_PITCH, HIGHEST_PITCH = 24, 108
#: Folders with exercises and demonstrations of notation instead of pieces.
_NO_MUSIC = ("demos", "theoryExercises", "_metadataCache")
_SUFFIXES = (".abc", ".krn", ".mxl", ".xml", ".musicxml")
_CHECKSUM_BYTES = 32
_FIELDS = (
    "piece_id", "collection", "title", "rhythm", "origin", "work", "meter", "pickup_quarters", "tempo",
)  # fmt: skip

Problem = tuple[str, str]  # piece_id, reason


class Corpus:
    """Pieces in a fixed order (by file, then by position in the file).

    ``collection``, ``group`` (its cluster of tunes; no group is in two splits) and ``split`` ("train", "validation",
    "test") are object arrays with one string per piece. ``problems`` lists what was left out.
    """

    def __init__(self, notes: np.ndarray, part_ends: np.ndarray, piece_ends: np.ndarray, about: dict):
        """``notes``: float32 (notes, 3) of all parts; ``part_ends`` counts notes, ``piece_ends`` parts (int64)."""
        self._notes = notes
        self._part_ends = np.concatenate([[0], part_ends])
        self._piece_ends = np.concatenate([[0], piece_ends])
        self._about = about
        self.collection = np.array(about["collection"], dtype=object)
        self.group = np.array(about["group"], dtype=object)
        self.split = np.array(about["split"], dtype=object)
        self.problems: list[Problem] = [tuple(problem) for problem in about["problems"]]
        ids = about["piece_id"]
        self._order = np.array(
            sorted(range(len(ids)), key=lambda i: blake2b(ids[i].encode(), digest_size=8).digest()), np.int64
        )

    def __len__(self) -> int:
        return len(self._piece_ends) - 1

    def __getitem__(self, index: int) -> Score:
        index = range(len(self))[index]
        values = {name: self._about[name][index] for name in _FIELDS}
        values["meter"] = values["meter"] and tuple(values["meter"])
        bounds = self._part_ends[self._piece_ends[index] : self._piece_ends[index + 1] + 1]
        parts = tuple(self._notes[start:end] for start, end in pairwise(bounds))
        return Score(parts=parts, **values)

    def pieces(self, split: str) -> np.ndarray:
        """The pieces of a split, int64, in a fixed random order: any prefix has about the mix of the whole."""
        return self._order[self.split[self._order] == split]


def load_corpus(cache_dir: Path, workers: int = 1) -> Corpus:
    """Read music21's corpus with ``workers`` processes (15 s on one core), or the cache of an earlier call.

    Raises MusictagError if music21 is missing, too old, or installed without its corpus.
    """
    folder, version = _corpus_folder()
    cache = Path(cache_dir) / f"songbook-corpus-v{VERSION}-music21-{version}.cache"
    cache.parent.mkdir(parents=True, exist_ok=True)
    if (corpus := _read_cache(cache)) is not None:
        return corpus
    with FileLock(f"{cache}.lock"):  # a process that waited here finds the file written
        if (corpus := _read_cache(cache)) is None:
            say("reading the scores that come with music21, once: about 15 seconds")
            _write_cache(cache, *_read_files(folder, workers))
            corpus = _read_cache(cache)
    if corpus is None:
        raise MusictagError(f"{cache} was written but cannot be read back: is the disk failing? Use another folder.")
    return corpus


def _corpus_folder() -> tuple[Path, str]:
    """The folder of the corpus, and music21's version."""
    advice = 'Run: pip install "music21>=9.3,<11"'
    spec = util.find_spec("music21")
    if spec is None or not spec.submodule_search_locations:
        raise MusictagError(
            f"The songbook reads the scores inside the music21 package, which is not installed. {advice}"
        )
    version = metadata.version("music21")
    if tuple(int(number) for number in re.findall(r"\d+", version)[:2]) < OLDEST_MUSIC21:
        raise MusictagError(f"music21 {version} is too old for the songbook. {advice}")
    folder = Path(next(iter(spec.submodule_search_locations))) / "corpus"
    if not (folder / "essenFolksong").is_dir():
        raise MusictagError(f"music21 {version} is installed without its corpus ({folder}). {advice} --force-reinstall")
    return folder, version


def _corpus_files(folder: Path) -> list[str]:
    """Paths inside the corpus, with slashes, sorted."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix in _SUFFIXES)
    return sorted(path.as_posix() for path in files if len(path.parts) > 1 and path.parts[0] not in _NO_MUSIC)


def _read_file(folder: Path, file: str) -> tuple[list[Score], list[Problem]]:
    """The usable pieces of a file, and the problems of the others."""
    problems: list[Problem] = []
    try:
        data = (folder / file).read_bytes()
        if file.endswith(".abc"):
            scores = list(read_abc(_text(data), file, problems))
        else:
            score = read_kern(_text(data), file) if file.endswith(".krn") else read_musicxml(data, file)
            scores = [] if score is None else [score]
            if score is None:
                problems.append((file, "no notes"))
    except (ValueError, OSError) as error:
        return [], [(file, str(error))]
    usable = []
    for score in scores:
        if reason := _unusable(score):
            problems.append((score.piece_id, reason))
        else:
            usable.append(score)
    return usable, problems


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _unusable(score: Score) -> str | None:
    """Why a piece is unusable, or None."""
    if sum(map(len, score.parts)) < MIN_NOTES:
        return f"fewer than {MIN_NOTES} notes"
    notes = np.concatenate(score.parts)
    if not np.isfinite(notes).all() or (notes[:, 0] < 0).any() or (notes[:, 1] <= 0).any():
        return "notes without length"
    if score.quarters < MIN_QUARTERS:
        return f"shorter than {MIN_QUARTERS:g} quarter notes"
    if notes[:, 2].min() < LOWEST_PITCH or notes[:, 2].max() > HIGHEST_PITCH:
        return f"pitches outside {LOWEST_PITCH} to {HIGHEST_PITCH}"
    return None


def _read_files(folder: Path, workers: int) -> tuple[list[Score], list[Problem]]:
    files = _corpus_files(folder)
    if workers > 1:
        # spawn: forking a process with threads (torch, CUDA) can hang
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), follow_parent) as pool:
            results = list(pool.map(_read_file, [folder] * len(files), files, chunksize=16))
    else:
        results = [_read_file(folder, file) for file in files]
    return [score for scores, _ in results for score in scores], [problem for _, found in results for problem in found]


def _write_cache(cache: Path, scores: list[Score], problems: list[Problem]) -> None:
    groups = tune_clusters(scores)
    about = {name: [getattr(score, name) for score in scores] for name in _FIELDS}
    about |= {"group": groups, "split": split_clusters(scores, groups), "problems": problems}
    parts = [part for score in scores for part in score.parts]
    arrays = {
        "notes": np.concatenate(parts),
        "part_ends": np.cumsum([len(part) for part in parts], dtype=np.int64),
        "piece_ends": np.cumsum([len(score.parts) for score in scores], dtype=np.int64),
        "about": np.frombuffer(json.dumps(about, ensure_ascii=False).encode(), dtype=np.uint8),
    }
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    with atomic_write(cache) as file:
        file.write(_checksum(packed.getbuffer()))
        file.write(packed.getbuffer())


def _checksum(data: memoryview) -> bytes:
    return blake2b(data, digest_size=_CHECKSUM_BYTES).digest()


def _read_cache(cache: Path) -> Corpus | None:
    """The cached corpus; None if there is none, or it was damaged after it was written."""
    try:
        data = cache.read_bytes()
    except FileNotFoundError:
        return None
    checksum, packed = data[:_CHECKSUM_BYTES], memoryview(data)[_CHECKSUM_BYTES:]
    if checksum != _checksum(packed):
        return None
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        about = json.loads(arrays["about"].tobytes())
        return Corpus(arrays["notes"], arrays["part_ends"], arrays["piece_ends"], about)
