"""WAV and AIFF whose headers do not know their length, or are wrong about it, and other unusual content."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musictag.common.errors import SongError
from musictag.data.audio.decode import declared_seconds, read
from tests.data.audio.test_audio_formats import sweep
from tests.data.audio.test_decode import RATE
from tests.helpers.audio_files import encoded

NOISE = np.random.default_rng(0).integers(-32768, 32768, 4 * RATE).astype(np.int16)


def wav(samples: np.ndarray = NOISE, riff: int | None = None, data: int | None = None, rate: int = RATE) -> bytes:
    """A WAV whose header declares these sizes (default: the right ones)."""
    body = samples.astype("<i2").tobytes()
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    data = len(body) if data is None else data
    riff = 36 + len(body) if riff is None else riff
    return b"RIFF" + struct.pack("<I", riff) + head + b"data" + struct.pack("<I", data) + body


def rifx(data: int = 2 * len(NOISE)) -> bytes:
    """A WAV of big-endian numbers that declares this size (default: the right one)."""
    file = io.BytesIO()
    soundfile.write(file, NOISE, RATE, format="WAV", subtype="PCM_16", endian="BIG")
    content = bytearray(file.getvalue())
    size = content.index(b"data") + 4
    content[size : size + 4] = struct.pack(">I", data)
    return bytes(content)


def aiff(size: int, frames: int) -> bytes:
    """An AIFF that declares this size and number of frames."""
    file = io.BytesIO()
    soundfile.write(file, NOISE, RATE, format="AIFF", subtype="PCM_16")
    content = bytearray(file.getvalue())
    common, sound = content.index(b"COMM"), content.index(b"SSND")
    content[common + 10 : common + 14] = struct.pack(">I", frames)
    content[sound + 4 : sound + 8] = struct.pack(">I", size)
    content[4:8] = struct.pack(">I", min(size + 46, 2**32 - 1))
    return bytes(content)


def chunk(name: bytes, size: int) -> bytes:
    return name + struct.pack("<I", size) + bytes(size)


def read_bytes(data: bytes, folder: Path, name: str = "song.wav") -> tuple[np.ndarray, str]:
    path = folder / name
    path.write_bytes(data)
    declared_seconds(path)  # must not raise, whatever it returns
    return read(path)


UNDECLARED = {
    "both 0": wav(riff=0, data=0),
    "data 0": wav(data=0),
    "riff 0": wav(riff=0),
    "data 0, behind a list of words": wav(riff=0, data=0)[:36] + chunk(b"LIST", 26) + wav(riff=0, data=0)[36:],
    **{f"{size:#x}": wav(riff=size, data=size) for size in (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x7FFFF000)},
    "a stream of sox": wav(riff=0x7F000024, data=0x7F000000),
    "400 hours": wav(data=0x7E000000, rate=RATE),
    **{f"RIFX, {size:#x}": rifx(size) for size in (0xFFFFFFFF, 0x7F000000, 0)},
    "AIFF of sox": aiff(0x7F000008, 0x3F800000),
    "AIFF, nothing declared": aiff(0xFFFFFFFF, 0xFFFFFFFF),
    "AIFF, 0": aiff(0, 0),
    "words behind": wav() + chunk(b"LIST", 3000) + chunk(b"id3 ", 200),
    "a tag behind": wav() + b"TAG" + bytes(125),
}


@pytest.mark.parametrize("data", UNDECLARED.values(), ids=UNDECLARED)
def test_what_declares_no_length_is_read_to_its_end(data: bytes, tmp_path: Path) -> None:
    samples, note = read_bytes(data, tmp_path)
    np.testing.assert_array_equal(samples, NOISE)
    assert note == ""


def test_a_long_stream_is_audio_and_no_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders that read on and on without finding audio are stopped; one that finds it is not."""
    monkeypatch.setattr("musictag.data.audio.decoding.window._MOST_WITHOUT_AUDIO", 50_000)
    monkeypatch.setattr("musictag.data.audio.decoding.pcm._BLOCK_VALUES", 10_000)
    for data, times in ((UNDECLARED["both 0"], 1), (wav() + wav(), 2)):
        np.testing.assert_array_equal(read_bytes(data, tmp_path)[0], np.tile(NOISE, times))


@pytest.mark.parametrize("data", [wav(NOISE[:0]), wav(NOISE[:0], data=0) + chunk(b"LIST", 40)], ids=range(2))
def test_a_wav_without_a_sample_is_empty(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(SongError, match="empty: no samples"):
        read_bytes(data, tmp_path)


def test_joined_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    samples, note = read_bytes(wav() + wav() + wav(), tmp_path)
    np.testing.assert_array_equal(samples, np.tile(NOISE, 3))
    assert note == ""
    samples, note = read_bytes(wav() + wav(NOISE[:RATE], rate=2 * RATE), tmp_path)
    assert abs(len(samples) - 4.5 * RATE) <= 1


def test_big_endian_wavs_are_read(tmp_path: Path) -> None:
    assert rifx().startswith(b"RIFX")
    for data, times in ((rifx(), 1), (rifx() + rifx(), 2), (rifx() + wav(), 2), (wav() + rifx() + wav(), 3)):
        samples, note = read_bytes(data, tmp_path)
        np.testing.assert_array_equal(samples, np.tile(NOISE, times))
        assert note == ""
    with pytest.raises(SongError, match=r"cut short: \d\.\d s are missing"):
        read_bytes(rifx()[:60_000], tmp_path)


def test_rubbish_is_reported_and_possible_audio_is_refused(tmp_path: Path) -> None:
    for rubbish in (bytes(100_000), b"\xfe" * 5_000):
        samples, note = read_bytes(wav() + rubbish, tmp_path)
        np.testing.assert_array_equal(samples, NOISE)
        assert note == f"{len(rubbish):,} bytes that are not audio were skipped"
    # a recorder that never updated its header: one second is declared, four are present
    for data in (wav(data=2 * RATE, riff=2 * RATE + 36), wav(data=2 * RATE)):
        with pytest.raises(SongError, match="its header is wrong: 96,000 bytes follow the end of the audio"):
            read_bytes(data, tmp_path)
    samples, note = read_bytes(b"\xfe" * 3_000 + wav(), tmp_path)
    np.testing.assert_array_equal(samples, NOISE)
    assert note == "3,000 bytes that are not audio were skipped"


@pytest.mark.parametrize("kept", [100, 60_000, 120_000])
def test_a_wav_that_ends_too_early_is_cut_short(kept: int, tmp_path: Path) -> None:
    with pytest.raises(SongError, match=r"cut short: \d\.\d s are missing"):
        read_bytes(wav()[:kept], tmp_path)


@pytest.mark.parametrize(
    ("codec", "tag"), [("pcm_alaw", 6), ("adpcm_ima_wav", 17), ("adpcm_ms", 2), ("libmp3lame", 85)]
)
def test_a_wav_may_hold_other_than_plain_samples(codec: str, tag: int, tmp_path: Path) -> None:
    song = sweep(3.0, RATE)
    data = encoded(".wav", song, RATE, codec=codec)
    assert struct.unpack("<H", data[data.index(b"fmt ") + 8 :][:2]) == (tag,)
    samples, note = read_bytes(data, tmp_path)
    assert abs(len(samples) / RATE - 3.0) < 0.12
    assert note == ""
    for formatted in ("W64", "RF64", "CAF", "AU", "NIST", "VOC"):
        soundfile.write(tmp_path / "other", song, RATE, format=formatted, subtype="PCM_16")
        assert len(read(tmp_path / "other").samples) == 3 * RATE
