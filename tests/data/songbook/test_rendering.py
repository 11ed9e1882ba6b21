from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest

from musictag.common.errors import MusictagError, SongError
from musictag.data.datasets.songbook import Songbook
from musictag.data.songbook.arrangement.arrange import Player, arrange
from musictag.data.songbook.arrangement.excerpt import covered
from musictag.data.songbook.arrangement.instruments import BASS, BY_TAG, DRUMS, INSTRUMENTS
from musictag.data.songbook.rendering.effects import Recording, draw_recording, record
from musictag.data.songbook.rendering.midi import channel_setup, midi_file
from musictag.data.songbook.rendering.render import Synthesiser
from musictag.data.songbook.rendering.soundfont import find_soundfont
from tests.helpers.songbook_scores import SECONDS, generator, tune, voices

CLEAN = Recording(0.2, -24.0, None, 60.0, 0.0, -3.0, seed=1)


@pytest.fixture(scope="module")
def synthesiser() -> Synthesiser:
    return Synthesiser(find_soundfont())


def solo(tag: str, program: int, seconds: float = SECONDS):
    """An arrangement in which one player of ``tag`` plays a short tune in the middle of its range."""
    instrument = BY_TAG[tag]
    onsets = np.arange(0, seconds, 0.25)
    low = (instrument.lowest + instrument.highest) // 2 - 4
    pitches = (
        np.tile([36, 42, 38, 42], len(onsets))[: len(onsets)] if tag == "drums" else low + np.arange(len(onsets)) % 8
    )
    notes = np.column_stack([onsets, np.full(len(onsets), 0.2), pitches, np.full(len(onsets), 90)])
    base = arrange(tune(), seconds, generator(0))
    return replace(base, players=(Player(tag, program, notes, 0.0, 0.0),), recording=CLEAN)


@pytest.mark.parametrize("instrument", [*INSTRUMENTS, BASS, DRUMS], ids=lambda instrument: instrument.tag)
def test_every_program_sounds(synthesiser, instrument):
    for program in instrument.programs:
        arrangement = solo(instrument.tag, program, seconds=2.0)
        audio = synthesiser.dry(arrangement)
        assert len(audio) == 32000
        loud = np.sqrt(np.mean(audio.reshape(20, -1) ** 2, axis=1))
        assert np.median(loud) > 1e-3, "sounds for most of the clip"
        spectrum = np.abs(np.fft.rfft(audio)) ** 2
        if instrument is not DRUMS:  # nothing sounds below the lowest note played
            lowest_hz = 440 * 2 ** ((arrangement.players[0].notes[:, 2].min() - 69) / 12)
            hz = np.fft.rfftfreq(len(audio), 1 / 16000)
            assert spectrum[hz > 0.4 * lowest_hz].sum() > 0.9 * spectrum.sum()


def test_players_are_as_loud_as_their_levels_say(synthesiser):
    checked = 0
    for seed in range(12):
        arrangement = arrange((tune(), voices())[seed % 2], SECONDS, generator(seed))
        if len(arrangement.players) > 1:
            powers = []
            for player in arrangement.players:
                alone = synthesiser.dry(arrangement, only=player.tag)
                playing = SECONDS if player.is_drums else covered(player.notes, SECONDS)
                powers.append(10 * np.log10(np.sum(alone**2) / 16000 / playing))
            wanted = np.array([player.level_db for player in arrangement.players])
            np.testing.assert_allclose(np.array(powers) - max(powers), wanted - wanted.max(), atol=4.0)
            assert min(powers) > max(powers) - 12
            checked += 1
    assert checked >= 5


def test_a_song_has_its_length_its_peak_and_no_clipping(synthesiser):
    for seed in range(3):
        arrangement = arrange(tune(), SECONDS, generator(seed))
        song = synthesiser.song(arrangement)
        assert song.dtype == np.int16
        assert song.shape == (round(SECONDS * 16000),)
        peak_db = 20 * np.log10(np.abs(song.astype(int)).max() / 32768)
        assert -6.01 <= arrangement.recording.peak_db <= -1
        assert peak_db == pytest.approx(arrangement.recording.peak_db, abs=0.01)


def test_a_soundfont_of_silent_samples_costs_the_song(tmp_path):
    content = bytearray(find_soundfont().read_bytes())
    start = content.index(b"smpl") + 8
    size = struct.unpack_from("<I", content, start - 4)[0]
    content[start : start + size] = bytes(size)
    (tmp_path / "silent.sf2").write_bytes(content)
    with pytest.raises(SongError, match="silent"):
        Synthesiser(tmp_path / "silent.sf2").song(arrange(tune(), 2.0, generator(0)))


