"""Reading audio: samples survive, rates are converted, and unusable audio says why."""

from __future__ import annotations

import math
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musictag.common.errors import MusictagError, SongError
from musictag.data.audio.decode import declared_seconds, from_array, read_song, resample, to_float, to_int16

RATE = 16000


def tone(seconds: float, rate: int, frequency: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(-32768, 32768, 2 * RATE).astype(np.int16)


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff"])
def test_sixteen_bit_mono_at_the_rate_is_kept_sample_for_sample(tmp_path: Path, noise: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise, RATE, subtype="PCM_16")
    samples = read_song(path)
    assert samples.dtype == np.int16
    np.testing.assert_array_equal(samples, noise)
    np.testing.assert_array_equal(read_song(str(path), max_seconds=0.5), noise[: RATE // 2])


@pytest.mark.parametrize("suffix", ["mp3", "ogg"])
def test_lossy_formats_come_close(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(2, 44100), 44100)
    samples = to_float(read_song(path))
    assert len(samples) == 2 * RATE
    inner = slice(2000, -2000)
    assert np.abs(samples - tone(2, RATE))[inner].max() < 0.03


def test_channels_are_averaged_and_excess_is_clipped(tmp_path: Path) -> None:
    stereo = np.stack([np.full(2000, 0.5), np.full(2000, -0.25)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, RATE, subtype="FLOAT")
    assert (read_song(tmp_path / "a.wav") == 0.125 * 32768).all()
    soundfile.write(tmp_path / "b.wav", np.array([1.5, -1.5, 0.0] * 600), RATE, subtype="FLOAT")
    assert read_song(tmp_path / "b.wav").tolist() == [32767, -32768, 0] * 600


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_rates_are_converted_without_delay_or_loss(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(2, rate), rate, subtype="FLOAT")
    samples = to_float(read_song(tmp_path / "a.wav"))
    assert len(samples) == 2 * RATE
    assert np.abs(samples - tone(2, RATE))[500:-500].max() < 1e-3
    assert np.abs(resample(tone(2, rate), rate, 24000) - tone(2, 24000))[500:-500].max() < 1e-3


def test_frequencies_above_the_new_nyquist_are_removed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(2, 44100, 12000) + 0.01 * tone(2, 44100), 44100)
    samples = to_float(read_song(tmp_path / "a.wav"))
    assert np.abs(samples)[500:-500].max() < 0.006


def test_the_beginning_is_that_of_the_whole_song(tmp_path: Path) -> None:
    audio = np.random.default_rng(1).uniform(-0.5, 0.5, 3 * 44100)
    soundfile.write(tmp_path / "a.wav", audio, 44100)
    whole, beginning = read_song(tmp_path / "a.wav"), read_song(tmp_path / "a.wav", max_seconds=1.5)
    assert len(beginning) == 24000
    np.testing.assert_array_equal(beginning, whole[:24000])
    assert len(read_song(tmp_path / "a.wav", max_seconds=99)) == len(whole)


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        ("wav", "PCM_16"),
        ("wav", "PCM_24"),
        ("wav", "FLOAT"),
        ("aiff", "PCM_16"),
        ("flac", None),
        ("mp3", None),
        ("w64", None),
    ],
)
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_cut_file_is_noticed(tmp_path: Path, suffix: str, subtype: str | None, kept: float) -> None:
    path = tmp_path / f"a.{suffix}"
    audio = np.random.default_rng(2).uniform(-0.5, 0.5, (5 * RATE, 2))
    soundfile.write(path, audio, RATE, subtype=subtype)
    assert len(read_song(path)) == 5 * RATE
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(SongError, match=r"cut short"):
        read_song(path)


def test_the_beginning_of_a_cut_file_is_intact(tmp_path: Path, noise: np.ndarray) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise, RATE)
    path.write_bytes(path.read_bytes()[: 44 + 2 * RATE])
    np.testing.assert_array_equal(read_song(path, max_seconds=0.5), noise[: RATE // 2])


def test_streams_without_a_declared_length_are_read_to_their_end(tmp_path: Path, noise: np.ndarray) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise, RATE)
    data = bytearray(path.read_bytes())
    size_of_data = data.find(b"data") + 4
    data[4:8] = data[size_of_data : size_of_data + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    np.testing.assert_array_equal(read_song(path), noise)


def test_unusable_files_say_why(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with pytest.raises(SongError, match="not found"):
        read_song(path)
    with pytest.raises(SongError, match="not a file"):
        read_song(tmp_path)
    for content, reason in (
        (b"", "^empty file$"),
        (b"no audio at all " * 100, "^cannot be read as audio: it is text$"),
        (np.random.default_rng(0).bytes(5000), "cannot be read as audio: "),
    ):
        path.write_bytes(content)
        with pytest.raises(SongError, match=reason):
            read_song(path)
    for samples, reason in [
        (np.zeros(0), "empty"),
        (np.zeros(1000), "silent"),
        (np.tile([1.0, -1.0], 500) / 32768, "silent"),
        (np.array([0.1, np.nan]), "not finite"),
        (np.array([0.1, -np.inf]), "not finite"),
        (np.array([3000.0, -3000.0]), "full scale"),
    ]:
        soundfile.write(path, samples, RATE, subtype="FLOAT")
        with pytest.raises(SongError, match=reason):
            read_song(path)


def test_the_name_of_a_file_does_not_matter(tmp_path: Path, noise: np.ndarray) -> None:
    for written, named in (("wav", "mp3"), ("flac", "wav"), ("wav", "txt")):
        path = tmp_path / f"a.{written}"
        soundfile.write(path, noise, RATE, subtype="PCM_16")
        path = path.rename(tmp_path / f"b.{named}")
        np.testing.assert_array_equal(read_song(path), noise)
    for suffix in ("mp3", "wav", "ogg", "flac", "raw", "m4a"):
        path = tmp_path / f"c.{suffix}"
        path.write_text("These are the words of a song.\n" * 50)
        with pytest.raises(SongError, match="cannot be read as audio: it is text"):
            read_song(path)
        assert math.isnan(declared_seconds(path))


def test_missing_and_unreadable_files_say_so(tmp_path: Path, noise: np.ndarray) -> None:
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")  # opening it would block forever
    (tmp_path / "link.wav").symlink_to(tmp_path / "gone.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    soundfile.write(tmp_path / "a.wav", noise, RATE)
    for name, reason in [
        ("folder.wav", "not a file"),
        ("pipe.wav", "not a file"),
        ("link.wav", "file not found"),
        ("loop.wav", "cannot be opened"),
        ("a.wav/b.wav", "file not found"),
        ("nul\0.wav", "file not found"),
        ("x" * 300 + ".wav", r"cannot be opened \(File name too long\)"),
    ]:
        with pytest.raises(SongError, match=reason):
            read_song(tmp_path / name)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("closed", ["file", "folder"])
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, noise: np.ndarray, closed: str) -> None:
    path = tmp_path / "folder" / "a.wav"
    path.parent.mkdir()
    soundfile.write(path, noise, RATE)
    target = path if closed == "file" else path.parent
    target.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # root may read everything
            for folder in (tmp_path, *tmp_path.parents[:2]):
                folder.chmod(0o755)
            os.seteuid(65534)
        with pytest.raises(SongError, match=r"cannot be opened \(Permission denied\)"):
            read_song(path)
    finally:
        os.seteuid(user)
        target.chmod(0o700)


def test_an_impossible_rate_in_a_header_is_refused(tmp_path: Path, noise: np.ndarray) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise, RATE)
    data = bytearray(path.read_bytes())
    for rate in (1, 2_000_000_000):
        data[24:28] = rate.to_bytes(4, "little")
        path.write_bytes(data)
        with pytest.raises(SongError, match="samples per second: damaged, or not music"):
            read_song(path)


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [("wav", "PCM_16"), ("wav", "FLOAT"), ("aiff", "PCM_24"), ("flac", None), ("mp3", None), ("ogg", "VORBIS")],
)
def test_any_damage_gives_a_song_or_a_reason(tmp_path: Path, suffix: str, subtype: str | None) -> None:
    rng = np.random.default_rng(6)
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([tone(1, RATE), tone(1, RATE, 660)], axis=1), RATE, subtype=subtype)
    whole = path.read_bytes()
    reasons = []
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(len(data) if rng.random() < 0.5 else 200)] = rng.integers(256)
        path.write_bytes(data[: rng.integers(len(data))] if rng.random() < 0.2 else data)
        try:
            samples = read_song(path)
        except SongError as error:
            reasons.append(str(error))
        else:
            assert samples.dtype == np.int16
            assert len(samples)
    assert all(reasons)
    assert len(reasons) >= 5


