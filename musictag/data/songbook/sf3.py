"""SoundFont 3 (.sf3) to SoundFont 2.04 (.sf2), which is what the synthesiser reads.

Version 3 was never published as a standard: it is version 2 with samples that may be Ogg Vorbis streams, as MuseScore's
converter writes them. In the header (``shdr``) of such a sample the type has bit 0x10, start and end count bytes in
``smpl`` instead of sample points, and the loop counts points from the sample's start instead of that of ``smpl``.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
from pathlib import Path

import numpy as np
import soundfile

from musictag.errors import MusictagError
from musictag.files import atomic_write

#: Counts up with every change to the bytes that ``to_sf2`` yields: what another version left in a cache is not used.
VERSION = 1
COMPRESSED = 0x10
SAMPLE_HEADER = struct.Struct("<20s5IBbHH")  # name, start, end, loop start and end, rate, key, cents, link, type
_REST_POINTS = 46  # zeros that the standard wants after each sample
_SAMPLE_CHUNKS = ("smpl", "sm24")
_PRESET_CHUNKS = ("phdr", "pbag", "pmod", "pgen", "inst", "ibag", "imod", "igen", "shdr")
_LAST_PAGE = 4  # flag in the header of an Ogg page
_CHECKSUM_BYTES = 32


def riff_chunks(content: bytes) -> dict[str, tuple[int, int]]:
    """Name -> (offset, size) of the chunks in a RIFF file, those inside LIST chunks too; sizes end with the file."""
    return _chunks(content, 12, min(struct.unpack_from("<I", content, 4)[0] + 8, len(content)))


def is_compressed(content: bytes, chunks: dict[str, tuple[int, int]]) -> bool:
    """Whether a SoundFont calls itself version 3, or begins with a Vorbis stream whatever it calls itself."""
    version = struct.unpack_from("<H", content, chunks["ifil"][0])[0]
    return version == 3 or content.startswith(b"OggS", chunks["smpl"][0])


def cached_sf2(content: bytes, file: Path, cache_dir: Path | None = None) -> bytes:
    """What ``to_sf2`` makes of ``content``, kept in ``cache_dir`` under the checksum of ``content``.

    It takes seconds, and every process that renders needs it. Several that build it at once do the same work and leave
    the same file; one that was damaged since is built again.
    """
    if cache_dir is None:
        return to_sf2(content, file)
    name = f"{hashlib.sha256(content).hexdigest()[:16]}-v{VERSION}.sf2"
    cache = Path(cache_dir) / "soundfonts" / name
    if cache.is_file():
        data = cache.read_bytes()
        plain = data[:-_CHECKSUM_BYTES]
        if _checksum(plain) == data[-_CHECKSUM_BYTES:]:
            return plain
    plain = to_sf2(content, file)
    with atomic_write(cache) as writing:
        writing.write(plain)
        writing.write(_checksum(plain))  # behind the RIFF form, where readers of SoundFonts do not look
    return plain


def to_sf2(content: bytes, file: Path) -> bytes:
    """The same SoundFont as version 2.04, all samples as 16-bit points; ``file`` is its name in messages.

    Everything else is copied: presets, instruments, information. Samples that share a stream still share it.

    Raises MusictagError where chunks are missing, a sample lies outside the file or cannot be decoded whole.
    """
    chunks = riff_chunks(content)
    if missing := [name for name in ("ifil", "smpl", *_PRESET_CHUNKS) if name not in chunks]:
        raise MusictagError(f"{file} is a damaged SoundFont (no {', '.join(missing)} chunk). Fetch it again")
    if chunks["shdr"][1] % SAMPLE_HEADER.size or not chunks["shdr"][1]:
        raise MusictagError(f"{file} is a damaged SoundFont (its shdr chunk is no table of samples). Fetch it again")
    offset, size = chunks["shdr"]
    *headers, last = SAMPLE_HEADER.iter_unpack(content[offset : offset + size])
    offset, size = chunks["smpl"]
    samples = _Samples(memoryview(content)[offset : offset + size], file)
    table = b"".join([*(SAMPLE_HEADER.pack(*samples.moved(header)) for header in headers), SAMPLE_HEADER.pack(*last)])

    def copy(name: str) -> bytes:
        start, length = chunks[name]
        return _chunk(name, content[start : start + length])

    information = (name for name in chunks if name not in ("ifil", *_SAMPLE_CHUNKS, *_PRESET_CHUNKS))
    # sm24 would refine points that are elsewhere now, by less than Vorbis alters them
    body = b"".join(
        [
            b"sfbk",
            _list("INFO", _chunk("ifil", struct.pack("<HH", 2, 4)), *map(copy, information)),
            _list("sdta", _chunk("smpl", *samples.points)),
            _list("pdta", *map(copy, _PRESET_CHUNKS[:-1]), _chunk("shdr", table)),
        ]
    )
    return _chunk("RIFF", body)


class _Samples:
    """The new ``smpl`` as it grows: ``points`` are runs of int16, little-endian, each followed by its rest."""

    def __init__(self, smpl: memoryview, file: Path) -> None:
        self.points: list[bytes] = []
        self._smpl, self._file = smpl, file
        self._length = 0
        self._places: dict[tuple[int, int, int], tuple[int, int]] = {}

    def moved(self, header: tuple) -> tuple:
        """The header of the same sample in the new ``smpl``."""
        name, start, end, loop_start, loop_end, *tuning, kind = header
        compressed = kind & COMPRESSED
        key = (start, end, compressed)
        if key not in self._places:
            self._places[key] = self._add(*key, sample=name.split(b"\0")[0].decode("latin-1"))
        new_start, length = self._places[key]
        origin = 0 if compressed else start
        # a sample that is not looped may have any loop
        loop = [new_start + min(max(point - origin, 0), length) for point in (loop_start, loop_end)]
        return name, new_start, new_start + length, *loop, *tuning, kind & ~COMPRESSED

    def _add(self, start: int, end: int, compressed: int, sample: str) -> tuple[int, int]:
        """Where a sample now starts, and how many points it has."""
        unit = 1 if compressed else 2
        if not start <= end <= len(self._smpl) // unit:
            raise MusictagError(
                f"{self._file}: sample {sample!r} lies outside the file ({'bytes' if compressed else 'points'} {start} "
                f"to {end} of {len(self._smpl) // unit}): it is damaged. Fetch it again"
            )
        data = self._smpl[start * unit : end * unit]
        if not compressed and data[:4] == b"OggS":
            raise MusictagError(
                f"{self._file}: sample {sample!r} is compressed without being marked so, as MuseScore's .sf3 files do: "
                "name another General MIDI .sf2 or .sf3 file"
            )
        points = self._decoded(data, sample) if compressed else bytes(data)
        place = self._length, len(points) // 2
        self.points += [points, bytes(2 * _REST_POINTS)]
        self._length += place[1] + _REST_POINTS
        if 2 * self._length >= 2**31:
            raise MusictagError(f"{self._file} needs over 2 GB without compression: name a smaller SoundFont")
        return place

    def _decoded(self, stream: memoryview, sample: str) -> bytes:
        try:
            # as float: read as int16, what is beyond full scale comes out with the wrong sign
            audio, _ = soundfile.read(io.BytesIO(stream), dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, ValueError) as error:
            raise MusictagError(
                f"{self._file}: sample {sample!r} cannot be decoded as Ogg Vorbis ({error}): the file is damaged, or "
                "compressed by other means than MuseScore's .sf3 files"
            ) from error
        if audio.shape[1] != 1 or not len(audio):
            raise MusictagError(
                f"{self._file}: sample {sample!r} has {audio.shape[1]} channels of {len(audio)} points: "
                "a SoundFont's have one, and are not empty. Name another file"
            )
        if len(audio) < _promised_points(stream):
            raise MusictagError(
                f"{self._file}: sample {sample!r} is damaged (its stream breaks off after {len(audio)} points). "
                "Fetch the file again"
            )
        return np.rint(np.clip(audio[:, 0] * 32767, -32768, 32767)).astype("<i2").tobytes()


def _chunks(content: bytes, start: int, stop: int) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    position = start
    while position + 8 <= stop:
        name, size = struct.unpack_from("<4sI", content, position)
        if name == b"LIST":
            found |= _chunks(content, position + 12, min(position + 8 + size, stop))
        else:
            found[name.decode("latin-1")] = (position + 8, min(size, stop - position - 8))
        position += 8 + size
        # RIFF fills odd chunks up with a zero, which MuseScore's converter leaves out
        if size % 2 and content[position : position + 1] == b"\0":
            position += 1
    return found


def _promised_points(stream: memoryview) -> float:
    """How many points an Ogg stream has by the page that ends it; infinite without one.

    The decoder skips damaged pages and stops where a stream is cut off, in silence.
    """
    position = 0
    while position + 27 <= len(stream) and stream[position : position + 4] == b"OggS":
        flags, last_point, segments = stream[position + 5], *struct.unpack_from("<q12xB", stream, position + 6)
        if flags & _LAST_PAGE:
            return last_point
        position += 27 + segments + sum(stream[position + 27 : position + 27 + segments])
    return math.inf


def _chunk(name: str, *parts: bytes) -> bytes:
    """A chunk of even size: an odd one is filled up with a zero that counts, as the standard asks of SoundFonts."""
    size = sum(map(len, parts))
    return b"".join([name.encode("latin-1"), struct.pack("<I", size + size % 2), *parts, bytes(size % 2)])


def _list(name: str, *chunks: bytes) -> bytes:
    return _chunk("LIST", name.encode(), *chunks)


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECKSUM_BYTES).digest()
