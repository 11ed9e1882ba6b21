from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musictag.data.songbook import sf3
from musictag.data.songbook.arrange import arrange
from musictag.data.songbook.render import Synthesiser
from musictag.data.songbook.sf3 import COMPRESSED, SAMPLE_HEADER, riff_chunks, to_sf2
from musictag.data.songbook.soundfont import find_soundfont, read_soundfont
from musictag.data.sources.songbook import Songbook
from musictag.errors import MusictagError
from tests.songbook_scores import generator, tune, voices

PLAIN = range(0, 520, 40)  # samples left uncompressed
FILE = Path("small.sf3")


def chunk(content: bytes, name: str) -> bytes:
    offset, size = riff_chunks(content)[name]
    return content[offset : offset + size]


def headers(content: bytes) -> list[list]:
    """The sample headers, without the one that marks the end."""
    return [list(header) for header in SAMPLE_HEADER.iter_unpack(chunk(content, "shdr"))][:-1]


def points(content: bytes, header: list) -> np.ndarray:
    return np.frombuffer(chunk(content, "smpl"), "<i2")[header[1] : header[2]].astype(float)


def vorbis(audio: np.ndarray, channels: int = 1) -> bytes:
    file = io.BytesIO()
    stacked = np.stack([audio / 32768] * channels, axis=1)
    soundfile.write(file, stacked, 44100, format="OGG", subtype="VORBIS", compression_level=0.2)
    return file.getvalue()


def built(content: bytes, smpl: bytes, table: list[list], padded: bool = False) -> bytes:
    """A version 3 SoundFont with the information and presets of ``content``; odd chunks as MuseScore's unless padded"""

    def part(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2 if padded else 0)

    last = (b"EOS", *[0] * 9)
    presets = {name: chunk(content, name) for name in ("phdr", "pbag", "pmod", "pgen", "inst", "ibag", "imod", "igen")}
    presets["shdr"] = b"".join(SAMPLE_HEADER.pack(*header) for header in [*table, last])
    information = {"ifil": struct.pack("<HH", 3, 1), "isng": b"EMU8000\0", "INAM": b"odd" if padded else b"even"}
    lists = [(b"INFO", information), (b"sdta", {"smpl": smpl}), (b"pdta", presets)]
    body = b"".join(
        part(b"LIST", name + b"".join(part(key.encode(), data) for key, data in parts.items())) for name, parts in lists
    )
    return part(b"RIFF", b"sfbk" + body)


@pytest.fixture(scope="module")
def original() -> bytes:
    return find_soundfont().read_bytes()


@pytest.fixture(scope="module")
def parts(original) -> tuple[bytes, list[list]]:
    """``smpl`` (of odd size) and sample headers of the wheel's SoundFont with most samples compressed."""
    smpl, table = b"", headers(original)
    for number in PLAIN:  # first, as they start at a whole point
        header = table[number]
        shift = len(smpl) // 2 - header[1]
        smpl += points(original, header).astype("<i2").tobytes() + bytes(92)
        header[1:5] = [place + shift for place in header[1:5]]
    streams = []
    length = len(smpl)
    for number, header in enumerate(table):
        if number not in PLAIN:
            stream = vorbis(points(original, header))
            loop = [header[3] - header[1], header[4] - header[1]]
            header[1:5] = [length, length + len(stream), *loop]
            header[-1] |= COMPRESSED
            streams.append(stream)
            length += len(stream)
    smpl += b"".join(streams)
    return smpl + bytes(1 - len(smpl) % 2), table


@pytest.fixture(scope="module")
def compressed(original, parts) -> bytes:
    return built(original, *parts)


def test_decompressed_is_as_before_compression(original, parts, compressed):
    result = to_sf2(compressed, FILE)
    assert len(compressed) < 0.7 * len(original)
    assert len(result) == struct.unpack_from("<I", result, 4)[0] + 8
    assert chunk(result, "ifil") == struct.pack("<HH", 2, 4)
    assert chunk(result, "INAM") == b"even"
    for name in ("phdr", "pbag", "pmod", "pgen", "inst", "ibag", "imod", "igen"):
        assert chunk(result, name) == chunk(original, name)
    before, after = headers(original), headers(result)
    assert len(after) == 520
    for old, new in zip(before, after, strict=True):
        assert [new[0], *new[5:]] == [old[0], *old[5:]]
        assert [place - new[1] for place in new[2:5]] == [place - old[1] for place in old[2:5]]
    for number in PLAIN:
        np.testing.assert_array_equal(points(result, after[number]), points(original, before[number]))
    longest = sorted(set(range(520)) - set(PLAIN), key=lambda number: before[number][2] - before[number][1])[-40:]
    for number in longest:
        assert np.corrcoef(points(result, after[number]), points(original, before[number]))[0, 1] > 0.95
    # 46 zeros at least after each
    silence = np.frombuffer(chunk(result, "smpl"), "<i2")
    used = np.zeros(len(silence), bool)
    for header in after:
        assert header[2] + 46 <= len(silence)
        assert not silence[header[2] : header[2] + 46].any()
        used[header[1] : header[2]] = True
    assert np.count_nonzero(~used) == 46 * 520


