"""Every format, rate and number of channels gives the same song: aligned, of the same length, in little memory."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musictag.data.audio.decode import from_array, read_song, resample, to_float, to_int16
from tests.data.audio.test_decode import RATE, tone

LOSSLESS = (
    *(("wav", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    *(("aiff", subtype) for subtype in ("PCM_16", "PCM_24", "FLOAT")),
    *(("flac", subtype) for subtype in ("PCM_S8", "PCM_16", "PCM_24")),
)
RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
#: The largest deviation of one sample that a format's resolution explains.
STEPS = {"PCM_U8": 3 / 256, "PCM_S8": 3 / 256}
MP3_RATES = tuple(rate for rate in RATES if rate <= 48000)
OPUS_RATES = (8000, 16000, 24000, 48000)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize(("suffix", "subtype"), LOSSLESS)
def test_every_format_becomes_the_same_mono_sixteen_kilohertz(
    tmp_path: Path, suffix: str, subtype: str, channels: int, rate: int
) -> None:
    seconds = 0.5001  # not an integer number of samples at 16 kHz
    audio = tone(seconds, rate)
    # the channels differ, and only their mean is the tone
    weights = np.arange(1, channels + 1) / np.arange(1, channels + 1).mean()
    soundfile.write(tmp_path / f"a.{suffix}", audio[:, None] * weights * 0.5, rate, subtype=subtype)
    samples = to_float(read_song(tmp_path / f"a.{suffix}"))
    assert len(samples) == math.floor(len(audio) * 16000 / rate + 0.5)
    expected = 0.5 * tone(seconds, RATE)[: len(samples)]
    difference = np.abs(samples[: len(expected)] - expected)[400:-400]
    assert difference.max() < 1e-3 + STEPS.get(subtype, 0)


@pytest.mark.parametrize(
    ("suffix", "subtype", "channels", "rate"),
    [
        *(("mp3", "MPEG_LAYER_III", channels, rate) for channels in (1, 2) for rate in MP3_RATES),
        *(("ogg", "VORBIS", channels, rate) for channels in (1, 2, 6) for rate in RATES),
        *(("opus", "OPUS", channels, rate) for channels in (1, 2, 6) for rate in OPUS_RATES),
    ],
)
def test_lossy_formats_are_neither_shifted_nor_longer(
    tmp_path: Path, suffix: str, subtype: str, channels: int, rate: int
) -> None:
    """Encoder delay is removed (LAME, Opus): the song begins and ends where it did. Opus may be off by a sample; with
    six channels, libsndfile's own Opus files are half a millisecond off."""
    seconds = 2.0
    audio = sweep(seconds, rate)
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([audio] * channels, axis=1), rate, subtype=subtype, format=SOUNDFILE_FORMATS[suffix])
    samples = to_float(read_song(path))
    tolerated = 16 if (subtype, channels) == ("OPUS", 6) else 0
    assert abs(len(samples) - seconds * RATE) <= tolerated
    expected = sweep(seconds, RATE)
    for part in (slice(0, 6000), slice(-6000, None)):
        assert abs(lag(samples[part], expected[part])) <= max(subtype == "OPUS", tolerated)


SOUNDFILE_FORMATS = {"mp3": "MP3", "ogg": "OGG", "opus": "OGG"}


