"""Audio made to do harm to FFmpeg: it takes little memory and time, opens no other file, and is refused by name."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from musictag.common.errors import SongError
from musictag.data.audio.decode import read
from musictag.data.audio.decoding.containers import _opened
from musictag.data.audio.decoding.formats import MATROSKA
from musictag.data.audio.decoding.tags import Link
from musictag.data.audio.decoding.window import Window
from tests.data.audio.decoding.test_containers import film
from tests.data.audio.decoding.test_mp3 import CBR
from tests.data.audio.test_decode import tone
from tests.helpers.audio_files import encoded
from tests.helpers.fuzzing import read_all
from tests.security.test_checkpoints import refused


def boxes(data: bytes, name: bytes) -> int:
    """Where the content of the first box of this name begins."""
    return data.index(name) + 4


def test_samples_that_all_lie_in_one_place(tmp_path: Path) -> None:
    """An index of a few bytes that plays the same bytes for days."""
    data = encoded(".mov", tone(1, 48000), 48000)
    sizes, times = boxes(data, b"stsz"), boxes(data, b"stts")
    bomb = bytearray(data)
    count = 2**31 - 1
    bomb[sizes + 8 : sizes + 12] = struct.pack(">I", count)
    bomb[times + 8 : times + 12] = struct.pack(">I", count)
    place = boxes(data, b"stsc")
    bomb[place + 12 : place + 16] = struct.pack(">I", count)
    path = tmp_path / "song.mov"
    path.write_bytes(bomb)
    outcomes = read_all("audio", [path], tmp_path / "empty", megabytes=256)
    assert (outcomes.bugs, outcomes.ended) == ({}, {})


def picture(width: int) -> bytes:
    """A PNG of a few bytes that claims to be ``width`` pixels wide and high."""
    header = struct.pack(">IIBBBBB", width, width, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + bytes(4)


def with_picture(container: str, codec: str, image: bytes) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        sound = output.add_stream(codec, rate=48000, layout="mono")
        video = output.add_stream("png", rate=1, width=64, height=64, pix_fmt="rgb24")
        frame = av.AudioFrame.from_ndarray(tone(2, 48000)[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate = 48000
        for packet in [*sound.encode(frame), *sound.encode(None), *video.encode(av.VideoFrame(64, 64, "rgb24"))]:
            output.mux(packet)
        output.mux(video.encode(None))
    data = file.getvalue()
    place = data.index(b"\x89PNG")
    return data[:place] + image + data[place + len(image) :]


@pytest.mark.parametrize("container", ["mov", "mp4"])
def test_pictures_are_never_unpacked(container: str, tmp_path: Path) -> None:
    path = tmp_path / "song"
    path.write_bytes(with_picture(container, "aac", picture(60_000)))
    outcomes = read_all("audio", [path], tmp_path / "empty", megabytes=64)
    assert outcomes.used == [path]


def test_not_even_a_frame_of_a_film_is_decoded_to_see_what_it_is() -> None:
    data = film()
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p", "FFmpeg decodes it by itself"
    with _opened(Window(io.BytesIO(data), Link(0, len(data))), MATROSKA) as container:
        assert container.streams.video[0].codec_context.pix_fmt is None


def test_nobody_reads_in_circles() -> None:
    window = Window(io.BytesIO(bytes(1000)), Link(0, 1000))
    total = 0
    while data := window.read(1000):
        total += len(data)
        window.found_audio()
        window.seek(0)
        assert total < 2**27
    assert window.exhausted
    assert total > 2**24


@pytest.mark.parametrize(
    "beginning",
    [CBR, b"OggS\0", *(pytest.param(b, marks=pytest.mark.slow) for b in (b"", b"ID3\4\0\0\0\0\0\0", b"\xff\xf1"))],
    ids=range(5),
)
def test_a_large_hole_costs_no_memory(beginning: bytes, tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(beginning)
    os.truncate(path, 2**28)
    refused("audio", path, "cannot be read as audio", megabytes=200)


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {path}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 9999 RTP/AVP 0\n",
        '<?xml version="1.0"?><MPD><Period><BaseURL>{path}</BaseURL></Period></MPD>',
        "concat:{path}|{path}",
    ],
)
def test_what_names_other_files_opens_none(content: str, tmp_path: Path) -> None:
    other = tmp_path / "other.wav"
    other.write_bytes(encoded(".wav", tone(1, 16000), 16000, codec="pcm_s16le"))
    path = tmp_path / "song.m3u8"
    path.write_text(content.format(path=other))
    with pytest.raises(SongError, match=r"^cannot be read as audio: it is "):
        read(path)


def test_a_name_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg opens what looks like one: names never reach it."""
    monkeypatch.chdir(tmp_path)
    for name in ("http:", "concat:a|b", "-i", "pipe:0", "data:audio", "subfile,,start,0,end,9,,:a.mp3"):
        Path(name).write_bytes(CBR)
        assert abs(len(read(name).samples) - 64_000) < 1000


@pytest.mark.slow
def test_days_in_joined_files(tmp_path: Path) -> None:
    data = encoded(".flac", np.full(3 * 3600 * 1000, 0.5), 1000)
    path = tmp_path / "song.flac"
    path.write_bytes(data * 5)
    refused("audio", path, "longer than 12 hours", megabytes=2048, seconds=120)
