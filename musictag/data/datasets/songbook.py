"""songbook, the embedded data set: real scores, randomly arranged and rendered by a General MIDI synthesiser.

Nothing is downloaded: the scores come with music21, the SoundFont with pretty_midi. The tags are true by construction
(table in ``musictag.data.songbook.arrangement.tags``). A SoundFont has few timbres: results compare architectures
with each other, and are never comparable with results on recorded music.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
from musictag.data.songbook.arrangement.variety import Variety, varied
from musictag.data.songbook.corpus import VERSION as CORPUS_VERSION
from musictag.data.songbook.corpus import Corpus, load_corpus
from musictag.data.songbook.rendering.render import Synthesiser
from musictag.data.songbook.rendering.soundfont import find_soundfont, short_sha256

#: Increased with every change to the sound or the tags of arrangements: prepared audio of other versions is not used.
VERSION = 2
#: Decides the arrangements with ``seed``: they have stayed the same since version 1.
_ARRANGEMENTS = 1
_FONT, _VARIETY, _SECOND_PIECE = 1, 2, 3  # what else is drawn for a song
_SECONDS = (3.0, 60.0)


class Songbook(Source):
    """Songs of ``seconds`` made from written music, as many as requested.

    Song k of a split is the same song whatever the totals: ``num_songs`` counts training songs, and a larger number
    only adds some; validation and test songs do not change with it. The first 11,000 or so training songs play one
    piece each; further ones are new arrangements of the same pieces. Pieces never cross splits, nor do variants of a
    tune or movements of a work (column ``group``). ``seed`` decides the arrangements, not the splits.

    ``tags`` and ``min_songs_per_tag`` choose tags (see ``musictag.data.catalogue.learnable``).

    ``soundfont`` is the path of a General MIDI .sf2 file; None uses the one in pretty_midi. Of a list, one is drawn for
    each song. ``variety``: see ``musictag.data.songbook.arrangement.variety.Variety``. ``workers`` processes read
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
        soundfont: str | Path | Sequence[str | Path | None] | None = None,
        tags: str | Sequence[str] | None = None,
        min_songs_per_tag: int = 1,
        workers: int = 2,
        variety: Mapping[str, float] | None = None,
    ) -> None:
        self.num_songs = dict(zip(SPLITS, (num_songs, validation_songs, test_songs), strict=True))
        if not all(isinstance(number, int) and number >= 1 for number in self.num_songs.values()):
            raise MusictagError(
                f"num_songs={num_songs}, validation_songs={validation_songs}, test_songs={test_songs}: "
                "songbook needs at least one song in each split, in whole numbers (1000, not 1e3)"
            )
        if not _SECONDS[0] <= seconds <= _SECONDS[1]:
            raise MusictagError(
                f"seconds={seconds}: songbook makes songs of {_SECONDS[0]:g} to {_SECONDS[1]:g} seconds"
            )
        if not isinstance(seed, int) or seed < 0:
            raise MusictagError(f"seed={seed}: give 0 or a positive integer")
        self.seconds = float(seconds)
        self.seed = seed
        self.tag_choice = TagChoice(tags, min_songs_per_tag)
        self.workers = workers
        self._cache_dir = Path(data_dir)
        self._soundfonts = (
            list(soundfont) if isinstance(soundfont, Sequence) and not isinstance(soundfont, str) else [soundfont]
        )
        if not self._soundfonts:
            raise MusictagError("soundfont=[]: give at least one SoundFont, or null for the one in pretty_midi")
        self._variety = Variety.of(variety)
        self._manifest: Manifest | None = None

    def fingerprint(self) -> dict[str, str | int | float | None]:
        """Versions, seed, length, SoundFonts and variety; not how many songs there are."""
        found = [(path, path.stat()) for path in map(find_soundfont, self._soundfonts)]
        about = {
            "songbook": VERSION,
            "corpus": CORPUS_VERSION,
            "music21": _version("music21"),
            "midirenderer": _version("midirenderer"),
            "soundfont": " ".join(short_sha256(path, stat.st_size, stat.st_mtime_ns) for path, stat in found),
            "seconds": self.seconds,
            "seed": self.seed,
        }
        return about | asdict(self._variety) | ({"av": _version("av")} if self._variety.codec_share else {})

    def manifest(self) -> Manifest:
        """All songs, split by split; ``path`` is the piece in the corpus, and says which arrangement of it a song is
        after the first. Takes half a ms per song, once."""
        if self._manifest is None:
            self._manifest = self.tag_choice.wanted(self._arrange_all())
        return self._manifest

    def _arrange_all(self) -> Manifest:
        reader = self.reader()
        for soundfont in reader.soundfonts:
            Synthesiser(soundfont)  # refuse what would sound wrong, before work starts
        corpus = load_corpus(self._cache_dir, self.workers)
        columns: dict[str, list] = {name: [] for name in ("song_id", "path", "split", "group")}
        tag_values: dict[str, list[float | None]] = {tag.name: [] for tag in TAGS}
        for split, count in self.num_songs.items():
            pieces = corpus.pieces(split)
            for number in range(count):
                piece = int(pieces[number % len(pieces)])
                arrangement = reader.arrangement(corpus, pieces, split, number)
                path, again = corpus[piece].piece_id, number // len(pieces)
                path += f" (arrangement {again + 1})" if again else ""
                row = (f"songbook-{split}-{number:05d}", path, split, str(corpus.group[piece]))
                for column, value in zip(columns.values(), row, strict=True):
                    column.append(value)
                for name, values in tag_values.items():
                    values.append(arrangement.tags[name])
        duration = pa.array(np.full(len(columns["song_id"]), self.seconds, dtype=np.float32))
        targets = {name: pa.array(values, pa.float32()) for name, values in tag_values.items()}
        return Manifest(pa.table(columns | {"duration": duration} | targets), TAGS, self.name)

    def reader(self) -> SongbookReader:
        """Makes songs; it pickles small, and loads scores and SoundFont once in each process."""
        soundfonts = tuple(map(find_soundfont, self._soundfonts))
        return SongbookReader(self._cache_dir, soundfonts, self.seconds, self.seed, self._variety)


