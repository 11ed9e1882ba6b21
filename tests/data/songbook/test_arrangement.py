from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from musictag.data.songbook.arrangement.accompaniment import bars_of, drum_part, harmony
from musictag.data.songbook.arrangement.arrange import LOWEST_LEVEL_DB, arrange
from musictag.data.songbook.arrangement.excerpt import covered, excerpt
from musictag.data.songbook.arrangement.instruments import BY_TAG, INSTRUMENTS
from musictag.data.songbook.arrangement.tags import REGRESSION_TAGS, score_tags
from tests.helpers.songbook_scores import SECONDS, generator, tune, voices


def test_the_same_generator_state_gives_the_same_arrangement_and_another_does_not():
    first, again, other = (arrange(tune(), SECONDS, generator(seed)) for seed in (3, 3, 4))
    assert first.tags == again.tags
    assert first.recording == again.recording
    for a, b in zip(first.players, again.players, strict=True):
        np.testing.assert_array_equal(a.notes, b.notes)
    assert first.recording != other.recording


@pytest.mark.parametrize("score", [tune(), tune(meter=(6, 8)), tune(bars=3), replace(tune(), meter=None), voices()])
def test_every_tagged_player_sounds_long_enough_loud_enough_and_in_range(score):
    for seed in range(60):
        arrangement = arrange(score, SECONDS, generator(seed))
        tags = [player.tag for player in arrangement.players]
        assert 1 <= len(tags) <= 4
        assert len(set(tags)) == len(tags)
        for name in (*(i.tag for i in INSTRUMENTS), "bass", "drums"):
            assert arrangement.tags[name] == float(name in tags)
        assert arrangement.tags["solo"] == float(len(tags) == 1)
        assert max(player.level_db for player in arrangement.players) == 0.0
        for player in arrangement.players:
            instrument, notes = BY_TAG[player.tag], player.notes
            assert LOWEST_LEVEL_DB <= player.level_db <= 0
            assert instrument.lowest <= notes[:, 2].min() <= notes[:, 2].max() <= instrument.highest
            assert 0 <= notes[:, 0].min() <= notes[:, 0].max() < SECONDS
            assert player.is_drums or covered(notes, SECONDS) >= 0.3 * SECONDS


