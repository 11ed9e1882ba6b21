"""Reading audio: turns any file or array into mono int16 at one rate, or says why it cannot be used.

musictag/data/audio/decoding chooses the decoder and reports what is missing from a damaged file. Legend: N samples.
"""

from __future__ import annotations

import math
import numbers
import os
import shutil
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soxr

from musictag.common.errors import MusictagError, PassingSongError, SongError, SongWarning
from musictag.data.audio.decoding import decoder
from musictag.data.audio.decoding.gathering import Block
from musictag.data.audio.decoding.lost_audio import MAX_HOURS, Loss, Undecodable
from musictag.data.audio.decoding.program import program_blocks

#: Shorter audio is not a song, neither in a data set nor for tagging.
MIN_SECONDS = 0.1
#: Read this far beyond ``max_seconds``, so that the resampling filter sees the same context as in the whole song.
_MARGIN_SECONDS = 0.1
#: A damaged header may declare any rate, and converting it could take any amount of memory.
RATES = (1_000, 1_000_000)
#: Most channels in an array or a file: a larger dimension means samples.
MAX_CHANNELS = 64
#: Floats this far above full scale were never scaled.
_HIGHEST_PEAK = 64.0
#: If the channels' mean keeps less than this share of their energy (-50 dB), the channels cancel each other.
_CANCELLED_ENERGY = 1e-5


#: A path, samples with their rate in Hz, or a file that is open for reading bytes.
AudioSource = str | os.PathLike | tuple[np.ndarray, int] | BinaryIO


class _TooShort(SongError):
    """For a file, a reason like any other; for an array, the caller's mistake."""


class Reading(NamedTuple):
    """A usable song: mono int16 (N), and a ``note`` of what in its file could not be used (empty: nothing)."""

    samples: np.ndarray
    note: str


def read_song(path: str | Path, sample_rate: int = 16000, max_seconds: float | None = None) -> np.ndarray:
    """Read an audio file as mono int16 (N) at ``sample_rate``; like ``read``, but issues its note as SongWarning."""
    samples, note = read(path, sample_rate, max_seconds)
    if note:
        warnings.warn(f"{path}: {note}", SongWarning, stacklevel=2)
    return samples


def read(path: str | Path, sample_rate: int = 16000, max_seconds: float | None = None) -> Reading:
    """Read an audio file as mono int16 at ``sample_rate``; its bytes, not its name, decide which format it has.

    Channels are averaged, the rate is converted with soxr (HQ), and values beyond full scale are clipped; a mono 16-bit
    file that already has the rate is returned sample for sample. ``max_seconds`` reads only the beginning, and does not
    check the rest.

    Raises SongError if the file is missing, unreadable, empty, silent, shorter than ``MIN_SECONDS``, holds NaN or
    infinite samples, declares an impossible rate, is longer than 12 hours (``max_seconds`` takes the beginning of it),
    ends before the length that its header declares, or is damaged (see docs/data.md).
    """
    parts: list[np.ndarray] = []
    note = read_blocks(path, sample_rate, parts.append, parts.clear, max_seconds)
    samples = np.concatenate(parts)
    return Reading(samples if max_seconds is None else samples[: round(max_seconds * sample_rate)], note)


def read_blocks(
    path: str | Path,
    sample_rate: int,
    take: Callable[[np.ndarray], object],
    restart: Callable[[], object],
    max_seconds: float | None = None,
) -> str:
    """Like ``read``, for songs of any length in little memory: ``take`` gets the samples block by block (mono int16),
    and the note is returned.

    Whether the song can be used is known at its end. ``restart`` is called before another decoder begins again.
    """
    path = Path(path)
    _check_file(path)
    loss = Loss()
    try:
        try:
            with open(path, "rb") as file:
                _convert(decoder.decode(file, loss), sample_rate, max_seconds, take)
        except Undecodable as error:
            reason = f"cannot be read as audio: {error}"
            if (program := shutil.which("ffmpeg")) is None:
                raise SongError(reason) from error
            restart()
            try:
                _convert(program_blocks(program, path, loss := Loss()), sample_rate, max_seconds, take)
            except Undecodable as second:
                raise SongError(f"{reason}; {second}") from second
        return loss.note()
    except OSError as error:
        raise PassingSongError(f"cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise PassingSongError("needs more memory than there is") from error


def source_blocks(
    source: AudioSource, sample_rate: int, take: Callable[[np.ndarray], object], restart: Callable[[], object]
) -> str:
    """Read ``source`` as mono int16 samples at ``sample_rate``, block by block (see ``read_blocks``); returns what
    could not be used of a file.

    Raises SongError for a file that cannot be read, MusictagError for unusable samples, and either for less than 0.1 s.
    """
    if isinstance(source, str | os.PathLike):
        return read_blocks(source, sample_rate, take, restart)
    if isinstance(source, tuple) and len(source) == 2:
        take(from_array(source[0], source[1], sample_rate))
        return ""
    if hasattr(source, "read"):
        # decoders need a file on disk, to go back and forth in, and to try one after the other
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "song")
            with open(path, "wb") as copy:
                try:
                    shutil.copyfileobj(source, copy)
                except TypeError as error:
                    raise MusictagError("a file to be tagged must be open for bytes: open(path, 'rb')") from error
            return read_blocks(path, sample_rate, take, restart)
    raise MusictagError(
        f"cannot tag a {type(source).__name__}: give a path, a tuple (samples, rate in Hz), or a file that is open for "
        "reading bytes"
    )


