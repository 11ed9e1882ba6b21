"""Every format that PyAV writes is read whole, also under another name, joined, or with more in it than audio."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from musictag.common.errors import SongError
from musictag.data.audio.decode import declared_seconds, read, to_float
from tests.data.audio.test_audio_formats import sweep
from tests.data.audio.test_decode import RATE
from tests.helpers.audio_files import ENCODINGS, encoded

SECONDS = 3.0
#: What encoders add before and after the audio where nothing declares how much.
PADDING_SECONDS = 0.1


def made(suffix: str, rate: int = 48000, channels: int = 2) -> bytes:
    return encoded(suffix, np.stack([sweep(SECONDS, rate)] * channels, axis=1), rate, 128_000)


def read_bytes(data: bytes, folder: Path, name: str = "song.mp3") -> tuple[np.ndarray, str]:
    path = folder / name
    path.write_bytes(data)
    declared_seconds(path)  # must not raise, whatever it returns
    return read(path)


def check(samples: np.ndarray, times: int = 1) -> None:
    """Check for ``times`` sweeps, each in its place except for an encoder's padding."""
    assert abs(len(samples) / RATE - times * SECONDS) < PADDING_SECONDS * times
    expected = to_float_tone()
    for number in range(times):
        begin = round(number * len(samples) / times)
        part = to_float(samples[begin + 8000 : begin + 16000])
        heard = np.abs(np.fft.rfft(part * np.hanning(len(part)))).argmax()
        assert heard == pytest.approx(expected, abs=60)


def to_float_tone() -> int:
    part = sweep(SECONDS, RATE)[8000:16000]
    return int(np.abs(np.fft.rfft(part * np.hanning(len(part)))).argmax())


@pytest.mark.parametrize("name", ["song.mp3", "song.wav", "song"])
@pytest.mark.parametrize("suffix", ENCODINGS)
def test_the_bytes_decide_and_not_the_name(suffix: str, name: str, tmp_path: Path) -> None:
    data = made(suffix)
    samples, note = read_bytes(data, tmp_path, name)
    check(samples)
    assert note == ""
    assert declared_seconds(tmp_path / name) == pytest.approx(SECONDS, abs=0.2)


@pytest.mark.parametrize("suffix", [".flac", ".alac.m4a", ".mov", ".tta"])
def test_sixteen_bits_at_the_rate_come_back_sample_for_sample(suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-32768, 32768, RATE).astype(np.int16)
    samples, note = read_bytes(encoded(suffix, noise / 32768, RATE), tmp_path)
    np.testing.assert_array_equal(samples, noise)
    assert note == ""


@pytest.mark.parametrize(("suffix", "codec"), [(".alac24.m4a", "alac"), (".mkv", "pcm_s32le"), (".mkv", "pcm_f32le")])
def test_finer_samples_have_the_same_full_scale(suffix: str, codec: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-30000, 30000, RATE).astype(np.int16)
    container = {".alac24.m4a": "ipod", ".mkv": "matroska"}[suffix]
    sample_format = {"alac": "s32p", "pcm_s32le": "s32", "pcm_f32le": "flt"}[codec]
    data = encoded(suffix, noise / 32768, RATE, encoding=(container, codec, sample_format, {}))
    np.testing.assert_array_equal(read_bytes(data, tmp_path).samples, noise)


def ogg(subtype: str, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sweep(SECONDS, rate), rate, format="OGG", subtype=subtype)
    return file.getvalue()


def remuxed(data: bytes, container: str) -> bytes:
    """The same stream in another container."""
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format=container) as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return file.getvalue()


