"""MP3s with wrong headers, joined MP3s, and MP3s with something else between their frames: all is read."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from musictag.common.errors import SongError
from musictag.data.audio.decode import declared_seconds, read, to_float
from tests.data.audio.test_audio_formats import lag, sweep
from tests.data.audio.test_decode import RATE

SECONDS = 4.0
RUBBISH = np.random.default_rng(5)


def mp3(rate: int = 44100, channels: int = 2, mode: str = "VARIABLE", seconds: float = SECONDS) -> bytes:
    """Rising tones in growing noise, so that the bit rate varies; LAME's header declares the length."""
    song = sweep(seconds, rate)
    song += np.linspace(0, 0.2, len(song)) * np.random.default_rng(0).normal(size=len(song))
    file = io.BytesIO()
    soundfile.write(file, np.stack([song] * channels, axis=1), rate, format="MP3", bitrate_mode=mode)
    return file.getvalue()


VBR = mp3()
CBR = mp3(mode="CONSTANT")


def header_bytes(data: bytes) -> int:
    """Length of the first frame, which declares the length and has no audio."""
    with av.open(io.BytesIO(data), format="mp3") as container:
        return next(container.demux(audio=0)).pos


def bare(data: bytes) -> bytes:
    return data[header_bytes(data) :]


def declaring(frames: int, data: bytes = VBR) -> bytes:
    place = data.index(b"Xing") + 8
    return data[:place] + struct.pack(">I", frames) + data[place + 4 :]


def declaring_frames_only(frames: int) -> bytes:
    data = declaring(frames)
    place = data.index(b"Xing") + 4
    return data[:place] + struct.pack(">I", 1) + data[place + 4 :]


def declaring_nothing() -> bytes:
    """A header without a single field."""
    place = VBR.index(b"Xing") + 4
    return VBR[:place] + bytes(4) + VBR[place + 4 :]


def with_vbri(frames: int) -> bytes:
    """The header of another encoder in place of LAME's."""
    size = header_bytes(VBR)
    vbri = b"VBRI" + struct.pack(">HHHIIHHHH", 1, 0, 75, len(VBR), frames, 0, 1, 2, 1)
    return VBR[:4] + bytes(32) + vbri + bytes(size - 36 - len(vbri)) + VBR[size:]


def id3(size: int, footer: bool = False) -> bytes:
    length = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    rest = b"\4\0" + (b"\x10" if footer else b"\0") + length
    return b"ID3" + rest + bytes(size) + (b"3DI" + rest if footer else b"")


def ape(size: int, at_end: bool = True) -> bytes:
    header = b"APETAGEX" + struct.pack("<IIII", 2000, size + 32, 1, 0xA0000000) + bytes(8)
    footer = b"APETAGEX" + struct.pack("<IIII", 2000, size + 32, 1, 0x80000000) + bytes(8)
    return header + bytes(size) + footer


ID3V1 = b"TAG" + b"x" * 125
LYRICS = b"LYRICSBEGIN" + b"la" * 500 + b"001011LYRICS200"