def declared_seconds(path: str | Path) -> float:
    """The length that a file declares; NaN if it cannot be read as audio or the length is implausible."""
    try:
        _check_file(Path(path))
        with open(path, "rb") as file:
            return float(believable_seconds(np.array(decoder.declared_seconds(file))))
    except (SongError, OSError, MemoryError):
        return float("nan")


def believable_seconds(seconds: np.ndarray) -> np.ndarray:
    """Replace lengths that no song can have by NaN."""
    return np.where((seconds > 0) & (seconds <= MAX_HOURS * 3600), seconds, np.nan)


def from_array(array: np.ndarray, rate: float, sample_rate: int = 16000) -> np.ndarray:
    """Convert samples in memory to mono int16 (N) at ``sample_rate``, exactly as ``read_song`` does for a file.

    ``array`` is mono, (N,), or has its channels last or first, (N, channels) or (channels, N): of two dimensions, the
    shorter one is taken as channels, of which there are at most ``MAX_CHANNELS``. Floats lie in [-1, 1]; int16 and
    int32 are divided by their full scale. ``rate`` is in Hz.

    Raises MusictagError for another shape or type, for less than ``MIN_SECONDS``, and for a rate that is not a number
    from 1,000 to 1,000,000; SongError if the samples are empty, silent or not finite.
    """
    if isinstance(rate, bool) or not isinstance(rate, numbers.Real) or not RATES[0] <= rate <= RATES[1]:
        raise MusictagError(
            f"sample rate {rate!r}: give the number of samples per second, from {RATES[0]:,} to {RATES[1]:,}, for "
            "example 44100"
        )
    try:
        array = np.asarray(array)
    except ValueError as error:
        raise MusictagError(
            f"audio that is not an array ({error}): give (N,), (N, channels) or (channels, N)"
        ) from error
    if array.ndim not in (1, 2):
        raise MusictagError(f"audio of shape {array.shape}: give (N,), (N, channels) or (channels, N)")
    if array.dtype in (np.int16, np.int32):
        array = array / -float(np.iinfo(array.dtype).min)
    elif array.dtype.kind != "f":
        raise MusictagError(f"audio of type {array.dtype}: give floats in [-1, 1], int16 or int32")
    if array.ndim == 1:
        array = array[:, None]
    elif array.shape[0] < array.shape[1]:
        array = array.T
    if array.shape[1] > MAX_CHANNELS:
        raise MusictagError(
            f"audio of shape {array.shape}: neither dimension can be channels, of which at most {MAX_CHANNELS} are "
            "allowed; give (N,), (N, channels) or (channels, N)"
        )
    block = array.astype(np.float32)
    parts: list[np.ndarray] = []
    try:
        _convert(iter([(block, float(rate))] if block.size else []), sample_rate, None, parts.append)
    except _TooShort as error:
        raise MusictagError(str(error)) from error
    return np.concatenate(parts)


def resample(audio: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Mono float ``audio`` (N) at another rate, with soxr's HQ filter; returned as it is if the rates are equal."""
    return audio if from_rate == to_rate else soxr.resample(audio, from_rate, to_rate, quality="HQ")


def to_int16(audio: np.ndarray) -> np.ndarray:
    """Floats in [-1, 1] to int16, rounded and clipped to full scale. The inverse of ``to_float``."""
    scaled = audio * 32768.0
    np.rint(scaled, out=scaled)
    return np.clip(scaled, -32768, 32767, out=scaled).astype(np.int16)


def to_float(audio: np.ndarray) -> np.ndarray:
    """int16 samples to float32 in [-1, 1)."""
    return audio.astype(np.float32) / np.float32(32768)


def _check_file(path: Path) -> None:
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)
        if is_file:
            open(path, "rb").close()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: not a possible file name
        raise PassingSongError("file not found") from error
    except OSError as error:
        raise PassingSongError(f"cannot be opened ({error.strerror})") from error
    if not is_file:
        raise SongError("not a file")


