"""The instruments of songbook: General MIDI programs that can be told apart by ear, with one tag each.

Programs share a tag if they are variants of an instrument (kinds of saxophone, of organ) and sound alike. Instruments
that the default SoundFont renders too much like another one (viola, recorder, ocarina, ...) are left out.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Instrument:
    """``programs`` count from 0 as in MIDI bytes; ``lowest`` and ``highest`` are the MIDI pitches used here."""

    tag: str
    programs: tuple[int, ...]
    lowest: int
    highest: int
    sustains: bool = True  # keeps sounding for the whole note, so that a drone of one note per bar stays audible
    chordal: bool = False  # plays several notes at once: may accompany, or play all voices of a piece


INSTRUMENTS = (
    Instrument("piano", (0, 3), 40, 88, sustains=False, chordal=True),
    Instrument("harpsichord", (6,), 40, 84, sustains=False, chordal=True),
    Instrument("organ", (16, 19), 43, 84, chordal=True),
    Instrument("accordion", (21, 23), 50, 86, chordal=True),
    Instrument("harmonica", (22,), 57, 86),
    Instrument("acoustic guitar", (24, 25), 43, 79, sustains=False, chordal=True),
    Instrument("electric guitar", (27,), 43, 79, sustains=False, chordal=True),
    Instrument("distorted guitar", (29, 30), 43, 79),
    Instrument("violin", (40, 110), 58, 91),
    Instrument("cello", (42,), 38, 67),
    Instrument("string ensemble", (48, 49), 43, 86, chordal=True),
    Instrument("harp", (46,), 43, 86, sustains=False, chordal=True),
    Instrument("choir", (52,), 48, 79, chordal=True),
    Instrument("trumpet", (56,), 57, 82),
    Instrument("french horn", (60,), 46, 74),
    Instrument("saxophone", (64, 65, 66), 50, 80),
    Instrument("oboe", (68,), 57, 86),
    Instrument("clarinet", (71,), 52, 86),
    Instrument("bassoon", (70,), 38, 67),
    Instrument("flute", (73,), 62, 93),
    Instrument("pan flute", (75,), 60, 89),
    Instrument("music box", (8, 10), 60, 93, sustains=False, chordal=True),
    Instrument("vibraphone", (11,), 53, 86, sustains=False, chordal=True),
    Instrument("xylophone", (12, 13), 57, 91, sustains=False),
    Instrument("banjo", (105,), 50, 81, sustains=False),
    Instrument("sitar", (104,), 48, 77, sustains=False),
    Instrument("koto", (107,), 50, 81, sustains=False),
    Instrument("bagpipe", (109,), 57, 82),
    Instrument("synth lead", (81,), 52, 86),
    Instrument("synth pad", (89, 94), 45, 82, chordal=True),
)
BASS = Instrument("bass", (32, 33, 34), 28, 50, sustains=False)
DRUMS = Instrument("drums", (0, 16), 35, 51, sustains=False)  # programs of bank 128, on MIDI channel 10

BY_TAG = {instrument.tag: instrument for instrument in (*INSTRUMENTS, BASS, DRUMS)}


def needed_presets() -> set[tuple[int, int]]:
    """All (bank, program) that an arrangement may need from a SoundFont."""
    melodic = {(0, program) for instrument in (*INSTRUMENTS, BASS) for program in instrument.programs}
    return melodic | {(128, program) for program in DRUMS.programs}
