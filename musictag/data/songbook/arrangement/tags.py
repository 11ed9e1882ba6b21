"""The tags of songbook's songs, and why each value is true. An unknown value is None, never 0.

instruments, bass, drums
        1: plays for a third of the clip or more, at most 6 dB (`quietest_db`) below the loudest; of two pieces at once,
        those of both. 0: does not play. Never unknown.
solo
        1: a single player. 0: two or more. Never unknown.
polyphonic
        1: different pitch classes sound together half of the time or more. 0: at most a tenth. Unknown in between.
german
        1: Essen's songs from Germany. 0: its songs from China and Ireland, O'Neill, reels, jigs and similar dances,
        composers of other countries. Unknown: other regions (many speak German), Bach, tunes of any country.
chinese
    1: Essen's songs from China. 0: other regions, all other collections. Unknown: Essen's songs without a region.
irish
    1: O'Neill's "Music of Ireland", Essen's songs from Ireland. 0: other regions, composers. Unknown: Aird, Ryan and
    other books with tunes of any country.
renaissance polyphony, baroque polyphony
    1: several voices, by a composer of that era. 0: tunes of one voice, composers of other eras. Unknown: others.
dance tune
    1: printed with a dance's rhythm, or in Ryan's book of dances. 0: Mass, motet, madrigal, chorale, folk song.
    Unknown: tunes without a rhythm, airs and marches, songs for dancing, other composers.
reel, jig, hornpipe
    1: the rhythm printed with the tune (slip jigs are jigs). 0: another one; Mass, motet, madrigal, chorale, folk song.
        Unknown: no rhythm; for hornpipe also clogs, and for jig slides, which are closely related.
triple, compound
        From the time signature; players accent downbeats. Unknown: none, or changing; for compound also 3/8.
reverberant
    1: reverberation of 1.4 s or more, at -4 dB or louder. 0: of 0.3 s or less, at -18 dB or softer. Unknown in between.
band-limited
    1: nothing above 1.5 to 2.8 kHz, except a steep slope. 0: the full band (a codec may end
    it at 5.5 kHz). Unknown in between.
noisy
    1: signal-to-noise ratio of 14 dB or less. 0: of 28 dB or more. Unknown in between.

Repertoire, dances and meter of two pieces at once: known where both agree.

Scottish, american and strathspey are left out: the scores imply them for less than 1% of the pieces. So is the tempo:
a model trained on 11,000 songs was hardly better at it than predicting the mean.

Regression tags lie in [0, 1], clipped there:

note rate: 0 to 12 onsets per second; notes within 30 ms are one onset, drums are not counted
median pitch: MIDI pitch 36 to 96, median over the sounding time of all notes except drums
simultaneous parts: 0 to 6 simultaneous notes, mean over the time in which something sounds, without drums
signal-to-noise ratio: 0 to 60 dB, before a codec
"""

from __future__ import annotations

from musictag.data.manifest import Tag
from musictag.data.songbook.arrangement.instruments import BASS, DRUMS, INSTRUMENTS
from musictag.data.songbook.notation.score import Score

INSTRUMENT_TAGS = (*(instrument.tag for instrument in INSTRUMENTS), BASS.tag, DRUMS.tag)
CLASSIFICATION_TAGS = (
    *INSTRUMENT_TAGS,
    *("solo", "polyphonic"),
    *("german", "chinese", "irish", "renaissance polyphony", "baroque polyphony"),
    *("dance tune", "reel", "jig", "hornpipe"),
    *("triple", "compound"),
    *("reverberant", "band-limited", "noisy"),
)
REGRESSION_TAGS = ("note rate", "median pitch", "simultaneous parts", "signal-to-noise ratio")
TAGS = (*(Tag(name) for name in CLASSIFICATION_TAGS), *(Tag(name, "regression") for name in REGRESSION_TAGS))

_RENAISSANCE = {"palestrina", "josquin", "lusitano"}
_BAROQUE = {"bach", "handel", "corelli"}
_BETWEEN_AGES = {"monteverdi"}  # the books of madrigals in the corpus are from 1592 to 1605
_OTHER_AGES = {"trecento", "ciconia", "luca", "haydn", "mozart", "beethoven", "schubert", "chopin", "joplin"}
_ART = _RENAISSANCE | _BAROQUE | _BETWEEN_AGES | _OTHER_AGES
_NOT_GERMAN_ART = {"palestrina", "monteverdi", "trecento", "ciconia", "luca", "corelli", "chopin", "joplin"}
_TUNE_BOOKS = {"oneill", "aird", "ryan", "nottingham", "fife-northumbrian"}

