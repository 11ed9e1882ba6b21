"""Reading audio: any file or array becomes mono int16 at one rate, or a reason why it cannot be used.

Legend: N samples.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from musictag.errors import MusictagError, SongError
from musictag.mp3 import chained_samples, has_length_header

#: A file may end this much before what its header declares: encoders round, and nothing audible is missing.
TOLERATED_LOSS_SECONDS = 0.1
#: Read beyond ``max_seconds``, so that the resampling filter sees what follows, as it does for the whole song.
_MARGIN_SECONDS = 0.1
#: Samples of all channels that are decoded at a time (4 MiB): a song of hours needs little more memory than its result.
_BLOCK_VALUES = 2**20
#: A damaged header may ask for any rate, and for as much memory when it is converted.
_RATES = (1_000, 1_000_000)
#: Minutes of one value take a few bytes: a small file may hold years. What is read is kept in memory, 115 MB an hour.
MAX_HOURS = 12
#: Floats this far above full scale were never divided by it.
_HIGHEST_PEAK = 64.0
#: libsndfile's word for a length that it does not know.
_ENDLESS_FRAMES = 2**62
#: Writers that cannot seek back leave a size like this in a WAV's header: it declares nothing.
_UNDECLARED_BYTES = 0x7FFFF000
# libsndfile shortens a cut file to what is there and tells only its log: "data : 320000 (should be 159978)"
_CUT_SHORT = re.compile(r"^\s*(?:data|SSND|Data Size|Riff size|riff)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)


def read_song(path: str | Path, sample_rate: int = 16000, max_seconds: float | None = None) -> np.ndarray:
    """One file (WAV, FLAC, Ogg, MP3, AIFF, ...) as mono int16 samples (N) at ``sample_rate``.

    Channels are averaged, the rate is converted with soxr (HQ), and values beyond full scale are clipped; a mono 16-bit
    file that already has the rate comes back sample for sample. ``max_seconds`` reads the beginning only.

    Raises SongError where the file is missing, unreadable, empty, silent, holds samples that are not finite, declares a
    rate that no music has, is longer than ``MAX_HOURS`` (of which ``max_seconds`` takes the beginning), ends before the
    length that its header declares (WAV, AIFF, FLAC, and MP3 with a Xing or Info header; Ogg and bare MP3 declare
    none), or is a bare MP3 of variable bit rate, of which the decoder would leave out the end.
    """
    path = Path(path)
    _check_file(path)
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            rate = file.samplerate
            if not _RATES[0] <= rate <= _RATES[1]:
                raise SongError(f"declares {rate:,} samples a second: damaged, or no music")
            is_bare_mp3 = file.format == "MP3" and not has_length_header(path)
            wanted = float("inf") if max_seconds is None else int((max_seconds + _MARGIN_SECONDS) * rate)
            conversion, frames = _Conversion(rate, sample_rate), 0
            most = MAX_HOURS * 3600 * rate
            # the length is what a header says, or a guess; what is there is counted
            if most < min(wanted, file.frames) < _ENDLESS_FRAMES:
                raise _too_long()
            for block in _blocks(file, min(wanted, file.frames)):
                frames += len(block)
                if frames > most:
                    raise _too_long()
                conversion.add(block)
            certain = chained_samples(path) if is_bare_mp3 else _declared_frames(file)
            missing = min(wanted, certain) - frames
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        raise SongError(f"cannot be read as audio: damaged, cut short, or no audio file ({_reason(error)})") from error
    except MemoryError as error:
        raise SongError("takes more memory than there is") from error
    if missing > TOLERATED_LOSS_SECONDS * rate:
        why = "MP3 of variable bit rate without a Xing header (ffmpeg -c copy adds one)" if is_bare_mp3 else "cut short"
        raise SongError(f"{why}: {missing / rate:.1f} s are missing")
    samples = conversion.finish()
    return samples if max_seconds is None else samples[: round(max_seconds * sample_rate)]


def declared_seconds(path: str | Path) -> float:
    """How long a file claims to be, by its header alone; NaN where it cannot be read as audio."""
    try:
        return soundfile.info(path).duration
    except (soundfile.SoundFileError, OSError, TypeError, ZeroDivisionError):
        return float("nan")


def from_array(array: np.ndarray, rate: int, sample_rate: int = 16000) -> np.ndarray:
    """Samples in memory as mono int16 (N) at ``sample_rate``, treated exactly as ``read_song`` treats a file's.

    ``array`` has shape (N,), (N, channels) or (channels, N): of two dimensions, the shorter one is taken for the
    channels. Floats lie in [-1, 1]; int16 and int32 are divided by their full scale.

    Raises MusictagError for another shape, type or rate, SongError where the samples are empty, silent or not finite.
    """
    array = np.asarray(array)
    if array.ndim not in (1, 2):
        raise MusictagError(f"audio of shape {array.shape}: give (N,), (N, channels) or (channels, N)")
    if rate <= 0:
        raise MusictagError(f"sample rate {rate}: give the number of samples a second, for example 44100")
    if array.dtype in (np.int16, np.int32):
        array = array / -float(np.iinfo(array.dtype).min)
    elif array.dtype.kind != "f":
        raise MusictagError(f"audio of type {array.dtype}: give floats in [-1, 1], int16 or int32")
    if array.ndim == 1:
        array = array[:, None]
    elif array.shape[0] < array.shape[1]:
        array = array.T
    conversion = _Conversion(rate, sample_rate)
    if array.size:
        conversion.add(array.astype(np.float32))
    return conversion.finish()


def resample(audio: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Mono float ``audio`` (N) at another rate, by soxr's HQ filter; the very same array where the rates are equal."""
    return audio if from_rate == to_rate else soxr.resample(audio, from_rate, to_rate, quality="HQ")