def test_recording_adds_what_its_tags_say():
    music = np.where(
        np.arange(32000) % 8000 < 800, np.sin(np.arange(32000) * 0.5) + np.sin(np.arange(32000) * 2.2), 0.0
    )
    dry = record(music, CLEAN, 16000).astype(float)
    wet = record(music, replace(CLEAN, reverberation_seconds=2.0, reverberation_db=0.0), 16000).astype(float)
    gap = slice(6000, 8000)
    assert np.mean(wet[gap] ** 2) > 100 * np.mean(dry[gap] ** 2)
    limited = record(music, replace(CLEAN, cutoff_hz=2000.0), 16000).astype(float)
    hz = np.fft.rfftfreq(32000, 1 / 16000)
    above = lambda audio: np.sum(np.abs(np.fft.rfft(audio))[hz > 2500] ** 2)  # noqa: E731
    assert above(limited) < 1e-4 * above(dry)
    noisy = record(music, replace(CLEAN, signal_to_noise_db=10.0, reverberation_db=-60.0), 16000).astype(float)
    clean = record(music, replace(CLEAN, reverberation_db=-60.0), 16000).astype(float)
    scale = np.dot(noisy, clean) / np.dot(clean, clean)
    assert 10 * np.log10(np.sum((scale * clean) ** 2) / np.sum((noisy - scale * clean) ** 2)) == pytest.approx(
        10, abs=0.3
    )


def test_recordings_are_present_absent_and_unknown_often_enough():
    tags = [draw_recording(generator(seed)).tags() for seed in range(2000)]
    for name in ("reverberant", "band-limited", "noisy"):
        values = [tag[name] for tag in tags]
        assert 0.1 < np.mean([value == 1 for value in values]) < 0.3
        assert 0.08 < np.mean([value is None for value in values]) < 0.2


def test_midi_bytes():
    data = midi_file(channel_setup(0, 40, 1.0, 50.0), [(0, 0.0, 1.0, 60, 90), (0, 0.5, 5.0, 60, 80)], 2.0)
    assert data[:14] == b"MThd" + struct.pack(">IHHH", 6, 0, 1, 960), "1920 ticks per second at the default tempo"
    assert struct.unpack(">I", data[18:22])[0] == len(data) - 22
    track = data[22:]
    assert b"\x00\xc0\x28" in track
    assert b"\xe0" + bytes((10240 & 127, 10240 >> 7)) in track
    # the first note ends where the second starts, the second with the file: after 960 and 2880 ticks
    notes = bytes((0x00, 0x90, 60, 90, 0x87, 0x40, 0x80, 60, 0, 0x00, 0x90, 60, 80, 0x96, 0x40, 0x80, 60, 0))
    assert track.endswith(notes + b"\x00\xff\x2f\x00")


def _changed_presets(content: bytes, change) -> bytes:
    start = content.index(b"phdr") + 8
    size = struct.unpack_from("<I", content, start - 4)[0]
    changed = bytearray(content)
    for offset in range(start, start + size - 38, 38):
        program, bank = struct.unpack_from("<HH", content, offset + 20)
        struct.pack_into("<HH", changed, offset + 20, *change(program, bank))
    return bytes(changed)


def _with_vorbis(content: bytes) -> bytes:
    start = content.index(b"smpl") + 8
    return content[:start] + b"OggS" + content[start + 4 :]


def test_a_copy_of_the_soundfont_is_as_good(tmp_path, synthesiser):
    copy = tmp_path / "mine.sf2"
    copy.write_bytes(find_soundfont().read_bytes())
    arrangement = arrange(tune(), 2.0, generator(1))
    np.testing.assert_array_equal(Synthesiser(copy).song(arrangement), synthesiser.song(arrangement))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: b"", "is not a SoundFont"),
        (lambda content: b"RIFF" + content[4:8] + b"WAVE" + content[12:], "is not a SoundFont"),
        (lambda content: content[: len(content) // 2], "is cut short"),
        (lambda content: content.replace(b"ifil\x04\0\0\0\x02\0", b"ifil\x04\0\0\0\x04\0"), "of version 4"),
        (lambda content: content.replace(b"ifil\x04\0\0\0\x02\0", b"ifil\x04\0\0\0\x03\0"), "convert it to .sf2"),
        (lambda content: _with_vorbis(content), "convert it to .sf2"),
        (lambda content: content.replace(b"phdr", b"xhdr"), "no phdr chunk"),
        (lambda content: content.replace(b"shdr", b"xhdr"), "no shdr chunk"),
        (
            lambda content: _changed_presets(content, lambda p, b: (126, b) if (p, b) == (40, 0) else (p, b)),
            "bank 0 program 40",
        ),
        (lambda content: _changed_presets(content, lambda p, b: (p, 1) if b == 128 else (p, b)), "bank 128 program 0"),
    ],
    ids=[
        "empty",
        "wave",
        "truncated",
        "version",
        "sf3",
        "vorbis",
        "no-presets",
        "no-samples-table",
        "no-violin",
        "no-drums",
    ],
)
def test_soundfonts_that_cannot_be_used_stop_before_work(tmp_path, change, message):
    path = tmp_path / "bad.sf2"
    path.write_bytes(change(find_soundfont().read_bytes()))
    with pytest.raises(MusictagError, match=message):
        Synthesiser(path)
    with pytest.raises(MusictagError, match=message):
        Songbook(tmp_path, soundfont=path).manifest()


def test_a_missing_soundfont_says_what_to_use(tmp_path, monkeypatch):
    with pytest.raises(MusictagError, match="no SoundFont at"):
        Songbook(tmp_path, soundfont=tmp_path / "none.sf2").fingerprint()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MusictagError, match="pip install pretty_midi"):
        find_soundfont()