def test_an_array_is_treated_as_a_file(tmp_path: Path) -> None:
    stereo = np.stack([tone(1, 44100), 0.5 * tone(1, 44100, 660)], axis=1).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", stereo, 44100, subtype="FLOAT")
    expected = read_song(tmp_path / "a.wav")
    np.testing.assert_array_equal(from_array(stereo, 44100), expected)
    np.testing.assert_array_equal(from_array(stereo.T, 44100), expected)
    mono = to_int16(tone(1, RATE))
    for same in (mono, mono[:, None], mono[None], mono.astype(np.int32) << 16, to_float(mono), to_float(mono).tolist()):
        np.testing.assert_array_equal(from_array(same, RATE), mono)


@pytest.mark.parametrize(
    ("array", "rate", "error", "message"),
    [
        (np.zeros((2, 3, 4)), RATE, MusictagError, "shape"),
        (np.zeros(9, dtype=np.uint8), RATE, MusictagError, "uint8"),
        (
            np.ones((200, 300)),
            RATE,
            MusictagError,
            "neither dimension can be channels, of which at most 64 are allowed",
        ),
        ([[1.0, 2.0], [3.0]], RATE, MusictagError, "not an array"),
        (np.ones(9) * 1j, RATE, MusictagError, "complex128"),
        (np.full(1599, 0.1), RATE, MusictagError, r"0\.100 s of audio is too short; 0\.1 s"),
        (np.zeros((0, 2)), RATE, SongError, "empty"),
        (np.zeros(9), RATE, SongError, "silent"),
        (np.array([np.nan]), RATE, SongError, "not finite"),
    ],
)
def test_unusable_arrays_say_why(array: np.ndarray, rate: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_array(array, rate)


@pytest.mark.parametrize(
    "rate",
    [44.1, 0, -1, 1, 999, 1_000_001, 10**9, math.nan, math.inf, -math.inf, None, True, "44100", b"1", 1j, [16000]],
    ids=repr,
)
def test_an_impossible_rate_is_refused_at_once(rate: object) -> None:
    with pytest.raises(MusictagError, match="give the number of samples per second, from 1,000 to 1,000,000"):
        from_array(np.full(44100, 0.1), rate)


@pytest.mark.parametrize("rate", [1000, 44100.0, np.int32(44100), np.float32(22050), Fraction(88200, 2), 1_000_000])
def test_a_rate_may_be_any_kind_of_number(rate: float) -> None:
    audio = tone(0.5, int(rate), 100)
    assert len(from_array(audio, rate)) == pytest.approx(8000, abs=1)


def test_where_channels_may_stand() -> None:
    left, right = tone(0.5, RATE), 0.5 * tone(0.5, RATE, 660)
    expected = to_int16((left + right) / 2)
    for array in (np.stack([left, right]), np.stack([left, right], axis=1)):
        assert np.abs(from_array(array, RATE).astype(int) - expected).max() <= 1
    many = np.tile(left, (64, 1))
    np.testing.assert_array_equal(from_array(many, RATE), from_array(many.T, RATE))


def test_int16_and_float_are_inverse() -> None:
    every = np.arange(-32768, 32768).astype(np.int16)
    assert to_float(every).dtype == np.float32
    np.testing.assert_array_equal(to_int16(to_float(every)), every)
