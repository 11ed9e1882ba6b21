"""What the score readers hand to the arranger: notes in quarter-note time, and what the file says about them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Score:
    """One piece of written music.

    ``parts`` holds one float32 array of shape (notes, 3) a voice, its columns onset and duration in quarter notes from
    the first bar line (the pickup included, so that onset 0 is the first note's place in the file) and MIDI pitch,
    sorted by onset. Tied notes are one note; grace notes are left out. What a file does not say is ``None``, never a guess.
    """

    piece_id: str  # file inside the corpus, and the number in it: "essenFolksong/altdeu10.abc#17"
    collection: str  # essen, oneill, aird, ryan, palestrina, bach, monteverdi, trecento, ...
    parts: tuple[np.ndarray, ...] = field(repr=False)
    title: str | None = None
    composer: str | None = None
    rhythm: str | None = None  # ABC's R: field, lower case: "reel", "jig", ...
    origin: str | None = None  # ABC's O: field, or Essen's region: "Europa, Mitteleuropa, Deutschland"
    work: str | None = None  # the larger work that the piece is a movement of; pieces of one work stay in one split
    meter: tuple[int, int] | None = None  # None also where it changes within the piece
    pickup_quarters: float = 0.0  # length of the incomplete first bar; 0 where the piece starts on a downbeat
    tempo: float | None = None  # quarter notes a minute, where the file gives one

    @property
    def quarters(self) -> float:
        """Length of the piece in quarter notes."""
        return max((float((part[:, 0] + part[:, 1]).max()) for part in self.parts if len(part)), default=0.0)
