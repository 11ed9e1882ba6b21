"""Variety makes songs harder to tag; their tags stay true."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from musictag.common.errors import MusictagError
from musictag.data.datasets.songbook import Songbook
from musictag.data.songbook.arrangement.arrange import arrange, measures
from musictag.data.songbook.arrangement.tags import INSTRUMENT_TAGS
from musictag.data.songbook.arrangement.variety import RANGES, Variety, varied
from musictag.data.songbook.rendering.chain import CODECS, EQUALISER_BANDS, coded, compressed, equaliser_gain
from musictag.data.songbook.rendering.effects import Recording, record
from musictag.data.songbook.rendering.render import Synthesiser
from musictag.data.songbook.rendering.soundfont import find_soundfont
from tests.helpers.experiments import compose_config
from tests.helpers.songbook_scores import SECONDS, generator, tune, voices

HARD = {"quietest_db": -12.0, "tuning_cents": 45.0, "tempo_drift": 0.2, "overlap_share": 1.0, "equaliser_db": 9.0}
HARD |= {"compression_db": 12.0, "codec_share": 0.5}


def pair(seed: int):
    """Two arrangements to mix, as quiet as HARD allows."""
    scores = (tune(collection="oneill", rhythm="reel"), voices())
    return [arrange(score, SECONDS, generator(seed + i), -12.0, 45.0) for i, score in enumerate(scores)]


def hard_songs(count: int):
    return [varied(*pair(10 * seed), Variety.of(HARD), generator(1000 + seed)) for seed in range(count)]


def test_drifting_tempo_keeps_the_notes_and_moves_them() -> None:
    base = arrange(tune(), SECONDS, generator(1))
    song = varied(base, None, Variety(tempo_drift=0.3), generator(2))
    for before, after in zip(base.players, song.players, strict=True):
        assert np.array_equal(before.notes[:, 2:], after.notes[:, 2:])
        assert np.all(np.diff(after.notes[:, 0]) > -1e-9)
        assert after.notes[0, 0] >= 0
        assert after.notes[-1, 0] < SECONDS
        local = np.diff(after.notes[:, 0]) / np.diff(before.notes[:, 0]).clip(1e-6)
        apart = np.diff(before.notes[:, 0]) > 0.05
        assert 0.69 < local[apart].min() < 0.98
        assert 1.02 < local[apart].max() < 1.31
    assert {name: song.tags[name] for name in measures(song.players, SECONDS)} == measures(song.players, SECONDS)
    assert song.tags["reel"] == base.tags["reel"]


def test_two_pieces_at_once_have_the_tags_of_both() -> None:
    """What both agree on stays known, the instruments are all of them, and notes are counted together."""
    counted = 0
    for seed in range(40):
        first, second = pair(seed)
        song = varied(first, second, Variety(quietest_db=-12.0, overlap_share=1.0), generator(seed))
        playing = {player.tag for player in song.players}
        assert {tag for tag in INSTRUMENT_TAGS if song.tags[tag] == 1} == playing
        assert playing == {player.tag for player in (*first.players, *second.players)}
        assert song.tags["solo"] == 0
        assert sum(player.is_drums for player in song.players) <= 1
        levels = [player.level_db for player in song.players]
        assert max(levels) == 0
        assert min(levels) >= -12
        assert song.tags["reel"] is None, "one piece is a reel, the other is not"
        assert song.tags["chinese"] == 0, "neither is"
        assert {name: song.tags[name] for name in song.recording.tags()} == song.recording.tags()
        together = measures((*first.players, *[p for p in second.players if not p.is_drums]), SECONDS)
        assert song.tags["note rate"] == pytest.approx(together["note rate"])
        counted += song.tags["simultaneous parts"] > first.tags["simultaneous parts"]
    assert counted > 30


def test_every_player_can_be_heard_through_the_chain() -> None:
    """No player disappears under the others, after the equaliser: 26 dB is where it would be hard to hear one."""
    synthesiser = Synthesiser(find_soundfont())
    for song in hard_songs(8):
        size = round(SECONDS * 16000)
        gain = equaliser_gain(song.recording.equaliser_db, size, 16000)
        power = {
            tag: np.mean(np.abs(np.fft.rfft(synthesiser.dry(song, only=tag)) * gain) ** 2)
            for tag in {player.tag for player in song.players}
        }
        assert 10 * np.log10(min(power.values()) / max(power.values())) > -26
        assert len(synthesiser.song(song)) == size


def test_the_equaliser_has_the_gains_of_its_bands() -> None:
    gains = (6.0, -3.0, 0.0, 9.0, -9.0, 3.0)
    gain = 20 * np.log10(equaliser_gain(gains, 16000, 16000))
    assert gain[np.array(EQUALISER_BANDS, int)] == pytest.approx(gains, abs=0.05)
    assert gain[[1, 8000]] == pytest.approx([6.0, 3.0], abs=0.05)


def test_the_compressor_makes_loud_passages_softer() -> None:
    tone = np.sin(np.arange(32000) * 0.3).astype(np.float32)
    loud_soft = tone * np.where(np.arange(32000) < 16000, 1.0, 0.03).astype(np.float32)
    change = 20 * np.log10(np.abs(compressed(loud_soft, 12.0, 16000)[[8000, 31000]] / loud_soft[[8000, 31000]]))
    assert change[0] == pytest.approx(-12, abs=0.5)
    assert change[1] == pytest.approx(0, abs=0.7)


@pytest.mark.parametrize("codec", range(len(CODECS)))
def test_a_codec_changes_samples_but_neither_place_nor_band(codec: int) -> None:
    rng = generator(3)
    clicks = (rng.standard_normal(48000) * (np.arange(48000) % 4000 < 400) * 6000).astype(np.int16)
    heard = coded(clicks, codec, 16000)
    assert heard.dtype == np.int16
    assert heard.shape == clicks.shape
    assert not np.array_equal(heard, clicks)
    np.testing.assert_array_equal(heard, coded(clicks, codec, 16000))
    spectra = [np.fft.rfft(audio.astype(float), 1 << 17) for audio in (clicks, heard)]
    lag = int(np.fft.irfft(spectra[1] * spectra[0].conj()).argmax())
    assert min(lag, (1 << 17) - lag) <= 8
    hz = np.fft.rfftfreq(1 << 17, 1 / 16000)
    for low, high in ((100, 2800), (2800, 5500)):
        powers = [np.sum(np.abs(spectrum[(hz > low) & (hz < high)]) ** 2) for spectrum in spectra]
        assert abs(10 * np.log10(powers[1] / powers[0])) < 3


def test_the_ratio_of_signal_to_noise_is_that_after_equaliser_and_compressor() -> None:
    music = (np.sin(np.arange(32000) * 0.5) + np.sin(np.arange(32000) * 0.1)) * np.linspace(1, 0.1, 32000)
    chain = Recording(0.2, -60.0, None, 10.0, 0.5, -3.0, 1, (9.0, -9.0, 9.0, -9.0, 9.0, -9.0), 12.0)
    noisy, clean = (record(music, replace(chain, signal_to_noise_db=db), 16000).astype(float) for db in (10.0, 90.0))
    scale = np.dot(noisy, clean) / np.dot(clean, clean)
    ratio = np.sum((scale * clean) ** 2) / np.sum((noisy - scale * clean) ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(10, abs=0.3)
    only = {"equaliser_db": {"compression_db": 0.0}, "compression_db": {"equaliser_db": ()}}
    quiet = replace(chain, signal_to_noise_db=90.0)
    flat = record(music, replace(quiet, equaliser_db=(), compression_db=0.0), 16000).astype(float)
    for link, others in only.items():
        heard = record(music, replace(quiet, **others), 16000).astype(float)
        assert np.abs(heard - flat).max() > 1000, f"{link} is heard"


def test_without_variety_a_song_is_what_it_was() -> None:
    base = arrange(tune(), SECONDS, generator(1))
    same = varied(base, None, Variety(), generator(2))
    assert asdict(same)["tags"] == base.tags
    assert not any(same.recording.equaliser_db)
    assert (same.recording.compression_db, same.recording.codec) == (0.0, None)


def test_strengths_are_drawn_as_often_and_as_strong_as_they_say() -> None:
    recordings = [song.recording for song in hard_songs(200)]
    assert 0.4 < np.mean([recording.codec is not None for recording in recordings]) < 0.6
    gains = np.array([recording.equaliser_db for recording in recordings])
    assert 8 < gains.max() <= 9
    assert -9 <= gains.min() < -8
    assert 10 < max(recording.compression_db for recording in recordings) <= 12


@pytest.mark.parametrize("name", RANGES)
def test_strengths_out_of_range_are_refused(name: str, tmp_path) -> None:
    for wrong in (RANGES[name][0] - 1, RANGES[name][1] + 1, True, "much"):
        with pytest.raises(MusictagError, match=rf"variety\.{name}={wrong}: give a number from"):
            Songbook(tmp_path, variety={name: wrong})
    with pytest.raises(MusictagError, match=r"variety has no loudness; it has quietest_db, tuning_cents"):
        Songbook(tmp_path, variety={"loudness": 1})


def test_songbook_hard_switches_all_of_it_up() -> None:
    plain, hard = (compose_config(f"data={name}")["data"] for name in ("songbook", "songbook_hard"))
    assert Variety.of(plain["variety"]) == Variety()
    assert set(hard["variety"]) == set(RANGES)
    for name, strength in hard["variety"].items():
        assert abs(strength) > abs(plain["variety"][name])
    Variety.of(hard["variety"])
    assert {key: value for key, value in hard.items() if key != "variety"} == {
        key: value for key, value in plain.items() if key != "variety"
    }
