"""Cuts the presets of one song out of a SoundFont, for a synthesiser whose clock runs slower.

The synthesiser always makes 48,000 samples per second, and spends more than half of its time on effects that are
switched off; it also reads the whole SoundFont for every song. So it gets a small one in which everything that is
measured in seconds or hertz is written for half the rate: played at twice the speed, its samples are those of a
synthesiser at 24 kHz. The names of records and generators are those of the SoundFont Technical Specification 2.04.
Modulators are left out: the synthesiser does not read them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise

import numpy as np

SLOWDOWN = 2
_OCTAVE_CENTS = 1200  # a factor of SLOWDOWN, in the cents of generators

_INSTRUMENT, _SAMPLE = 41, 53  # generators that end a zone; without one, the first zone holds defaults of the others
#: delayModLFO, delayVibLFO, delay, attack, hold, decay, release of the modulation and of the volume envelope.
_TIMES = frozenset((21, 23, 25, 26, 27, 28, 30, 33, 34, 35, 36, 38))
#: initialFilterFc, freqModLFO, freqVibLFO, and what they are where they are not given.
_FREQUENCIES = {8: 13500, 22: 0, 24: 0}

_PHDR, _INST, _SHDR = struct.Struct("<20sHHHIII"), struct.Struct("<20sH"), struct.Struct("<20sIIIIIBbHH")
_GUARD_SAMPLES = 46  # after each sample, as the specification asks
_NO_MODULATOR = bytes(10)
CHUNKS = ("phdr", "pbag", "pgen", "inst", "ibag", "igen", "shdr", "smpl")

Zone = list[tuple[int, int]]  # generators and their amounts, unsigned


class Presets:
    """The presets of the SoundFont ``content``, whose ``chunks`` are name -> (offset, size)."""

    def __init__(self, content: bytes, chunks: dict[str, tuple[int, int]]) -> None:
        data = {name: content[chunks[name][0] : sum(chunks[name])] for name in CHUNKS[:-1]}
        self._ifil = content[chunks["ifil"][0] : sum(chunks["ifil"])]
        start, size = chunks["smpl"]
        self._waves = np.frombuffer(content, dtype="<i2", offset=start, count=size // 2)
        whole = {name: data[name][: len(data[name]) - len(data[name]) % kind.size]
                 for name, kind in (("phdr", _PHDR), ("inst", _INST), ("shdr", _SHDR))}  # fmt: skip
        presets, self._instruments = [*_PHDR.iter_unpack(whole["phdr"])], [*_INST.iter_unpack(whole["inst"])]
        # of each table the last record only marks the end
        self._bags = {(bank, program): (first, after[3]) for (_, program, bank, first, *_), after in pairwise(presets)}
        self._samples = [*_SHDR.iter_unpack(whole["shdr"])]
        pairs = lambda name: np.frombuffer(data[name], "<u2", count=len(data[name]) // 4 * 2).reshape(-1, 2)  # noqa: E731
        self._preset_zones = pairs("pbag")[:, 0].tolist(), pairs("pgen").tolist()
        self._instrument_zones = pairs("ibag")[:, 0].tolist(), pairs("igen").tolist()

    def missing(self, presets: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Which of the (bank, program) there are not."""
        return sorted(preset for preset in presets if preset not in self._bags)

    def cut(self, presets: Iterable[tuple[int, int]]) -> bytes:
        """A SoundFont with only these (bank, program), at a clock that runs ``SLOWDOWN`` times slower.

        Raises KeyError for a preset that there is not, IndexError or struct.error for damaged tables.
        """
        tables = {name: bytearray() for name in CHUNKS}
        instruments: dict[int, int] = {}  # old number -> new
        samples: dict[int, int] = {}
        for bank, program in sorted(presets):
            tables["phdr"] += _PHDR.pack(b"", program, bank, len(tables["pbag"]) // 4, 0, 0, 0)
            for zone in _zones(*self._preset_zones, *self._bags[bank, program]):
                if zone and zone[-1][0] == _INSTRUMENT:
                    zone[-1] = (_INSTRUMENT, instruments.setdefault(zone[-1][1], len(instruments)))
                _append(tables["pbag"], tables["pgen"], zone)
        for old in instruments:
            tables["inst"] += _INST.pack(b"", len(tables["ibag"]) // 4)
            defaults: Zone = []
            for zone in _zones(*self._instrument_zones, self._instruments[old][1], self._instruments[old + 1][1]):
                if zone and zone[-1][0] == _SAMPLE:
                    given = {kind for kind, _ in (*zone, *defaults)}
                    zone[-1:] = [(kind, cents) for kind, cents in _FREQUENCIES.items() if kind not in given] + [
                        (_SAMPLE, samples.setdefault(zone[-1][1], len(samples)))
                    ]
                else:
                    defaults = zone
                _append(tables["ibag"], tables["igen"], [_slower(kind, amount) for kind, amount in zone])
        waves: list[np.ndarray] = []
        position = 0
        for old in samples:
            _, first, last, loop_first, loop_last, rate, *rest = self._samples[old]
            waves.append(self._waves[first : last + _GUARD_SAMPLES])
            moved = (number - first + position for number in (first, last, loop_first, loop_last))
            tables["shdr"] += _SHDR.pack(b"", *moved, rate * SLOWDOWN, *rest)
            position += len(waves[-1])
        return self._file(tables, waves)

    def _file(self, tables: dict[str, bytearray], waves: list[np.ndarray]) -> bytes:
        tables["phdr"] += _PHDR.pack(b"EOP", 0, 0, len(tables["pbag"]) // 4, 0, 0, 0)
        tables["inst"] += _INST.pack(b"EOI", len(tables["ibag"]) // 4)
        tables["shdr"] += _SHDR.pack(b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0)
        for bags, generators in (("pbag", "pgen"), ("ibag", "igen")):
            _append(tables[bags], tables[generators], [(0, 0)])
        names = ("phdr", "pbag", "pmod", "pgen", "inst", "ibag", "imod", "igen", "shdr")
        body = b"sfbk" + b"".join(
            (
                _chunk(b"LIST", b"INFO" + _chunk(b"ifil", self._ifil)),
                _chunk(b"LIST", b"sdta" + _chunk(b"smpl", b"".join(wave.tobytes() for wave in waves))),
                _chunk(
                    b"LIST", b"pdta" + b"".join(_chunk(n.encode(), bytes(tables.get(n, _NO_MODULATOR))) for n in names)
                ),
            )
        )
        return _chunk(b"RIFF", body)


def _zones(bags: list[int], generators: list[list[int]], first: int, last: int) -> list[Zone]:
    return [[(kind, amount) for kind, amount in generators[bags[i] : bags[i + 1]]] for i in range(first, last)]


def _append(bags: bytearray, generators: bytearray, zone: Zone) -> None:
    bags += struct.pack("<HH", len(generators) // 4, 0)
    for generator in zone:
        generators += struct.pack("<HH", *generator)


def _slower(kind: int, amount: int) -> tuple[int, int]:
    """A generator of an instrument for the slower clock: times are half as long, frequencies an octave higher."""
    octaves = -1 if kind in _TIMES else 1 if kind in _FREQUENCIES else 0
    signed = (amount ^ 0x8000) - 0x8000
    return kind, (max(signed + octaves * _OCTAVE_CENTS, -0x8000) if octaves else signed) & 0xFFFF


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