def test_downbeats_are_louder_where_the_meter_is_known_only():
    def difference(score):
        gaps = []
        for seed in range(40):
            arrangement = arrange(score, 10.0, generator(seed))
            if len(arrangement.players) == 1:
                notes = arrangement.players[0].notes
                velocities = notes[:, 3]
                bar = velocities[: len(velocities) // 8 * 8].reshape(-1, 8)
                gaps.append(bar[:, 0].mean() - bar[:, 1:].mean())
        return np.mean(gaps)

    assert difference(tune()) > 20
    assert abs(difference(replace(tune(), meter=None))) < 4


def test_excerpts_start_on_bar_lines_and_short_pieces_repeat_in_step():
    score = tune(bars=4, meter=(3, 4), pickup_quarters=1.0)  # 12 quarters, downbeats on 1, 4, 7, 10
    for seed in range(20):
        (notes,) = excerpt(score, 40.0, generator(seed))
        np.testing.assert_allclose(notes[:, 0], np.arange(0, 40, 0.5), atol=1e-6)
        first = (notes[0, 2] - 67, notes[1, 2] - 67)
        onset = np.flatnonzero((score.parts[0][:, 2] - 67 == first[0]) & ((score.parts[0][:, 0] - 1) % 3 == 0))
        assert len(onset), "the first note of the excerpt stands on a downbeat"
    (whole,) = excerpt(tune(bars=100), 20.0, generator(0))
    assert len(whole) == 40


def test_regression_targets_of_a_hand_made_score():
    score = voices()
    found = 0
    for seed in range(80):
        arrangement = arrange(replace(score, tempo=60.0), 10.0, generator(seed))
        tags = arrangement.tags
        assert all(tags[name] is None or 0 <= tags[name] <= 1 for name in REGRESSION_TAGS)
        assert tags["signal-to-noise ratio"] == pytest.approx(arrangement.recording.signal_to_noise_db / 60)
        if not {"bass", "drums"} & {player.tag for player in arrangement.players}:
            found += 1
            # chords of two quarter notes at 60 quarters per minute are too slow: raised to 1.2 notes per second
            assert tags["note rate"] == pytest.approx(1.2 / 12, abs=0.01)
            assert tags["simultaneous parts"] == pytest.approx(4 / 6, abs=0.1)
            assert tags["polyphonic"] == 1.0
    assert found > 20
    solos = [a for a in (arrange(tune(), 10.0, generator(seed)) for seed in range(40)) if len(a.players) == 1]
    assert solos
    for arrangement in solos:
        assert arrangement.tags["polyphonic"] == 0.0
        assert arrangement.tags["simultaneous parts"] == pytest.approx(1 / 6, abs=0.01)
        assert arrangement.tags["median pitch"] == pytest.approx(
            (np.median(arrangement.players[0].notes[:, 2]) - 36) / 60, abs=0.03
        )


def test_harmony_names_the_triads_of_the_bars():
    bars = bars_of((4, 4), 8.0)
    notes = [(0, 1, 60), (1, 1, 64), (2, 2, 67), (4, 1, 69), (5, 1, 72), (6, 2, 76)]
    assert harmony(np.array(notes, dtype=float), bars).tolist() == [0, 12 + 9]  # C major, A minor


@pytest.mark.parametrize(("meter", "hits"), [((4, 4), [0, 2]), ((3, 4), [0]), ((6, 8), [0])])
def test_the_kick_marks_the_downbeats(meter, hits):
    bars = bars_of(meter, 1.0)
    notes = drum_part(bars, generator(0))
    assert sorted(notes[notes[:, 2] == 36, 0] / bars.beat_quarters) == hits


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        (
            {"collection": "oneill"},
            {"irish": 1, "german": 0, "chinese": 0, "reel": None, "jig": None, "dance tune": None},
        ),
        ({"collection": "oneill", "rhythm": "slip jig"}, {"jig": 1, "reel": 0, "hornpipe": 0, "dance tune": 1}),
        ({"collection": "ryan", "rhythm": "clog"}, {"hornpipe": None, "reel": 0, "irish": None, "dance tune": 1}),
        ({"collection": "aird"}, {"irish": None, "german": None, "chinese": 0, "hornpipe": None}),
        ({"origin": "Europa, Mitteleuropa, Deutschland"}, {"german": 1, "chinese": 0, "irish": 0, "reel": 0}),
        ({"origin": "China, Shanxi"}, {"german": 0, "chinese": 1, "irish": 0, "renaissance polyphony": 0}),
        ({"origin": "Luxemburg"}, {"german": None, "chinese": 0, "irish": 0}),
        ({"origin": None}, {"german": None, "chinese": None, "irish": None}),
        ({"rhythm": "tanz - lied"}, {"dance tune": None, "reel": 0}),
        ({"meter": (3, 8)}, {"triple": 1, "compound": None}),
        ({"meter": (9, 8)}, {"triple": 1, "compound": 1}),
        ({"meter": (6, 8)}, {"triple": 0, "compound": 1}),
        ({"meter": None}, {"triple": None, "compound": None}),
    ],
)
def test_what_the_score_does_not_say_is_unknown(about, expected):
    tags = score_tags(replace(tune(), **about))
    assert {name: tags[name] for name in expected} == expected


def test_written_polyphony_is_tagged_by_its_age():
    ages = ("renaissance polyphony", "baroque polyphony")
    values = {
        name: [score_tags(voices(collection=name))[age] for age in ages] for name in ("palestrina", "bach", "trecento")
    }
    assert values == {"palestrina": [1, 0], "bach": [0, 1], "trecento": [0, 0]}
    assert [score_tags(voices(collection="monteverdi"))[age] for age in ages] == [None, None]
    assert score_tags(voices())["irish"] == 0
    assert arrange(replace(tune(), meter=None), SECONDS, generator(0)).tags["triple"] is None