def sweep(seconds: float, rate: int) -> np.ndarray:
    """A tone that rises from 200 to 2,000 Hz: it correlates with itself at no other lag."""
    time = np.arange(round(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * (200 + 900 * time / seconds) * time)


def lag(heard: np.ndarray, expected: np.ndarray) -> int:
    """By how many samples ``heard`` is delayed, by the peak of the cross-correlation."""
    return int(np.correlate(heard, expected, "full").argmax()) - (len(expected) - 1)


@pytest.mark.parametrize(
    "rate", [11025, 44100, *(pytest.param(rate, marks=pytest.mark.slow) for rate in (8000, 22050, 32000, 48000, 96000))]
)
def test_nothing_drifts_over_ten_minutes(tmp_path: Path, rate: int) -> None:
    seconds = 600
    burst = sweep(0.5, rate)
    path = tmp_path / "a.flac"
    with soundfile.SoundFile(path, "w", rate, 1) as file:
        file.write(burst)
        silence = np.zeros(rate)
        for _ in range(seconds - 1):
            file.write(silence)
        file.write(burst)
    samples = to_float(read_song(path))
    num_frames = 2 * len(burst) + (seconds - 1) * rate
    assert len(samples) == math.floor(num_frames * RATE / rate + 0.5)
    expected = sweep(0.5, RATE)
    assert lag(samples[:8000], expected) == 0
    assert lag(samples[-8000:], expected) == 0
    assert np.abs(samples[8500:-8500]).max() <= 1 / 32768


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("suffix", ["wav", "mp3", "ogg"])
def test_full_scale_saturates_and_never_wraps_around(tmp_path: Path, suffix: str, rate: int) -> None:
    """Filters and lossy codecs overshoot full scale: a sample that wrapped would jump to the other end."""
    time = np.arange(2 * rate) / rate
    square = np.sign(np.sin(2 * np.pi * 400 * time)) * 0.999
    soundfile.write(tmp_path / f"a.{suffix}", square, rate)
    samples = read_song(tmp_path / f"a.{suffix}").astype(np.int64)
    assert samples.max() == 32767 or samples.min() == -32768
    expected = to_int16(np.sign(np.sin(2 * np.pi * 400 * (np.arange(len(samples)) + 0.5) / RATE)))
    middle_of_each_half = (np.arange(len(samples)) % 20) == 10
    inner = np.arange(len(samples)).clip(1000, len(samples) - 1000) == np.arange(len(samples))
    chosen = middle_of_each_half & inner
    assert (np.sign(samples[chosen]) == np.sign(expected[chosen])).all()
    # a tone of nearly full scale fits
    soundfile.write(tmp_path / "b.wav", 0.999 * np.sin(2 * np.pi * 400 * time), rate, subtype="FLOAT")
    tone_samples = read_song(tmp_path / "b.wav")[1000:-1000].astype(np.int64)
    assert 32700 <= tone_samples.max() < 32767
    assert np.abs(np.diff(tone_samples)).max() < 32768 * 2 * np.pi * 400 / RATE


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", None), ("flac", None), ("mp3", None), ("ogg", "VORBIS"), ("ogg", "OPUS")]
)
def test_reading_in_blocks_changes_no_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, subtype: str | None
) -> None:
    rng = np.random.default_rng(4)
    path = tmp_path / f"a.{suffix}"
    audio = rng.uniform(-0.5, 0.5, (5 * 48000, 2))
    soundfile.write(path, audio, 48000, subtype=subtype)
    whole = read_song(path)
    decoded, _ = soundfile.read(path, dtype="float32")
    # another decoder rounds differently
    expected = to_int16(resample(decoded.mean(axis=1), 48000, RATE))
    assert len(whole) == len(expected)
    assert np.abs(whole.astype(int) - expected).max() <= (suffix in ("mp3", "ogg"))
    for block_values in (2**17, 99_991, 2**12):
        monkeypatch.setattr("musictag.data.audio.decoding.pcm._BLOCK_VALUES", block_values)
        monkeypatch.setattr("musictag.data.audio.decoding.gathering._BLOCK_SAMPLES", block_values // 2)
        np.testing.assert_array_equal(read_song(path), whole)
        np.testing.assert_array_equal(read_song(path, max_seconds=1.7), whole[:27200])
    if suffix in ("wav", "flac"):
        np.testing.assert_array_equal(from_array(decoded, 48000), whole)


@pytest.mark.slow
def test_hours_of_audio_need_little_memory(tmp_path: Path) -> None:
    """Two hours at 48 kHz in stereo are 2.8 GB as floats; what is kept of them, twice, is 0.5 GB."""
    path = tmp_path / "a.flac"
    minute = np.random.default_rng(5).uniform(-0.5, 0.5, (60 * 48000, 2))
    with soundfile.SoundFile(path, "w", 48000, 2) as file:
        for _ in range(120):
            file.write(minute)
    script = (
        "import resource, sys\n"
        "from musictag.data.audio.decode import read_song\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "length = len(read_song(sys.argv[1]))\n"
        "print(length, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000)"
    )
    output = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True).stdout
    length, megabytes = output.split()
    assert int(length) == 7200 * RATE
    assert float(megabytes) < 700
