"""MagnaTagATune (Law et al., 2009): 25,863 clips of 29 s from the label Magnatune, tagged by the players of a game."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from musictag.common.errors import MusictagError
from musictag.common.progress import tell
from musictag.data.datasets.published import PublishedFiles, announce, choose, files_there, make_manifest
from musictag.data.manifest import Manifest

#: The 50 most frequent tags, most frequent first: the order of the published ground truth and of musicnn's outputs.
TAGS = (
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano",
    "ambient", "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing",
    "vocals", "no vocals", "harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop",
    "soft", "sitar", "solo", "man", "classic", "choir", "voice", "new age", "dance", "male voice",
    "female vocal", "beats", "harp", "cello", "no voice", "weird", "country", "metal", "female voice", "choral",
)  # fmt: skip

#: Synonymous tags, as listed by Choi (github.com/keunwoochoi/magnatagatune-list): the first name of each line stands
#: for the others.
SYNONYMS = (
    ("beat", "beats"),
    ("chant", "chanting"),
    ("choir", "choral"),
    ("classical", "clasical", "classic"),
    ("drum", "drums"),
    ("electro", "electronic", "electronica", "electric"),
    ("fast", "fast beat", "quick"),
    ("female", "female singer", "female singing", "female vocals", "female vocal", "female voice", "woman",
     "woman singing", "women"),
    ("flute", "flutes"),
    ("guitar", "guitars"),
    ("hard", "hard rock"),
    ("harpsichord", "harpsicord"),
    ("heavy", "heavy metal", "metal"),
    ("horn", "horns"),
    ("india", "indian"),
    ("jazz", "jazzy"),
    ("male", "male singer", "male vocal", "male vocals", "male voice", "man", "man singing", "men"),
    ("no beat", "no drums"),
    ("no singer", "no singing", "no vocal", "no vocals", "no voice", "no voices", "instrumental"),
    ("opera", "operatic"),
    ("orchestra", "orchestral"),
    ("quiet", "silence"),
    ("singer", "singing"),
    ("space", "spacey"),
    ("string", "strings"),
    ("synth", "synthesizer"),
    ("violin", "violins"),
    ("vocal", "vocals", "voice", "voices"),
    ("strange", "weird"),
)  # fmt: skip

#: Clips without usable audio: the first file is missing from the archive, the others are damaged.
BROKEN_CLIPS = ("35644", "55753", "57881")

#: Songs for train, validation and test.
PUBLISHED = {"original": (18706, 1825, 5329), "clean": (15244, 1529, 4332)}

ANNOTATIONS = "annotations_final.csv"
CLIP_INFO = "clip_info_final.csv"
#: The audio is in folders named by a hexadecimal digit, which decides the split.
_FOLDERS = dict.fromkeys("0123456789ab", "train") | {"c": "validation"} | dict.fromkeys("def", "test")
_TEXT = ("clip_id", "mp3_path")
_TABS = pacsv.ParseOptions(delimiter="\t", newlines_in_values=True)
_PAGE = "https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset"


class MagnaTagATune(PublishedFiles):
    """``root`` holds annotations_final.csv, clip_info_final.csv and the folders 0 to 9 and a to f of MP3 files.

    ``split`` "original" uses folders 0 to b for training, c for validation and d to f for test. "clean" omits the clips
    without any of the tags. Published descriptions of it also require 29.1 s of audio, but the published lists are
    exactly those of "original" minus the untagged clips, so lengths are not checked here.

    Without ``merge_synonyms`` the tags are ``TAGS``. With it, tags that mean the same become one (``SYNONYMS``), and
    the 50 most frequent among all clips are used, most frequent first; published scores are not comparable with that.

    The group of a clip is its artist. Many artists are in more than one split, which is reported on loading.

    Raises MusictagError for settings that do not exist and for files that are missing, damaged or not unpacked.
    """

    name = "magnatagatune"

    def __init__(
        self,
        root: str | Path,
        split: str = "original",
        merge_synonyms: bool = False,
        **reading: Any,
    ) -> None:
        super().__init__(root, **reading)
        choose("split", split, tuple(PUBLISHED))
        self.split = split
        self.merge_synonyms = merge_synonyms

    def _load(self) -> Manifest:
        self._check_folder()
        clips = _read_csv(self.root / ANNOTATIONS)
        if missing := [name for name in (*_TEXT, *TAGS) if name not in clips.column_names]:
            raise MusictagError(
                f"{self.root / ANNOTATIONS} has no column {', '.join(missing)}. It is published at {_PAGE}; "
                "download it again"
            )
        ids, paths = clips["clip_id"].combine_chunks(), pc.fill_null(clips["mp3_path"], "").combine_chunks()
        if unknown := pc.unique(paths.filter(pc.invert(pc.is_in(_folder(paths), pa.array(_FOLDERS))))).to_pylist():
            raise MusictagError(
                f"{self.root / ANNOTATIONS}: {unknown[0]!r} is in none of the folders 0 to 9 and a to f"
            )
        tags, values = _tag_values(clips, self.merge_synonyms, self.root / ANNOTATIONS)
        used = ~pc.is_in(ids, pa.array(BROKEN_CLIPS)).to_numpy(zero_copy_only=False)
        if not used.all():
            broken = ids.filter(pa.array(~used)).to_pylist()
            tell(f"{len(broken)} clips are left out because their files are broken: {', '.join(broken)}")
        if self.split == "clean":
            used &= values.any(axis=1)
        there = used & files_there(self.root, paths.to_pylist(), self._prepared_paths())
        if not there.any():
            raise MusictagError(
                f"the folders 0 to f in {self.root} contain none of the clips; unpack mp3.zip there again"
            )
        columns = {
            "song_id": ids,
            "path": paths,
            "split": pa.array([_FOLDERS[folder] for folder in _folder(paths).to_pylist()]),
            "group": self._artists(ids),
        }
        manifest = make_manifest(self.name, columns, tags, values, there)
        published = None if self.merge_synonyms and self.split == "clean" else PUBLISHED[self.split]
        what = f"split {self.split}{', synonyms merged' if self.merge_synonyms else ''}"
        announce(manifest, what, published, without_audio=int(used.sum() - there.sum()))
        return manifest

    def _check_folder(self) -> None:
        for file in (ANNOTATIONS, CLIP_INFO):
            if not (self.root / file).is_file():
                raise MusictagError(
                    f"there is no {file} in {self.root}; set the folder of MagnaTagATune with data.root=... "
                    f"The file is published at {_PAGE}"
                )
        if any((self.root / folder).is_dir() for folder in _FOLDERS) or len(self._prepared_paths()):
            return
        unpack = "unzip -q mp3.zip"
        if not (self.root / "mp3.zip").is_file():
            unpack = f"cat mp3.zip.00? > mp3.zip && {unpack}"
            if not (self.root / "mp3.zip.001").is_file():
                unpack += f"\n(mp3.zip.001, mp3.zip.002 and mp3.zip.003 are published at {_PAGE})"
        raise MusictagError(
            f"there are no folders 0 to f of MP3 files in {self.root}: the audio is not unpacked yet. "
            f"Run: cd {self.root} && {unpack}"
        )

    def _artists(self, clip_ids: pa.Array) -> pa.Array:
        info = _read_csv(self.root / CLIP_INFO, ["clip_id", "artist"])
        artists = info["artist"].take(pc.index_in(clip_ids, info["clip_id"].combine_chunks()))
        return pc.if_else(pc.equal(artists, ""), pa.scalar(None, pa.string()), artists).combine_chunks()


def _folder(paths: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(paths, "/.*", "")


def _read_csv(path: Path, columns: list[str] | None = None) -> pa.Table:
    """One of the two tables, or some of its columns: text for clips, small integers for tags."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header = next(csv.reader(file, delimiter="\t"), [])
        if len(set(header)) < len(header):
            raise MusictagError(
                f"{path} has two columns of the same name. It is published at {_PAGE}; download it again"
            )
        types = {name: pa.string() if name in _TEXT or columns else pa.int8() for name in header}
        options = pacsv.ConvertOptions(column_types=types, include_columns=columns)
        return pacsv.read_csv(path, parse_options=_TABS, convert_options=options)
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        raise MusictagError(f"{path} cannot be read: {error}. It is published at {_PAGE}; download it again") from error


def _tag_values(clips: pa.Table, merge_synonyms: bool, path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """The tags, and whether each of the S clips has them: booleans S×50."""
    columns = {}
    for name in clips.column_names:
        if name not in _TEXT:
            if not set(pc.unique(clips[name]).to_pylist()) <= {0, 1}:
                raise MusictagError(f"{path}: column {name} holds something other than 0 and 1; download it again")
            columns[name] = clips[name].to_numpy() == 1
    if not merge_synonyms:
        return TAGS, np.stack([columns[tag] for tag in TAGS], axis=1)
    for first, *others in SYNONYMS:
        members = [columns.pop(name) for name in (first, *others) if name in columns]
        if members:
            columns[first] = np.logical_or.reduce(members)
    # most frequent first, ties by name
    tags = sorted(columns, key=lambda tag: (-columns[tag].sum(), tag))[: len(TAGS)]
    return tuple(tags), np.stack([columns[tag] for tag in tags], axis=1)