def with_total(data: bytes, total: int) -> bytes:
    """A FLAC that declares so many samples."""
    changed = bytearray(data)
    changed[21] = changed[21] & 0xF0 | total >> 32
    changed[22:26] = (total & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(changed)


FLAC = made(".flac")
JOINED = {
    "Vorbis": (ogg("VORBIS", 44100) * 2, 2),
    "Vorbis of several rates": (ogg("VORBIS", 44100) + ogg("VORBIS", 16000) + ogg("VORBIS", 22050), 3),
    "Vorbis, Opus and FLAC in Ogg": (ogg("VORBIS", 48000) + ogg("OPUS", 48000) + remuxed(FLAC, "ogg"), 3),
    "Opus": (made(".opus") + made(".opus"), 2),
    "MP4": (made(".m4a") * 2, 2),
    "MP4 of different kinds": (made(".mp4") + made(".alac.m4a", 44100, 1) + made(".fragmented.mp4"), 3),
    "Matroska": (made(".mka") + made(".webm"), 2),
    "WMA": (made(".wma") * 2, 2),
    "AAC": (made(".aac") * 3, 3),
    "FLAC": (FLAC * 2, 2),
    "FLAC of another rate": (FLAC + made(".flac", 44100, 1), 2),
    "FLAC that declares nothing": (with_total(FLAC, 0), 1),
    "FLAC that declares 400 hours": (with_total(FLAC, 2**36 - 1), 1),
    "FLAC that declares a second": (with_total(FLAC, 48000), 1),
    "FLAC behind a tag": (b"ID3\4\0\0\0\0\2\0" + bytes(256) + FLAC, 1),
    "FLAC in Ogg": (remuxed(FLAC, "ogg"), 1),
    "FLAC in Matroska": (remuxed(FLAC, "matroska"), 1),
    "Vorbis in Matroska": (remuxed(ogg("VORBIS", 44100), "matroska"), 1),
    "MP3 in Matroska": (remuxed(made(".mp3"), "matroska"), 1),
    "MP3 in MP4": (remuxed(made(".mp3"), "mp4"), 1),
}


@pytest.mark.parametrize(("data", "times"), JOINED.values(), ids=JOINED)
def test_every_link_of_a_chain_is_read(data: bytes, times: int, tmp_path: Path) -> None:
    samples, note = read_bytes(data, tmp_path)
    check(samples, times)
    assert note == ""


CUT = (".m4a", ".mp4", ".alac.m4a", ".mov", ".mka", ".wma", ".wv", ".flac", ".opus", ".tta")


@pytest.mark.parametrize("kept", [0.4, 0.9])
@pytest.mark.parametrize("suffix", CUT)
def test_a_file_that_declares_more_than_it_has_is_cut_short(suffix: str, kept: float, tmp_path: Path) -> None:
    data = made(suffix)
    with pytest.raises(SongError, match=r"^cut short: (\d\.\d s are missing|the file ends before a part that)"):
        read_bytes(data[: int(kept * len(data))], tmp_path)


def test_a_flac_whose_checksum_is_wrong_is_damaged(tmp_path: Path) -> None:
    data = bytearray(encoded(".flac", sweep(10.0, RATE), RATE))
    for share in (0.2, 0.4, 0.6, 0.8):
        data[int(len(data) * share)] ^= 1
    samples, note = read_bytes(bytes(data), tmp_path)
    assert len(samples) / RATE == pytest.approx(10 - 4 * 1152 / RATE, abs=0.01)
    assert note.startswith("0.3 s are damaged and left out; ")


def pages(data: bytes) -> list[int]:
    """Where the pages of an Ogg file begin."""
    places, place = [], 0
    while place < len(data):
        places.append(place)
        place += 27 + data[place + 26] + sum(data[place + 27 : place + 27 + data[place + 26]])
    return places


def long_vorbis() -> bytes:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 30 * 16000)
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 16000, 1, "VORBIS", format="OGG") as sound:
        for begin in range(0, len(noise), 4000):
            sound.write(noise[begin : begin + 4000])
    return file.getvalue()


