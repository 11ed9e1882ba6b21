"""Writes notes as a standard MIDI file with one track, with mido: what a synthesiser needs and no more."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from mido import Message, MetaMessage, MidiFile, MidiTrack

TICKS_PER_SECOND = 1920  # 960 ticks per quarter note at MIDI's default tempo of 120 quarters per minute
DRUM_CHANNEL = 9
_VOLUME, _PAN, _EXPRESSION, _REVERB, _CHORUS, _FINE = 7, 10, 11, 91, 93, 32
_BEND_RANGE_CENTS = 200.0


def channel_setup(channel: int, program: int, volume: float = 1.0, detune_cents: float = 0.0) -> list[Message]:
    """Messages of a channel before its first note.

    ``volume`` in (0, 1] is written with 14 bits. The synthesiser's own reverb and chorus are switched off: effects.py
    makes the room. ``detune_cents`` is done by pitch bend, and stays within ±200.
    """
    fine = round(volume * 16383)
    controls = (
        (_VOLUME, fine >> 7), (_VOLUME + _FINE, fine & 127), (_EXPRESSION, 127), (_PAN, 64), (_REVERB, 0), (_CHORUS, 0),
    )  # fmt: skip
    return [
        Message("program_change", channel=channel, program=program),
        *(Message("control_change", channel=channel, control=control, value=value) for control, value in controls),
        Message("pitchwheel", channel=channel, pitch=round(8192 * detune_cents / _BEND_RANGE_CENTS)),
    ]


def midi_file(setup: Sequence[Message], notes: Iterable[tuple[int, float, float, int, int]], seconds: float) -> bytes:
    """``setup`` from ``channel_setup``, then notes of (channel, onset, duration in seconds, pitch, velocity).

    The track ends after ``seconds``; longer notes are cut there. A note ends before the next one of the same pitch and
    channel starts, and lasts at least one tick.
    """
    end = round(seconds * TICKS_PER_SECOND)
    rows = sorted((channel, pitch, round(onset * TICKS_PER_SECOND), duration, velocity)
                  for channel, onset, duration, pitch, velocity in notes)  # fmt: skip
    events: list[tuple[int, bool, int, int, int]] = []
    for index, (channel, pitch, start, duration, velocity) in enumerate(rows):
        stop = start + max(round(duration * TICKS_PER_SECOND), 1)
        if index + 1 < len(rows) and rows[index + 1][:2] == (channel, pitch):
            stop = min(stop, max(rows[index + 1][2], start + 1))
        if start < end:
            # at equal times notes end before others start
            events += [(start, True, channel, pitch, velocity), (min(stop, end), False, channel, pitch, 0)]
    track = MidiTrack(setup)
    now = 0
    for tick, starts, channel, pitch, velocity in sorted(events):
        kind = "note_on" if starts else "note_off"
        track.append(Message(kind, channel=channel, note=pitch, velocity=velocity, time=tick - now))
        now = tick
    track.append(MetaMessage("end_of_track", time=end - now))
    file = io.BytesIO()
    MidiFile(type=0, ticks_per_beat=TICKS_PER_SECOND // 2, tracks=[track]).save(file=file)
    return file.getvalue()