def put_in_the_middle(what: bytes, data: bytes = VBR) -> bytes:
    """At the border of two frames."""
    with av.open(io.BytesIO(data), format="mp3") as container:
        places = [packet.pos for packet in container.demux(audio=0) if packet.size]
    place = places[len(places) // 2]
    return data[:place] + what + data[place:]


NO_NOTE = {
    "as it should be": (VBR, 1),
    "0 frames": (declaring(0), 1),
    "no field": (declaring_nothing(), 1),
    "20 frames": (declaring(20), 1),
    "as many frames as can be": (declaring(2**32 - 1), 1),
    "twice the frames, though all bytes are there": (declaring(300), 1),
    "no header, constant": (bare(CBR), 1),
    "no header, variable": (bare(VBR), 1),
    "VBRI": (with_vbri(150), 1),
    "VBRI with 7 frames": (with_vbri(7), 1),
    "joined, variable": (VBR + VBR, 2),
    "joined, constant, three times": (CBR + CBR + CBR, 3),
    "joined, bare": (bare(CBR) + bare(CBR), 2),
    "joined, the first header speaks for all": (declaring(2 * 153) + VBR, 2),
    "joined, and it says nothing of bytes": (declaring_frames_only(2 * 153) + VBR, 2),
    "joined, tags between": (id3(300) + VBR + ID3V1 + id3(5000) + VBR + ID3V1, 2),
    "joined, of other rates and channels": (VBR + mp3(22050, 1) + mp3(48000), 3),
    "two tags, and one at the end": (id3(100) + id3(70000) + VBR + ID3V1, 1),
    "a tag with a footer": (id3(999, footer=True) + VBR, 1),
    "padding": (id3(100) + bytes(3000) + VBR, 1),
    "an APE tag in front": (ape(6000) + VBR, 1),
    "tags of all kinds behind": (VBR + LYRICS + ape(9000) + ID3V1, 1),
    "a tag at the end as version 2.4 has it": (VBR + id3(8000, footer=True), 1),
}


@pytest.mark.parametrize(("data", "times"), NO_NOTE.values(), ids=NO_NOTE)
def test_all_of_it_is_read(data: bytes, times: int, tmp_path: Path) -> None:
    samples, note = read_bytes(data, tmp_path)
    assert note == ""
    # without a header, nothing says what encoders add
    assert abs(len(samples) / RATE - times * SECONDS) < 0.08 * times
    expected = sweep(SECONDS, RATE)
    assert abs(lag(to_float(samples[:6000]), expected[:6000])) <= 0.06 * RATE
    # the end is the end, at full volume
    assert to_float(samples[-3000:-1500]).std() == pytest.approx(np.hypot(0.5 / 2**0.5, 0.1), rel=0.25)


def read_bytes(data: bytes, folder: Path, name: str = "song.mp3") -> tuple[np.ndarray, str]:
    path = folder / name
    path.write_bytes(data)
    declared_seconds(path)  # must not raise, whatever it returns
    return read(path)


NOTED = {
    "zeros behind": (VBR + bytes(20_000), 20_000),
    "text behind": (VBR + b"This is no music. " * 600, 10_800),
    "noise behind": (VBR + RUBBISH.bytes(30_000), 30_000),
    "noise in front": (RUBBISH.bytes(40_000) + VBR, 40_000),
    "zeros in the middle": (put_in_the_middle(bytes(9_000)), 9_000),
    "text in the middle": (put_in_the_middle(b"<html>404</html>" * 500), 8_000),
    "text between joined ones": (VBR + b"Track 2: silence. " * 400 + VBR, 7_200),
    "a picture in front": (b"\x89PNX" + RUBBISH.bytes(9_000).replace(b"\xff", b"\0") + bare(CBR), 9_004),
}


@pytest.mark.parametrize(("data", "skipped"), NOTED.values(), ids=NOTED)
def test_non_audio_bytes_are_skipped_and_reported(data: bytes, skipped: int, tmp_path: Path) -> None:
    samples, note = read_bytes(data, tmp_path)
    times = 2 if "joined" in next(name for name, value in NOTED.items() if value[0] is data) else 1
    assert abs(len(samples) / RATE - times * SECONDS) < 0.15
    told = int(note.split(" bytes that are not audio were skipped")[0].split()[-1].replace(",", ""))
    # a frame or two may be lost with it
    assert skipped - 1500 <= told < skipped + 3000


def test_a_few_frames_of_something_else_are_rubbish(tmp_path: Path) -> None:
    other = bare(mp3(22050, 1, "CONSTANT"))
    with av.open(io.BytesIO(other), format="mp3") as container:
        end = [packet.pos for packet in container.demux(audio=0) if packet.size][6]
    samples, note = read_bytes(put_in_the_middle(other[:end]), tmp_path)
    assert abs(len(samples) / RATE - SECONDS) < 0.05
    assert note == "0.2 s are damaged and left out"
    # alone, they are a song
    samples, note = read_bytes(other[:end], tmp_path)
    assert (len(samples) / RATE, note) == (pytest.approx(6 * 576 / 22050, abs=0.01), "")


def test_a_little_rubbish_is_not_reported(tmp_path: Path) -> None:
    samples, note = read_bytes(VBR + b"x" * 1000, tmp_path)
    assert (note, len(samples)) == ("", SECONDS * RATE)


@pytest.mark.parametrize("kept", [0.3, 0.8, 0.95])
@pytest.mark.parametrize(
    "data", [VBR, CBR, with_vbri(154), id3(400) + VBR, VBR + CBR, declaring_frames_only(153)], ids=range(6)
)
def test_a_file_that_ends_too_early_is_cut_short(data: bytes, kept: float, tmp_path: Path) -> None:
    with pytest.raises(SongError, match=r"^cut short: \d\.\d s are missing$"):
        read_bytes(data[: int(kept * len(data))], tmp_path)


def hole(size: int) -> bytes:
    """Bytes in the middle are lost, as on a bad disk, and replaced by zeros."""
    begin = len(CBR) // 2
    return CBR[:begin] + bytes(size) + CBR[begin + size :]


def test_a_small_gap_is_reported_and_a_large_one_refused(tmp_path: Path) -> None:
    samples, note = read_bytes(hole(2_500), tmp_path)
    assert 3.6 < len(samples) / RATE < 3.9
    assert re.match(r"0\.[23] s are damaged and left out; [23],\d\d\d bytes that are not audio were skipped", note)
    for size in (10_000, len(CBR) - len(CBR) // 2):  # the latter to the end
        with pytest.raises(SongError, match=r"damaged: [12]\.\d of [34]\.\d s cannot be decoded"):
            read_bytes(hole(size), tmp_path)


@pytest.mark.parametrize("make", [lambda size: RUBBISH.bytes(size), lambda size: b"\xff\xfb" * (size // 2)], ids=[0, 1])
def test_rubbish_alone_is_not_a_song(make: Callable[[int], bytes], tmp_path: Path) -> None:
    for size in (3_000, 100_000):
        with pytest.raises(SongError, match="cannot be read as audio"):
            read_bytes(make(size), tmp_path)
    with pytest.raises(SongError, match="contains tags, but no audio"):
        read_bytes(id3(3000) + ID3V1, tmp_path)
