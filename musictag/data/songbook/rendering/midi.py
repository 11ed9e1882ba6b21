"""Writes notes as a standard MIDI file with one track: what a synthesiser needs and no more."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

TICKS_PER_SECOND = 1920  # of the clip
DRUM_CHANNEL = 9
_QUARTERS_PER_SECOND = 2  # MIDI's default tempo
_PROGRAM, _CONTROL, _BEND, _NOTE_ON, _NOTE_OFF = 0xC0, 0xB0, 0xE0, 0x90, 0x80
_VOLUME, _PAN, _EXPRESSION, _REVERB, _CHORUS, _FINE = 7, 10, 11, 91, 93, 32
_BEND_RANGE_CENTS = 200.0


def channel_setup(channel: int, program: int, volume: float = 1.0, detune_cents: float = 0.0) -> list[bytes]:
    """Messages of a channel before its first note.

    ``volume`` in (0, 1] is written with 14 bits. The synthesiser's own reverb and chorus are switched off: effects.py
    makes the room. ``detune_cents`` is done by pitch bend, and stays within ±200.
    """
    fine = round(volume * 16383)
    controls = (
        (_VOLUME, fine >> 7), (_VOLUME + _FINE, fine & 127), (_EXPRESSION, 127), (_PAN, 64), (_REVERB, 0), (_CHORUS, 0),
    )  # fmt: skip
    bend = 8192 + round(8192 * detune_cents / _BEND_RANGE_CENTS)
    return [
        bytes((_PROGRAM | channel, program)),
        *(bytes((_CONTROL | channel, control, value)) for control, value in controls),
        bytes((_BEND | channel, bend & 127, bend >> 7)),
    ]


def midi_file(
    setup: Sequence[bytes], notes: Iterable[tuple[int, float, float, int, int]], seconds: float, speed: int = 1
) -> bytes:
    """``setup`` from ``channel_setup``, then notes of (channel, onset, duration in seconds, pitch, velocity).

    The track ends after ``seconds``; longer notes are cut there. A note ends before the next one of the same pitch and
    channel starts, and lasts at least one tick. Everything is played ``speed`` times as fast.
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
    track = bytearray()
    for message in setup:
        track += b"\0" + message
    now = 0
    for tick, starts, channel, pitch, velocity in sorted(events):
        track += _variable_length(tick - now) + bytes(((_NOTE_ON if starts else _NOTE_OFF) | channel, pitch, velocity))
        now = tick
    track += _variable_length(end - now) + b"\xff\x2f\0"
    division = TICKS_PER_SECOND * speed // _QUARTERS_PER_SECOND
    header = struct.pack(">4sIHHH", b"MThd", 6, 0, 1, division)
    return header + struct.pack(">4sI", b"MTrk", len(track)) + bytes(track)


def _variable_length(ticks: int) -> bytes:
    """Seven bits a byte, the most significant first; all bytes but the last have their top bit set."""
    groups = [ticks & 127]
    while ticks := ticks >> 7:
        groups.append(ticks & 127 | 128)
    return bytes(reversed(groups))
