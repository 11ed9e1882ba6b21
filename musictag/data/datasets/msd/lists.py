"""The published tag lists of the Million Song Dataset, in all of their forms: each song's split and tags.

Legend: S songs, K = 50 tags.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musictag.common.errors import MusictagError
from musictag.common.text import reason
from musictag.data.datasets.msd.pickles import load_pickle
from musictag.data.manifest import SPLITS

#: The tags of the standard split, in the order of 50tagList.txt and of all tag vectors.
TAGS = (
    "rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s", "alternative rock", "jazz",
    "beautiful", "metal", "chillout", "male vocalists", "classic rock", "soul", "indie rock", "Mellow", "electronica",
    "80s", "folk", "90s", "chill", "instrumental", "punk", "oldies", "blues", "hard rock", "ambient", "acoustic",
    "experimental", "female vocalist", "guitar", "Hip-Hop", "70s", "party", "country", "easy listening", "sexy",
    "catchy", "funk", "electro", "heavy metal", "Progressive rock", "60s", "rnb", "indie pop", "sad", "House", "happy",
)  # fmt: skip
#: The tags of the split CALS, in the order of its arrays.
CALS_TAGS = (
    "rock", "pop", "indie", "alternative", "electronic", "hip-hop", "metal", "jazz", "punk", "folk",
    "alternative rock", "indie rock", "dance", "hard rock", "00s", "soul", "hardcore", "80s", "country", "classic rock",
    "punk rock", "blues", "chillout", "experimental", "heavy metal", "death metal", "90s", "reggae", "progressive rock",
    "ambient", "acoustic", "beautiful", "british", "rnb", "funk", "metalcore", "mellow", "world", "guitar", "trance",
    "indie pop", "christian", "house", "spanish", "latin", "psychedelic", "electro", "piano", "70s",
    "progressive metal",
)  # fmt: skip

#: Songs for train, validation and test.
PUBLISHED = {"standard": (201680, 11774, 28435), "cals": (163504, 34730, 34913)}

TAG_LIST, TRAIN_LIST, TEST_LIST = "50tagList.txt", "filtered_list_train.cP", "filtered_list_test.cP"
TAG_VECTORS = "msd_id_to_tag_vector.cP"
PICKLES = (TAG_LIST, TRAIN_LIST, TEST_LIST, TAG_VECTORS)
INDEX = "index_msd.tsv"
TRUTHS = dict(zip(SPLITS, ("train_gt_msd.tsv", "val_gt_msd.tsv", "test_gt_msd.tsv"), strict=True))
CALS_FILES = {
    split: (f"{stem}_ids.npy", f"{stem}_binaries.npy")
    for split, stem in zip(SPLITS, ("train", "valid", "test"), strict=True)
}
#: The maps from a song to its preview: MSD -> 7digital -> path.
PREVIEW_MAPS = ("MSD_id_to_7D_id.pkl", "7D_id_to_path.pkl")


class SongLists(NamedTuple):
    """S identifiers and splits, S×K values (0 or 1), and S paths if the form includes them."""

    ids: list[str]
    splits: list[str]
    values: np.ndarray
    paths: list[str] | None = None


def read_standard(folder: Path) -> tuple[SongLists, str]:
    """Read the standard split in either of its forms, whichever is in the folder; also returns which form it is.

    Raises MusictagError if neither is complete, and for damaged files.
    """
    forms: dict[str, tuple[tuple[str, ...], Callable[[Path], SongLists]]] = {
        "pickles": (PICKLES, read_pickles),
        "tables": ((INDEX, *TRUTHS.values()), read_tables),
    }
    missing = {form: [file for file in files if not (folder / file).is_file()] for form, (files, _) in forms.items()}
    for form, (_, read) in forms.items():
        if not missing[form]:
            return read(folder), form
    raise MusictagError(
        f"{folder} holds no complete lists of the Million Song Dataset; set their folder with data.lists=... "
        "Required are\n"
        f"  either {', '.join((*PICKLES, *PREVIEW_MAPS))} "
        "(https://github.com/jongpillee/music_dataset_split, MSD_split; the last two only for audio in 7digital's "
        f"layout): missing {', '.join(missing['pickles'])}\n"
        f"  or {', '.join((INDEX, *TRUTHS.values()))} "
        f"(https://github.com/jordipons/musicnn-training, data/index/msd): missing {', '.join(missing['tables'])}"
    )


def read_pickles(folder: Path) -> SongLists:
    """The lists as pickles of Python 2; the training list also has the validation songs, from number 201,680 on."""
    tags = (folder / TAG_LIST).read_text(encoding="utf-8").split("\n")
    if tuple(filter(None, map(str.strip, tags))) != TAGS:
        raise MusictagError(f"{folder / TAG_LIST} is not the published list of 50 tags; download it again")
    listed = {file: [_text(song) for song in _load(folder / file, list)] for file in (TRAIN_LIST, TEST_LIST)}
    train, validation, _ = PUBLISHED["standard"]
    if len(listed[TRAIN_LIST]) <= train:
        raise MusictagError(
            f"{folder / TRAIN_LIST} lists {len(listed[TRAIN_LIST]):,} songs instead of {train + validation:,}; "
            "download it again"
        )
    ids = listed[TRAIN_LIST] + listed[TEST_LIST]
    splits = ["train"] * train + ["validation"] * (len(listed[TRAIN_LIST]) - train) + ["test"] * len(listed[TEST_LIST])
    vectors = {_text(song): vector for song, vector in _load(folder / TAG_VECTORS, dict).items()}
    return SongLists(ids, splits, _stack([vectors.get(song) for song in ids], ids, folder / TAG_VECTORS))


def read_tables(folder: Path) -> SongLists:
    """The lists as text: song and path in one file; song and JSON list of the 50 values in one file per split."""
    path_of = dict(_pairs(folder / INDEX))
    ids, splits, vectors = [], [], []
    for split, file in TRUTHS.items():
        for song, numbers in _pairs(folder / file):
            try:
                vectors.append(np.array(json.loads(numbers), dtype=np.float32))
            except (ValueError, TypeError, RecursionError) as error:
                raise MusictagError(f"{folder / file}: the values of {song} cannot be read: {error}") from error
            ids.append(song)
            splits.append(split)
    values = _stack(vectors, ids, folder)
    if missing := [song for song in ids if song not in path_of]:
        raise MusictagError(f"{folder / INDEX} lacks {len(missing):,} songs, such as {missing[0]}; download it again")
    return SongLists(ids, splits, values, [path_of[song] for song in ids])


def read_cals(folder: Path) -> SongLists:
    """The split CALS (Won et al., 2021), which has no artist in two splits: per split an array of identifiers and one
    of values."""
    ids, splits, values = [], [], []
    for split, files in CALS_FILES.items():
        songs, binaries = (_load_array(folder / file) for file in files)
        if songs.ndim != 1 or songs.dtype.kind not in "US" or binaries.shape != (len(songs), len(CALS_TAGS)):
            raise MusictagError(
                f"{' and '.join(files)} in {folder} hold {songs.dtype} {songs.shape} and {binaries.dtype} "
                f"{binaries.shape}; expected are S identifiers and S x {len(CALS_TAGS)} values"
            )
        ids += map(_text, songs.tolist())
        splits += [split] * len(songs)
        values.append(binaries)
    return SongLists(ids, splits, np.concatenate(values))


def preview_paths(folder: Path, ids: list[str]) -> list[str]:
    """S paths of 7digital's previews, such as 8/9/8947470.clip.mp3; empty if a song has none."""
    previews, paths = (
        {_text(key): _text(value) for key, value in _load(folder / file, dict).items()} for file in PREVIEW_MAPS
    )
    return [paths.get(previews.get(song, ""), "") for song in ids]