def test_odd_chunks_may_be_padded_or_not(original, parts, compressed):
    smpl, table = parts
    assert len(smpl) % 2 == 1
    padded = to_sf2(built(original, smpl, table, padded=True), FILE)
    assert chunk(padded, "INAM") == b"odd\0", "a SoundFont's chunks are of even size"
    assert chunk(padded, "smpl") == chunk(to_sf2(compressed, FILE), "smpl")
    assert chunk(padded, "shdr") == chunk(to_sf2(compressed, FILE), "shdr")


def test_a_stream_may_be_shared_and_loud_and_its_loop_anywhere(original):
    square = 32000 * np.sign(np.sin(np.arange(4000) * 0.03))  # Vorbis overshoots at its steps
    stream = vorbis(square)
    kind = 1 | COMPRESSED
    one = [b"one", 0, len(stream), 100, 3900, 44100, 60, 0, 0, kind]
    two = [b"two", 0, len(stream), 7, 2**32 - 1, 22050, 72, 0, 0, kind]
    result = to_sf2(built(original, stream, [one, two]), FILE)
    first, second = headers(result)
    assert first[1:5] == [0, 4000, 100, 3900]
    assert second[1:5] == [0, 4000, 7, 4000]
    assert len(chunk(result, "smpl")) == 2 * (4000 + 46)
    audio = points(result, first)
    assert np.abs(audio).max() >= 32767, "the test is about what exceeds full scale"
    assert np.abs(audio - square).max() < 20000, "clipped, without wrapping around"


def test_the_synthesiser_plays_the_same(tmp_path, compressed):
    path = tmp_path / "small.sf3"
    path.write_bytes(compressed)
    plays, reference = Synthesiser(path), Synthesiser(find_soundfont())
    for arrangement in (arrange(tune(), 3.0, generator(0)), arrange(voices(), 3.0, generator(3))):
        audio, expected = plays.dry(arrangement), reference.dry(arrangement)
        assert np.sqrt(np.mean(audio**2)) > 1e-3
        assert np.corrcoef(audio, expected)[0, 1] > 0.9
        assert np.abs(plays.song(arrangement).astype(int)).max() > 10000


def test_version_3_without_compressed_samples_sounds_as_version_2(tmp_path, original):
    path = tmp_path / "plain.sf3"
    path.write_bytes(original.replace(b"ifil\x04\0\0\0\x02\0", b"ifil\x04\0\0\0\x03\0"))
    arrangement = arrange(tune(), 2.0, generator(1))
    np.testing.assert_array_equal(Synthesiser(path).song(arrangement), Synthesiser(find_soundfont()).song(arrangement))