def test_a_broken_page_is_reported(tmp_path: Path) -> None:
    data = long_vorbis()
    place = pages(data)[len(pages(data)) // 2]
    samples, note = read_bytes(data[: place + 50] + b"?" * 20 + data[place + 70 :], tmp_path)
    assert 28 < len(samples) / RATE < 30
    assert note.endswith(" s are damaged and left out")
    half = len(data) // 2
    with pytest.raises(SongError, match=r"damaged: \d+\.\d of 30\.0 s cannot be decoded"):
        read_bytes(data[:half] + bytes(len(data) // 4) + data[half + len(data) // 4 :], tmp_path)


def test_a_stream_without_an_end_mark_is_reported(tmp_path: Path) -> None:
    data = long_vorbis()
    samples, note = read_bytes(data[: pages(data)[-3]], tmp_path)
    assert len(samples) / RATE < 29.5
    assert note == "nothing marks the end of the song: the file may be cut short"


@pytest.mark.parametrize("suffix", [".m4a", ".mka", ".wma", ".opus", ".aac", ".flac", ".wv"])
@pytest.mark.parametrize("rubbish", [bytes(30_000), np.random.default_rng(3).bytes(30_000)], ids=["zeros", "noise"])
def test_trailing_rubbish_is_reported(suffix: str, rubbish: bytes, tmp_path: Path) -> None:
    samples, note = read_bytes(made(suffix) + rubbish, tmp_path)
    check(samples)
    assert " bytes that are not audio were skipped" in note
    assert 28_000 < int(note.split(" bytes")[0].split()[-1].replace(",", "")) < 31_000


def film(tracks: int = 1, pictures: bool = True) -> bytes:
    """Matroska with audio tracks and large pictures."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        sounds = [output.add_stream("aac", rate=48000, layout="mono") for _ in range(tracks)]
        video = output.add_stream("mpeg4", rate=5, width=640, height=480, pix_fmt="yuv420p") if pictures else None
        song = sweep(SECONDS, 48000).astype(np.float32)
        for begin in range(0, len(song), 9600):
            for sound in sounds:
                frame = av.AudioFrame.from_ndarray(song[None, begin : begin + 9600], "fltp", "mono")
                frame.sample_rate, frame.pts = 48000, begin
                output.mux(sound.encode(frame))
            if video:
                output.mux(video.encode(av.VideoFrame(640, 480, "yuv420p")))
        for stream in [*sounds, *([video] if video else [])]:
            output.mux(stream.encode(None))
    return file.getvalue()


def test_the_audio_of_a_video_is_read(tmp_path: Path) -> None:
    samples, note = read_bytes(film(), tmp_path)
    check(samples)
    assert note == ""


def test_further_audio_tracks_are_reported(tmp_path: Path) -> None:
    samples, note = read_bytes(film(tracks=3, pictures=False), tmp_path)
    check(samples)
    assert note == "2 more audio tracks, not read"


def test_images_alone_are_not_a_song(tmp_path: Path) -> None:
    with pytest.raises(SongError, match="cannot be read as audio: it contains no sound"):
        read_bytes(film(tracks=0), tmp_path)


def edited(first: float, seconds: float) -> bytes:
    """An MP4 whose edit list plays ``seconds`` from ``first`` on."""
    data = bytearray(made(".m4a"))
    entry = struct.pack(">I4sIIIIHH", 28, b"elst", 0, 1, int(seconds * 1000), int(first * 48000), 1, 0)
    box = struct.pack(">I4s", 8 + len(entry), b"edts") + entry
    for name in (b"moov", b"trak"):
        place = data.index(name) - 4
        data[place : place + 4] = struct.pack(">I", struct.unpack(">I", data[place : place + 4])[0] + len(box))
    place = data.index(b"mdia") - 4
    return bytes(data[:place] + box + data[place:])


@pytest.mark.parametrize(("first", "seconds"), [(0, 1.0), (1, 1.0), (2, 0.5)])
def test_what_an_edit_list_hides_is_reported(first: float, seconds: float, tmp_path: Path) -> None:
    samples, note = read_bytes(edited(first, seconds), tmp_path)
    assert len(samples) / RATE == pytest.approx(seconds, abs=0.05)
    assert note == f"{3 - seconds:.1f} s left out, as the file's edit list demands"
    samples, note = read_bytes(edited(0.02, 3.0), tmp_path)
    check(samples)
    assert note == ""


@pytest.mark.parametrize("channels", [7, 8, 9, 24])
def test_any_number_of_channels_is_averaged(channels: int, tmp_path: Path) -> None:
    """With eight planes and more, PyAV reads beyond the end of their list."""
    weights = np.arange(1, channels + 1) / np.arange(1, channels + 1).mean()
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 48000, channels, "VORBIS", format="OGG") as sound:
        song = sweep(SECONDS, 48000)[:, None] * weights / 2
        for begin in range(0, len(song), 4800):
            sound.write(song[begin : begin + 4800])
    for _ in range(3):
        samples, _ = read_bytes(file.getvalue(), tmp_path)
        check(samples)
        assert to_float(samples).std() == pytest.approx(0.25 / 2**0.5, rel=0.05)