def _load(path: Path, kind: type) -> Any:
    content = load_pickle(path)
    if not isinstance(content, kind):
        raise MusictagError(f"{path} holds a {type(content).__name__} instead of a {kind.__name__}; download it again")
    return content


def _stack(vectors: list, ids: list[str], where: Path) -> np.ndarray:
    values = np.empty((len(ids), len(TAGS)), dtype=np.float32)
    for row, vector in enumerate(vectors):
        # published as columns of shape (50, 1)
        flat = np.asarray(vector).ravel() if vector is not None else np.empty(0)
        if len(flat) != len(TAGS) or flat.dtype.kind not in "biuf":
            raise MusictagError(f"{where}: song {ids[row]} has no list of {len(TAGS)} values; download it again")
        values[row] = flat
    return values


def _pairs(path: Path) -> list[list[str]]:
    """The two columns of a table without header."""
    try:
        pairs = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise MusictagError(f"{path} cannot be read as text: {error}; download it again") from error
    if wrong := [row for row, pair in enumerate(pairs, start=1) if len(pair) != 2]:
        raise MusictagError(f"{path}: line {wrong[0]} is not two columns with a tab between; download it again")
    return pairs


def _load_array(path: Path) -> np.ndarray:
    try:
        # mapped: the header may claim more numbers than the file has, and memory would be allocated for all
        array = np.load(path, allow_pickle=False, mmap_mode="r")
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an archive of arrays")
        return array
    except FileNotFoundError:
        files = ", ".join(file for pair in CALS_FILES.values() for file in pair)
        raise MusictagError(
            f"there is no {path}; set the folder of the split CALS with data.cals=... Required are {files} "
            "(https://github.com/minzwon/semi-supervised-music-tagging-transformer, data/splits)"
        ) from None
    except Exception as error:  # the header is parsed as Python code, and damage can raise almost any exception
        raise MusictagError(f"{path} cannot be read as a NumPy array of text or numbers: {reason(error)}") from error


def _text(value: str | bytes | int) -> str:
    # other types are refused: the text of lists that contain each other may be endless
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str | int):
        raise MusictagError(f"song names in the published lists are text or numbers, not a {type(value).__name__}")
    return str(value)