def _convert(
    blocks: Iterator[Block], sample_rate: int, max_seconds: float | None, take: Callable[[np.ndarray], object]
) -> None:
    """Convert the blocks of one song, of which ``max_seconds`` are wanted, for ``take``."""
    conversion = _Conversion(sample_rate, take)
    seconds, wanted = 0.0, math.inf if max_seconds is None else max_seconds + _MARGIN_SECONDS
    for block, rate in blocks:
        if not RATES[0] <= rate <= RATES[1]:
            raise SongError(f"declares {rate:,} samples per second: damaged, or not music")
        if block.shape[1] > MAX_CHANNELS:
            raise SongError(f"declares {block.shape[1]:,} channels: damaged, or not music")
        block = block[: math.ceil(min(wanted - seconds, 1e9) * rate)]
        seconds += len(block) / rate
        if seconds > MAX_HOURS * 3600:
            raise SongError(f"longer than {MAX_HOURS} hours; data.max_seconds=... takes the beginning of each song")
        conversion.add(block, rate)
        if seconds >= wanted:
            break
    num_samples = conversion.finish()
    if num_samples < MIN_SECONDS * sample_rate:
        raise _TooShort(f"{num_samples / sample_rate:.3f} s of audio is too short; {MIN_SECONDS} s are needed")


class _Conversion:
    """Blocks of float32 (N, channels) to mono int16 (N) at another rate; how they are divided makes no difference.

    A block at a new rate starts a new conversion. All methods raise SongError for unusable audio.
    """

    def __init__(self, sample_rate: int, take: Callable[[np.ndarray], object]) -> None:
        self._sample_rate, self._take = sample_rate, take
        self._rate: float | None = None
        self._stream: soxr.ResampleStream | None = None
        self._num_samples = self._peak = 0
        self._channels_energy = self._mean_energy = 0.0

    def add(self, block: np.ndarray, rate: float) -> None:
        if not len(block):
            return
        if rate != self._rate:
            self._end_rate()
            self._rate = rate
            same = rate == self._sample_rate
            self._stream = None if same else soxr.ResampleStream(rate, self._sample_rate, 1, quality="HQ")
        peak = max(float(block.max()), -float(block.min()))
        if not np.isfinite(peak):
            raise SongError("holds samples that are not finite (NaN or infinity)")
        if peak > _HIGHEST_PEAK:
            raise SongError(f"samples reach {peak:.4g}, but full scale is 1: were they never scaled?")
        mono = _mean_of_channels(block)
        if block.shape[1] > 1:
            self._channels_energy += _energy(block.ravel(order="K"))
            self._mean_energy += block.shape[1] * _energy(mono)
        self._append(mono)

    def finish(self) -> int:
        """Return the number of samples; nothing can be added afterwards."""
        if self._rate is None:
            raise SongError("empty: no samples")
        self._end_rate()
        if not self._num_samples:
            raise SongError("empty: too short for one sample")
        # dithered silence moves by one step around zero
        silent = self._peak <= 1
        audible = math.sqrt(self._channels_energy / self._num_samples) * 32768 > 1
        if audible and self._mean_energy < _CANCELLED_ENERGY * self._channels_energy:
            raise SongError("its channels cancel each other: their mean is silent, though they are not")
        if silent:
            raise SongError("silent")
        return self._num_samples

    def _end_rate(self) -> None:
        if self._stream is not None:
            self._append(np.empty(0, dtype=np.float32), last=True)

    def _append(self, mono: np.ndarray, last: bool = False) -> None:
        samples = to_int16(mono if self._stream is None else self._stream.resample_chunk(mono, last))
        if len(samples):
            self._num_samples += len(samples)
            self._peak = max(self._peak, -int(samples.min()), int(samples.max()))
            self._take(samples)


def _energy(samples: np.ndarray) -> float:
    return float(np.dot(samples, samples))


def _mean_of_channels(block: np.ndarray) -> np.ndarray:
    """Mean of (N, channels) over the channels; many times faster than NumPy's mean over so short an axis."""
    if block.shape[1] == 1:
        return block[:, 0]
    total = block[:, 0] + block[:, 1]
    for channel in range(2, block.shape[1]):
        total += block[:, channel]
    total /= np.float32(block.shape[1])
    return total