def to_int16(audio: np.ndarray) -> np.ndarray:
    """Floats in [-1, 1] to int16, rounded, and clipped where they exceed full scale. The inverse of ``to_float``."""
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
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: no file can have such a name
        raise SongError("file not found") from error
    except OSError as error:
        raise SongError(f"cannot be opened ({error.strerror})") from error
    if not is_file:
        raise SongError("not a file")


def _blocks(file: soundfile.SoundFile, frames: int) -> Iterator[np.ndarray]:
    """The first ``frames`` of a file, or what there is of them, as float32 (N, channels); a block may be overwritten
    when the next is asked for."""
    buffer = np.empty((min(frames, max(1, _BLOCK_VALUES // file.channels)), file.channels), dtype=np.float32)
    while frames and len(block := file.read(out=buffer[:frames])):
        yield block
        frames -= len(block)


class _Conversion:
    """Blocks of float32 (N, channels) to mono int16 (N) at another rate: the same samples however they are divided.

    Both methods raise SongError for what cannot be used.
    """

    def __init__(self, rate: int, sample_rate: int) -> None:
        self._stream = None if rate == sample_rate else soxr.ResampleStream(rate, sample_rate, 1, quality="HQ")
        self._parts: list[np.ndarray] = []

    def add(self, block: np.ndarray) -> None:
        peak = max(float(block.max()), -float(block.min()))
        if not np.isfinite(peak):
            raise SongError("holds samples that are not finite (NaN or infinity)")
        if peak > _HIGHEST_PEAK:
            raise SongError(f"samples reach {peak:.4g}, but full scale is 1: were they never divided by it?")
        self._append(_mean_of_channels(block))

    def finish(self) -> np.ndarray:
        """All samples; nothing can be added afterwards."""
        if not self._parts:
            raise SongError("empty: not one sample")
        if self._stream is not None:
            self._append(np.empty(0, dtype=np.float32), last=True)
        samples = np.concatenate(self._parts)
        if not len(samples):
            raise SongError("empty: too short for one sample")
        # one step around zero is what dither makes of silence
        if max(-int(samples.min()), int(samples.max())) <= 1:
            raise SongError("silent")
        return samples

    def _append(self, mono: np.ndarray, last: bool = False) -> None:
        self._parts.append(to_int16(mono if self._stream is None else self._stream.resample_chunk(mono, last)))


def _mean_of_channels(block: np.ndarray) -> np.ndarray:
    """Mean of (N, channels) over the channels; many times faster than NumPy's over so short an axis."""
    if block.shape[1] == 1:
        return block[:, 0]
    total = block[:, 0] + block[:, 1]
    for channel in range(2, block.shape[1]):
        total += block[:, channel]
    total /= np.float32(block.shape[1])
    return total


def _declared_frames(file: soundfile.SoundFile) -> int:
    """Length that the container declares; 0 where it declares none."""
    cut = _CUT_SHORT.search(file.extra_info)
    if cut is None:
        return file.frames
    declared_bytes, present_bytes = int(cut[1]), int(cut[2])
    if declared_bytes >= _UNDECLARED_BYTES or not present_bytes:
        return 0
    return round(file.frames * declared_bytes / present_bytes)


def _too_long() -> SongError:
    return SongError(f"longer than {MAX_HOURS} hours; data.max_seconds=... takes the beginning of each song")


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", "") or str(error)
    return text.strip(" .") or "no further reason given"