def test_decompressed_once_and_again_when_damaged(tmp_path, compressed, monkeypatch):
    path, data_dir = tmp_path / "small.sf3", tmp_path / "data"
    path.write_bytes(compressed)
    runs = []
    monkeypatch.setattr(sf3, "to_sf2", lambda content, file: runs.append(file) or to_sf2(content, file))
    first = read_soundfont(path, data_dir)
    (cache,) = (data_dir / "soundfonts").iterdir()
    assert cache.suffix == ".sf2"
    assert cache.read_bytes().startswith(first)
    assert read_soundfont(path, data_dir) == first
    assert len(runs) == 1
    for damage in (
        lambda data: data[: len(data) // 2],
        lambda data: data[:5000] + b"\x55" + data[5001:],
        lambda _: b"",
    ):
        runs.clear()
        cache.write_bytes(damage(cache.read_bytes()))
        assert read_soundfont(path, data_dir) == first
        assert read_soundfont(path, data_dir) == first
        assert len(runs) == 1
    assert list((data_dir / "soundfonts").iterdir()) == [cache]


def test_songbook_keeps_it_in_its_data_folder_and_names_the_users_file(tmp_path, compressed):
    path = tmp_path / "small.sf3"
    path.write_bytes(compressed)
    songbook = Songbook(tmp_path / "data", 2, 1, 1, seconds=3.0, soundfont=path)
    before = songbook.fingerprint()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("musictag.data.songbook.corpus.load_corpus", _stop)
        with pytest.raises(InterruptedError):
            songbook.manifest()
    assert len(list((tmp_path / "data" / "soundfonts").glob("*.sf2"))) == 1
    assert songbook.fingerprint() == before
    assert before["soundfont"] != Songbook(tmp_path).fingerprint()["soundfont"]


def _stop(*_):
    raise InterruptedError  # what follows reads the corpus, which other tests do


def _with(table: list[list], number: int, **changed: int | bytes) -> list[list]:
    fields = ("name", "start", "end", "loop_start", "loop_end", "rate", "key", "cents", "link", "kind")
    header = [changed.get(field, value) for field, value in zip(fields, table[number], strict=True)]
    return [*table[:number], header, *table[number + 1 :]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda smpl, table: (smpl, _with(table, 1, end=2**31)), "'FluteA#6' lies outside"),
        (lambda smpl, table: (smpl, _with(table, 1, start=table[1][2] + 1)), "'FluteA#6' lies outside"),
        (lambda smpl, table: (smpl, _with(table, 40, end=len(smpl) // 2 + 1)), r"lies outside the file \(points"),
        (lambda smpl, table: (smpl, _with(table, 1, start=table[1][1] + 40)), "'FluteA#6' cannot be decoded"),
        (lambda smpl, table: (smpl, _with(table, 1, end=table[1][1])), "'FluteA#6' cannot be decoded"),
        (lambda smpl, table: (smpl, _with(table, 1, end=table[1][1] + 60)), "'FluteA#6' cannot be decoded"),
        (
            lambda smpl, table: (
                vorbis(np.zeros(500)),
                [[*header[:1], 0, 90, 0, 0, *header[5:-1], 1] for header in table],
            ),
            "compressed without being marked",
        ),
    ],
    ids=["end", "start", "plain-end", "not-ogg", "empty", "cut", "unmarked"],
)
def test_samples_that_cannot_be_used_are_named(tmp_path, original, parts, change, message):
    path = tmp_path / "bad.sf3"
    path.write_bytes(built(original, *change(*parts)))
    with pytest.raises(MusictagError, match=message) as raised:
        Synthesiser(path, tmp_path / "data")
    assert str(path) in str(raised.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda stream: stream[: len(stream) // 2],
        lambda stream: stream[: stream.rindex(b"OggS")],
        lambda stream: stream[: len(stream) // 2] + bytes(50) + stream[len(stream) // 2 + 50 :],
    ],
    ids=["half", "last-page", "zeros"],
)
def test_a_stream_decoded_in_part_is_refused(original, damage):
    whole = vorbis(np.random.default_rng(0).normal(size=60000) * 3000)
    assert soundfile.info(io.BytesIO(damage(whole))).frames > 10000, "the decoder itself does not mind"
    for stream, good in ((whole, True), (damage(whole), False)):
        content = built(original, stream, [[b"long", 0, len(stream), 0, 60000, 44100, 60, 0, 0, 1 | COMPRESSED]])
        if good:
            assert headers(to_sf2(content, FILE))[0][2] == 60000
        else:
            with pytest.raises(MusictagError, match=r"small\.sf3: sample 'long' is damaged"):
                to_sf2(content, FILE)


def test_streams_have_one_channel(original):
    stream = vorbis(np.zeros(500), channels=2)
    table = [[b"wide", 0, len(stream), 0, 500, 44100, 60, 0, 0, 1 | COMPRESSED]]
    with pytest.raises(MusictagError, match=r"small\.sf3: sample 'wide' has 2 channels"):
        to_sf2(built(original, stream, table), FILE)


@pytest.mark.parametrize("name", ["ifil", "smpl", "shdr", "igen", "phdr"])
def test_a_missing_chunk_is_named(tmp_path, compressed, name):
    path = tmp_path / "bad.sf3"
    place = riff_chunks(compressed)[name][0] - 8
    path.write_bytes(compressed[:place] + b"xxxx" + compressed[place + 4 :])
    with pytest.raises(MusictagError, match=rf"bad\.sf3 is a damaged SoundFont \(no {name} chunk"):
        Synthesiser(path)


@pytest.mark.parametrize("size", [0, 45, 519 * 46 + 45])
def test_a_damaged_table_of_samples_is_refused(compressed, size):
    offset = riff_chunks(compressed)["shdr"][0]
    damaged = compressed[: offset - 4] + struct.pack("<I", size) + compressed[offset:]
    with pytest.raises(MusictagError, match=r"small\.sf3 is a damaged SoundFont \(its shdr chunk"):
        to_sf2(damaged[: offset + size], FILE)


def test_other_checks_hold_for_sf3(tmp_path, compressed):
    path = tmp_path / "bad.sf3"
    path.write_bytes(compressed[: len(compressed) // 2])
    with pytest.raises(MusictagError, match="is cut short"):
        Synthesiser(path)
    offset, size = riff_chunks(compressed)["phdr"]
    few = bytearray(compressed)
    for place in range(offset, offset + size - 38, 38):
        if struct.unpack_from("<HH", few, place + 20) == (40, 0):
            struct.pack_into("<H", few, place + 20, 126)
    path.write_bytes(few)
    with pytest.raises(MusictagError, match=r"lacks presets.*bank 0 program 40"):
        Synthesiser(path)
    path.write_bytes(compressed.replace(b"ifil\x04\0\0\0\x03\0", b"ifil\x04\0\0\0\x04\0"))
    with pytest.raises(MusictagError, match="of version 4"):
        Synthesiser(path)
