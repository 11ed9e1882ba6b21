"""The result of the score readers: notes in quarter-note time, and what the file says about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Score:
    """One piece of written music.

    ``parts`` holds one float32 array of shape (notes, 3) per part, top part first. Its columns: onset and duration in
    quarter notes from the beginning of the file (including the pickup), and MIDI pitch. Sorted by onset, then pitch;
    notes of one part may overlap. Tied notes are one note; grace notes are left out. What a file does not specify is
    ``None``, never a guess.
    """

    piece_id: str  # file inside the corpus, and number in the file: "essenFolksong/altdeu10.abc#17"
    collection: str  # essen, oneill, aird, ryan, palestrina, bach, monteverdi, trecento, ...
    parts: tuple[np.ndarray, ...] = field(repr=False)
    title: str | None = None
    rhythm: str | None = None  # ABC's R: field, lower case: "reel", "jig", ...
    origin: str | None = None  # ABC's O: field, or Essen's region: "Europa, Mitteleuropa, Deutschland"
    work: str | None = None  # the larger work that the piece is a movement of; pieces of one work stay in one split
    meter: tuple[int, int] | None = None  # None also if it changes within the piece
    pickup_quarters: float = 0.0  # length of the incomplete first bar; 0 if the piece starts on a downbeat
    tempo: float | None = None  # quarter notes per minute, if the file specifies it

    @property
    def quarters(self) -> float:
        """Length of the piece in quarter notes."""
        return max((float((part[:, 0] + part[:, 1]).max()) for part in self.parts if len(part)), default=0.0)


_COLLECTION_OF_FOLDER = {
    "essenFolksong": "essen",
    "oneills1850": "oneill",
    "airdsAirs": "aird",
    "ryansMammoth": "ryan",
    "nottingham-dataset": "nottingham",
    "miscFolk": "fife-northumbrian",
}


def collection_of(file: str) -> str:
    """The collection of a corpus file, after its folder: "essenFolksong/han1.abc" belongs to "essen"."""
    folder = file.split("/", 1)[0]
    return _COLLECTION_OF_FOLDER.get(folder, folder)


def note_array(notes: Sequence[Sequence[float]], transpose: int = 0) -> np.ndarray:
    """Rows of onset, duration, pitch as a part of a Score: float32 (notes, 3), sorted by onset, then pitch."""
    array = np.array(notes, dtype=np.float64).reshape(-1, 3)
    array[:, 2] += transpose
    return array[np.lexsort((array[:, 2], array[:, 0].round(6)))].astype(np.float32)


def pickup_length(first_bar: float | None, meter: tuple[int, int] | None) -> float:
    """Length in quarter notes of an incomplete first bar that ends at ``first_bar``; 0 if it is complete.

    If bar lines were left out (Essen omits them at line ends), what exceeds whole bars is the pickup.
    """
    if first_bar is None or meter is None:
        return 0.0
    bar = 4.0 * meter[0] / meter[1]
    pickup = first_bar % bar
    return 0.0 if min(pickup, bar - pickup) < 1e-6 else round(pickup, 6)
