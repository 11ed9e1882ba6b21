"""songbook, the embedded data set: real scores, randomly arranged and rendered by a General MIDI synthesiser.

Nothing is downloaded: the scores come with music21, the SoundFont with pretty_midi. The tags are true by construction
(table in ``musictag.data.songbook.arrangement.tags``). One SoundFont has few timbres: results compare architectures
with each other, and are never comparable with results on recorded music.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow as pa

from musictag.common.errors import MusictagError
from musictag.data.catalogue.learnable import TagChoice
from musictag.data.datasets import Source
from musictag.data.manifest import SPLITS, Manifest
from musictag.data.songbook.arrangement.arrange import Arrangement, arrange
from musictag.data.songbook.arrangement.tags import TAGS
from musictag.data.songbook.corpus import VERSION as CORPUS_VERSION
from musictag.data.songbook.corpus import Corpus, load_corpus
from musictag.data.songbook.rendering.render import Synthesiser
from musictag.data.songbook.rendering.soundfont import find_soundfont, short_sha256

#: Increased with every change to the sound or the tags of arrangements: prepared audio of other versions is not used.
VERSION = 2
#: Decides the arrangements with ``seed``: they have stayed the same since version 1.
_ARRANGEMENTS = 1
_SECONDS = (3.0, 60.0)


class Songbook(Source):
    """Songs of ``seconds`` made from written music, as many as requested.

    Song k of a split is the same song whatever the totals: ``num_songs`` counts training songs, and a larger number
    only adds some; validation and test songs do not change with it. The first 11,000 or so training songs play one
    piece each; further ones are new arrangements of the same pieces. Pieces never cross splits, nor do variants of a
    tune or movements of a work (column ``group``). ``seed`` decides the arrangements, not the splits.

    ``tags`` and ``min_songs_per_tag`` choose tags (see ``musictag.data.catalogue.learnable``).

    ``soundfont`` is the path of a General MIDI .sf2 file; None uses the one in pretty_midi. ``workers`` processes read
    the scores the first time (about 20 s on one core), and ``data_dir`` keeps them.

    Raises MusictagError for numbers out of range, and from ``fingerprint`` and ``manifest`` for a SoundFont or a corpus
    that is missing or unusable.
    """

    name = "songbook"
    locations = ("soundfont",)

    def __init__(
        self,
        data_dir: str | Path,
        num_songs: int = 1000,
        validation_songs: int = 150,
        test_songs: int = 350,
        seconds: float = 10.0,
        seed: int = 0,
        soundfont: str | Path | None = None,
        tags: str | Sequence[str] | None = None,
        min_songs_per_tag: int = 1,
        workers: int = 2,
    ) -> None:
        self.num_songs = dict(zip(SPLITS, (num_songs, validation_songs, test_songs), strict=True))
        if min(self.num_songs.values()) < 1:
            raise MusictagError(
                f"num_songs={num_songs}, validation_songs={validation_songs}, test_songs={test_songs}: "
                "songbook needs at least one song in each split"
            )
        if not _SECONDS[0] <= seconds <= _SECONDS[1]:
            raise MusictagError(
                f"seconds={seconds}: songbook makes songs of {_SECONDS[0]:g} to {_SECONDS[1]:g} seconds"
            )
        if seed < 0:
            raise MusictagError(f"seed={seed}: give 0 or a positive integer")
        self.seconds = float(seconds)
        self.seed = seed
        self.tag_choice = TagChoice(tags, min_songs_per_tag)
        self.workers = workers
        self._cache_dir = Path(data_dir)
        self._soundfont = soundfont
        self._manifest: Manifest | None = None

    def fingerprint(self) -> dict[str, str | int | float | None]:
        """Versions, seed, length and SoundFont; not how many songs there are."""
        soundfont = find_soundfont(self._soundfont)
        about = soundfont.stat()
        return {
            "songbook": VERSION,
            "corpus": CORPUS_VERSION,
            "music21": _version("music21"),
            "midirenderer": _version("midirenderer"),
            "soundfont": short_sha256(soundfont, about.st_size, about.st_mtime_ns),
            "seconds": self.seconds,
            "seed": self.seed,
        }

    def manifest(self) -> Manifest:
        """All songs, split by split; ``path`` is the piece inside the corpus. Takes half a ms per song, once."""
        if self._manifest is None:
            self._manifest = self.tag_choice.wanted(self._arrange_all())
        return self._manifest

    def _arrange_all(self) -> Manifest:
        # refuse what would sound wrong, before work starts
        Synthesiser(find_soundfont(self._soundfont))
        corpus = load_corpus(self._cache_dir, self.workers)
        columns: dict[str, list] = {name: [] for name in ("song_id", "path", "split", "group")}
        tag_values: dict[str, list[float | None]] = {tag.name: [] for tag in TAGS}
        for split, count in self.num_songs.items():
            pieces = corpus.pieces(split)
            for number in range(count):
                piece = int(pieces[number % len(pieces)])
                arrangement = _arrangement(corpus, piece, split, number, self.seconds, self.seed)
                row = (f"songbook-{split}-{number:05d}", corpus[piece].piece_id, split, str(corpus.group[piece]))
                for column, value in zip(columns.values(), row, strict=True):
                    column.append(value)
                for name, values in tag_values.items():
                    values.append(arrangement.tags[name])
        duration = pa.array(np.full(len(columns["song_id"]), self.seconds, dtype=np.float32))
        targets = {name: pa.array(values, pa.float32()) for name, values in tag_values.items()}
        return Manifest(pa.table(columns | {"duration": duration} | targets), TAGS, self.name)

    def reader(self) -> SongbookReader:
        """Makes songs; it pickles small, and loads scores and SoundFont once in each process."""
        return SongbookReader(self._cache_dir, find_soundfont(self._soundfont), self.seconds, self.seed)


@dataclass(frozen=True)
class SongbookReader:
    """``reader(song_id, path)`` -> int16 mono samples at 16 kHz, seconds × 16,000 of them."""

    cache_dir: Path
    soundfont: Path
    seconds: float
    seed: int

    def __call__(self, song_id: str, path: str) -> np.ndarray:
        _, split, number = song_id.split("-")
        corpus, pieces = _corpus(self.cache_dir), _pieces(self.cache_dir, split)
        piece = int(pieces[int(number) % len(pieces)])
        arrangement = _arrangement(corpus, piece, split, int(number), self.seconds, self.seed)
        return _synthesiser(self.soundfont).song(arrangement)


def _arrangement(corpus: Corpus, piece: int, split: str, number: int, seconds: float, seed: int) -> Arrangement:
    """The song's arrangement: a function of its split, number and the seed alone."""
    sequence = np.random.SeedSequence([_ARRANGEMENTS, seed, SPLITS.index(split), number])
    return arrange(corpus[piece], seconds, np.random.Generator(np.random.PCG64(sequence)))


@lru_cache(maxsize=1)
def _corpus(cache_dir: Path) -> Corpus:
    return load_corpus(cache_dir)


@lru_cache(maxsize=len(SPLITS))
def _pieces(cache_dir: Path, split: str) -> np.ndarray:
    return _corpus(cache_dir).pieces(split)


@lru_cache(maxsize=1)
def _synthesiser(soundfont: Path) -> Synthesiser:
    return Synthesiser(soundfont)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        raise MusictagError(f"songbook needs {package}, which is not installed. Run: pip install {package}") from None
