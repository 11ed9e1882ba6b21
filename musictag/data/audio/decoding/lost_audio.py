"""Records what of a file could not be used: a song is read whole, used with a note of what is missing, or refused."""

from __future__ import annotations

from dataclasses import dataclass, field

from musictag.common.errors import SongError

#: This much of a song may be missing without a note: encoders round, and it is inaudible.
TOLERATED_SECONDS = 0.1
#: Rubbish up to this size is not noted: padding, a broken tag.
TOLERATED_BYTES = 1024
#: Longer songs are not read, and longer declared lengths not believed. An hour takes 115 MB of memory.
MAX_HOURS = 12
#: A song is refused if more than this share of it cannot be decoded.
LARGEST_LOST_SHARE = 0.1


class Undecodable(SongError):
    """Our decoders cannot read it; another program might."""


@dataclass
class Loss:
    """``seconds`` of undecodable audio, ``bytes`` that are neither audio nor a tag, and other
    ``remarks`` about what was left out."""

    seconds: float = 0.0
    bytes: int = 0
    remarks: list[str] = field(default_factory=list)

    def add(self, other: Loss) -> None:
        self.seconds += other.seconds
        self.bytes += other.bytes
        self.remarks += other.remarks

    def check(self, read_seconds: float) -> None:
        """Raises Undecodable if too much of a song is lost, given how much of it was read."""
        if self.seconds > max(TOLERATED_SECONDS, LARGEST_LOST_SHARE * (self.seconds + read_seconds)):
            whole = self.seconds + read_seconds
            raise Undecodable(f"damaged: {self.seconds:.1f} of {whole:.1f} s cannot be decoded")

    def note(self) -> str:
        """The note for a song that is used; empty if nothing is missing."""
        notes = list(dict.fromkeys(self.remarks))
        if self.bytes > TOLERATED_BYTES:
            notes.insert(0, f"{self.bytes:,} bytes that are not audio were skipped")
        if self.seconds > TOLERATED_SECONDS:
            notes.insert(0, f"{self.seconds:.1f} s are damaged and left out")
        return "; ".join(notes)