_JIGS = {"jig", "double jig", "single jig", "slip jig", "slipjig"}
#: Danced in the British Isles and in North America, not in Germany.
_ISLE_DANCES = _JIGS | {"reel", "hornpipe", "strathspey", "clog", "slide", "highland fling", "fling", "walkaround"}
_DANCES = _ISLE_DANCES | {"waltz", "polka", "gavotte", "quadrille", "minuet"}
_OTHER_RHYTHMS = {"air", "march", "song"}
#: What a rhythm may also be: a clog is danced to a kind of hornpipe, a slide is close to a single jig.
_DOUBTFUL = {("hornpipe", "clog"), ("jig", "slide")}


def score_tags(score: Score) -> dict[str, float | None]:
    """Values of the tags that follow from the score alone: repertoire, dances, meter."""
    rhythm = score.rhythm if score.collection in _TUNE_BOOKS else None
    return _repertoire(score, rhythm) | _dances(score, rhythm) | _meter(score.meter)


def scaled(value: float, zero: float, one: float) -> float:
    """A regression target: ``zero`` becomes 0, ``one`` becomes 1, values outside are clipped."""
    return min(max((value - zero) / (one - zero), 0.0), 1.0)


def _repertoire(score: Score, rhythm: str | None) -> dict[str, float | None]:
    collection = score.collection
    german = chinese = irish = None
    if collection == "essen":
        origin = (score.origin or "").lower()
        from_china, from_ireland = "china" in origin, "irland" in origin
        if from_china or from_ireland:
            german, chinese, irish = 0.0, float(from_china), float(from_ireland)
        elif any(region in origin for region in ("europa", "luxemburg", "lothringen", "amerika", "deutschland")):
            german, chinese, irish = (1.0 if "deutschland" in origin else None), 0.0, 0.0
    elif collection in _TUNE_BOOKS:
        chinese = 0.0
        german = 0.0 if collection == "oneill" or rhythm in _ISLE_DANCES else None
        irish = 1.0 if collection == "oneill" else None
    elif collection in _ART:
        german, chinese, irish = (0.0 if collection in _NOT_GERMAN_ART else None), 0.0, 0.0
    tags = {"german": german, "chinese": chinese, "irish": irish}
    for name, age in (("renaissance polyphony", _RENAISSANCE), ("baroque polyphony", _BAROQUE)):
        if len(score.parts) == 1:
            tags[name] = 0.0
        elif collection in age:
            tags[name] = 1.0
        else:
            tags[name] = 0.0 if collection in _ART - _BETWEEN_AGES else None
    return tags


def _dances(score: Score, rhythm: str | None) -> dict[str, float | None]:
    names = {"reel": {"reel"}, "jig": _JIGS, "hornpipe": {"hornpipe"}}
    if score.collection in _TUNE_BOOKS:
        known = rhythm in _DANCES | _OTHER_RHYTHMS
        tags = {
            name: float(rhythm in alike) if known and (name, rhythm) not in _DOUBTFUL else None
            for name, alike in names.items()
        }
        danced = 1.0 if rhythm in _DANCES or score.collection == "ryan" else None
        return tags | {"dance tune": danced}
    if score.collection == "essen":
        danced = None if any(word in (score.rhythm or "") for word in ("tanz", "reigen", "taenz")) else 0.0
        return dict.fromkeys(names, 0.0) | {"dance tune": danced}
    sung = score.collection in {"palestrina", "monteverdi", "trecento", "bach", "josquin", "lusitano", "ciconia"}
    return dict.fromkeys((*names, "dance tune"), 0.0 if sung else None)


def _meter(meter: tuple[int, int] | None) -> dict[str, float | None]:
    if meter is None:
        return {"triple": None, "compound": None}
    # three eighth notes in a bar sound like half a bar of six
    compound = None if meter == (3, 8) else float(meter[0] in (6, 9, 12))
    return {"triple": float(meter[0] in (3, 9)), "compound": compound}
