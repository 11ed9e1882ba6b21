"""Recording effects for a clip: room, band limit, noise and level, in the frequency domain at the store's rate.

Legend: N samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft

from musictag.data.audio.decode import to_int16
from musictag.data.songbook.rendering.chain import coded, compressed, equaliser_gain

#: What counts as present and as absent; in between the tag is unknown. See tags.py.
REVERBERANT_SECONDS, DRY_SECONDS = 1.4, 0.3
REVERBERANT_DB, DRY_DB = -4.0, -18.0
BAND_LIMIT_HZ = 2800.0
NOISY_DB, CLEAN_DB = 14.0, 28.0

_LOWEST_HZ = 20.0
_ROLL_OFF_OCTAVES = 0.25
_LONGEST_ROOM_SECONDS = 2.25  # the longest reverberation without the last 10 of its 60 dB


@dataclass(frozen=True)
class Recording:
    """How a clip is recorded.

    ``reverberation_seconds`` is the time to -60 dB, ``reverberation_db`` the room's level relative to the direct sound;
    ``cutoff_hz`` is None for the full band; ``noise_tilt`` 0 is white, 1 pink; ``peak_db`` is relative to full scale.
    ``equaliser_db`` are gains of ``EQUALISER_BANDS`` (none: flat), ``codec`` is a row of ``CODECS`` (None: not coded).
    """

    reverberation_seconds: float
    reverberation_db: float
    cutoff_hz: float | None
    signal_to_noise_db: float
    noise_tilt: float
    peak_db: float
    seed: int
    equaliser_db: tuple[float, ...] = ()
    compression_db: float = 0.0
    codec: int | None = None

    def tags(self) -> dict[str, float | None]:
        """Values of reverberant, band-limited and noisy."""
        wet = self.reverberation_seconds >= REVERBERANT_SECONDS and self.reverberation_db >= REVERBERANT_DB
        dry = self.reverberation_seconds <= DRY_SECONDS and self.reverberation_db <= DRY_DB
        limited = self.cutoff_hz is not None and self.cutoff_hz <= BAND_LIMIT_HZ
        return {
            "reverberant": _verdict(wet, dry),
            "band-limited": _verdict(limited, self.cutoff_hz is None),
            "noisy": _verdict(self.signal_to_noise_db <= NOISY_DB, self.signal_to_noise_db >= CLEAN_DB),
        }


def _verdict(present: bool, absent: bool) -> float | None:
    return 1.0 if present else 0.0 if absent else None


def draw_recording(rng: np.random.Generator) -> Recording:
    """A random recording: each of the three tags is present in 15 to 22% of the clips, unknown in about 13%."""
    kind = rng.random()
    if kind < 0.22:
        seconds, wet_db = rng.uniform(REVERBERANT_SECONDS, 2.6), rng.uniform(REVERBERANT_DB, 1.0)
    elif kind < 0.36:
        seconds, wet_db = rng.uniform(0.4, 1.2), rng.uniform(-14.0, -6.0)
    else:
        seconds, wet_db = rng.uniform(0.1, DRY_SECONDS), rng.uniform(-24.0, DRY_DB)
    kind = rng.random()
    cutoff = rng.uniform(1500.0, BAND_LIMIT_HZ) if kind < 0.15 else rng.uniform(3200.0, 6000.0) if kind < 0.27 else None
    kind = rng.random()
    noise_range = (
        (10.0, NOISY_DB) if kind < 0.17 else (NOISY_DB + 2.0, CLEAN_DB - 2.0) if kind < 0.3 else (CLEAN_DB, 60.0)
    )
    return Recording(
        reverberation_seconds=seconds,
        reverberation_db=wet_db,
        cutoff_hz=cutoff,
        signal_to_noise_db=rng.uniform(*noise_range),
        noise_tilt=rng.uniform(0.0, 1.0),
        peak_db=rng.uniform(-6.0, -1.0),
        seed=int(rng.integers(2**63)),
    )


def record(audio: np.ndarray, recording: Recording, sample_rate: int) -> np.ndarray:
    """Mono float ``audio`` (N) as recorded: int16 (N), peak at ``peak_db``, noise at exactly the signal-to-noise ratio.

    Signal and noise pass the same band limit; their powers are those of the N samples after it. Room and equaliser
    come first, then compressor, noise, level and codec, which may exceed the peak.
    """
    rng = np.random.Generator(np.random.PCG64(recording.seed))
    length = len(audio)
    room = _room(recording, sample_rate, rng)
    size = scipy.fft.next_fast_len(length + len(room), real=True)
    spectrum = scipy.fft.rfft(audio.astype(np.float32), size)
    spectrum *= 1 + scipy.fft.rfft(room, size)
    spectrum *= high_pass(size, sample_rate)
    if any(recording.equaliser_db):
        spectrum *= equaliser_gain(recording.equaliser_db, size, sample_rate)
    noise = _noise_spectrum(size, recording.noise_tilt, sample_rate, rng)
    if recording.cutoff_hz is not None:
        # from the cut-off to zero within a quarter of an octave
        ratio = np.arange(1, len(spectrum), dtype=np.float32) * np.float32(sample_rate / size / recording.cutoff_hz)
        gain = np.cos(np.clip(np.log2(ratio) / np.float32(_ROLL_OFF_OCTAVES), 0, 1) * np.float32(np.pi / 2))
        spectrum[1:] *= gain
        noise[1:] *= gain
    signal = scipy.fft.irfft(spectrum, size)[:length]
    if recording.compression_db:
        signal = compressed(signal, recording.compression_db, sample_rate)
    noise = scipy.fft.irfft(noise, size)[:length]
    noise_gain = np.sqrt(_power(signal) / _power(noise)) * 10 ** (-recording.signal_to_noise_db / 20)
    mixed = signal + np.float32(noise_gain) * noise
    song = to_int16(mixed * np.float32(10 ** (recording.peak_db / 20) / np.abs(mixed).max()))
    return song if recording.codec is None else coded(song, recording.codec, sample_rate)


@lru_cache(maxsize=8)
def high_pass(size: int, sample_rate: int) -> np.ndarray:
    """Gain (size // 2 + 1) of a filter at 20 Hz: some samples in SoundFonts have an offset, inaudible energy."""
    squares = np.square(np.arange(size // 2 + 1, dtype=np.float32) * np.float32(sample_rate / size / _LOWEST_HZ))
    return squares / (squares + 1)


def _power(audio: np.ndarray) -> float:
    return float(np.mean(np.square(audio), dtype=np.float64))


def _noise_spectrum(size: int, tilt: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Spectrum (size // 2 + 1) of noise of any level, white above 50 Hz for a ``tilt`` of 0, pink for 1."""
    bins = size // 2 + 1
    # the sum of many uniform numbers is normal, and they are drawn much faster
    noise = (rng.random(2 * bins, dtype=np.float32) - np.float32(0.5)).view(np.complex64)
    frequencies = np.arange(bins, dtype=np.float32) * np.float32(sample_rate / size)
    noise *= np.maximum(frequencies, np.float32(50)) ** np.float32(-0.5 * tilt)
    noise[0] = 0
    return noise


def _room(recording: Recording, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Impulse response of the room without the direct sound: noise that decays exponentially, after a short delay.

    Its energy relative to the direct sound's (1) is ``reverberation_db``.
    """
    length = int(min(recording.reverberation_seconds, _LONGEST_ROOM_SECONDS) * sample_rate)
    delay = int(rng.uniform(0.004, 0.02) * sample_rate)
    decay = np.exp(np.log(1e-3) / (recording.reverberation_seconds * sample_rate) * np.arange(length))
    response = rng.standard_normal(length, dtype=np.float32) * decay.astype(np.float32)
    response[:delay] = 0.0
    # walls and air absorb the highest frequencies first
    response[1:] = response[1:] + 0.6 * response[:-1]
    return response * np.float32(10 ** (recording.reverberation_db / 20) / np.sqrt(_power(response) * length))