@dataclass(frozen=True)
class SongbookReader:
    """``reader(song_id, path)`` -> int16 mono samples at 16 kHz, seconds × 16,000 of them."""

    cache_dir: Path
    soundfonts: tuple[Path, ...]
    seconds: float
    seed: int
    variety: Variety

    def __call__(self, song_id: str, path: str) -> np.ndarray:
        _, split, number = song_id.split("-")
        arrangement = self.arrangement(_corpus(self.cache_dir), _pieces(self.cache_dir, split), split, int(number))
        return _synthesiser(self.soundfont(split, int(number))).song(arrangement)

    def soundfont(self, split: str, number: int) -> Path:
        """The SoundFont of a song."""
        return self.soundfonts[self._rng(split, number, _FONT).integers(len(self.soundfonts))]

    def arrangement(self, corpus: Corpus, pieces: np.ndarray, split: str, number: int) -> Arrangement:
        """Song ``number`` of a split, of whose ``pieces`` in the corpus it is one, or two."""
        levels = (self.variety.quietest_db, self.variety.tuning_cents)
        piece = int(pieces[number % len(pieces)])
        song = arrange(corpus[piece], self.seconds, self._rng(split, number), *levels)
        if self.variety == Variety():
            return song
        rng = self._rng(split, number, _VARIETY)
        other = int(pieces[rng.integers(len(pieces))])
        second = None
        if rng.random() < self.variety.overlap_share:
            second = arrange(corpus[other], self.seconds, self._rng(split, number, _SECOND_PIECE), *levels)
        return varied(song, second, self.variety, rng)

    def _rng(self, split: str, number: int, *purpose: int) -> np.random.Generator:
        """A function of the split, number, purpose and seed alone."""
        words = [_ARRANGEMENTS, self.seed, SPLITS.index(split), number, *purpose]
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


@lru_cache(maxsize=1)
def _corpus(cache_dir: Path) -> Corpus:
    return load_corpus(cache_dir)


@lru_cache(maxsize=len(SPLITS))
def _pieces(cache_dir: Path, split: str) -> np.ndarray:
    return _corpus(cache_dir).pieces(split)


@lru_cache(maxsize=8)
def _synthesiser(soundfont: Path) -> Synthesiser:
    return Synthesiser(soundfont)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        raise MusictagError(f"songbook needs {package}, which is not installed. Run: pip install {package}") from None
