"""A standard MIDI file of one track, as bytes: what a synthesiser needs and no more."""

from __future__ import annotations

import struct
from collections.abc import Iterable

TICKS_PER_SECOND = 1920  # 960 ticks a quarter note at MIDI's default tempo of 120 quarters a minute
DRUM_CHANNEL = 9
_VOLUME, _PAN, _EXPRESSION, _REVERB, _CHORUS, _FINE = 7, 10, 11, 91, 93, 32
_BEND_RANGE_CENTS = 200.0


def channel_setup(channel: int, program: int, volume: float = 1.0, detune_cents: float = 0.0) -> bytes:
    """Messages of a channel before its first note, each after a delta time of 0.

    ``volume`` in (0, 1] is written with 14 bits. The synthesiser's own reverb and chorus are switched off: rooms are
    this package's business. ``detune_cents`` is bent, and stays within ±200.
    """
    fine = round(volume * 16383)
    bend = 8192 + round(8192 * detune_cents / _BEND_RANGE_CENTS)
    control = 0xB0 | channel
    messages = [
        bytes((0xC0 | channel, program)),
        bytes((control, _VOLUME, fine >> 7)),
        bytes((control, _VOLUME + _FINE, fine & 127)),
        bytes((control, _EXPRESSION, 127)),
        bytes((control, _PAN, 64)),
        bytes((control, _REVERB, 0)),
        bytes((control, _CHORUS, 0)),
        bytes((0xE0 | channel, bend & 127, bend >> 7)),
    ]
    return b"".join(b"\0" + message for message in messages)


def midi_file(setup: bytes, notes: Iterable[tuple[int, float, float, int, int]], seconds: float) -> bytes:
    """``setup`` from ``channel_setup``, then notes of (channel, onset, duration in seconds, pitch, velocity).

    The track ends after ``seconds``; what would sound longer is cut there. A note ends before the next one of the same
    pitch and channel starts, and lasts one tick at least.
    """
    end = round(seconds * TICKS_PER_SECOND)
    rows = sorted((channel, pitch, round(onset * TICKS_PER_SECOND), duration, velocity)
                  for channel, onset, duration, pitch, velocity in notes)  # fmt: skip
    events: list[tuple[int, int, bytes]] = []
    for index, (channel, pitch, start, duration, velocity) in enumerate(rows):
        stop = start + max(round(duration * TICKS_PER_SECOND), 1)
        if index + 1 < len(rows) and rows[index + 1][:2] == (channel, pitch):
            stop = min(stop, max(rows[index + 1][2], start + 1))
        if start < end:
            # at equal times notes end before others start
            events.append((start, 1, bytes((0x90 | channel, pitch, velocity))))
            events.append((min(stop, end), 0, bytes((0x80 | channel, pitch, 0))))
    events.sort()
    track = [setup]
    now = 0
    for tick, _, message in events:
        track.append(_variable_length(tick - now) + message)
        now = tick
    track.append(_variable_length(end - now) + b"\xff\x2f\x00")
    body = b"".join(track)
    head = struct.pack(">4sIHHH", b"MThd", 6, 0, 1, TICKS_PER_SECOND // 2)
    return head + struct.pack(">4sI", b"MTrk", len(body)) + body


def _variable_length(number: int) -> bytes:
    """MIDI's seven bits a byte, most significant first, all but the last with the eighth bit set."""
    encoded = [number & 127]
    while number := number >> 7:
        encoded.append(number & 127 | 128)
    return bytes(reversed(encoded))
