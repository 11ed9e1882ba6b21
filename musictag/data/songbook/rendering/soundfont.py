"""The SoundFont: where it is, whether it can be used, and which presets it has.

A SoundFont is a RIFF file of form ``sfbk``. The format is described in the SoundFont Technical Specification 2.04.
Version 3 (.sf3, never published as a standard) is the same with compressed samples, which the synthesiser cannot read.
"""

from __future__ import annotations

import hashlib
import importlib.util
import struct
from functools import lru_cache
from pathlib import Path

from musictag.common.errors import MusictagError
from musictag.data.songbook.arrangement.instruments import needed_presets
from musictag.data.songbook.rendering.presets import CHUNKS, Presets

_DEFAULT_FILE = "TimGM6mb.sf2"
_ADVICE = "use `soundfont=null` for the one that comes with pretty_midi, or a General MIDI .sf2 file"


def find_soundfont(path: str | Path | None = None) -> Path:
    """``path`` itself, or the General MIDI SoundFont inside the ``pretty_midi`` package (which is not imported).

    Raises MusictagError if there is no such file.
    """
    if path is not None:
        if not Path(path).is_file():
            raise MusictagError(f"no SoundFont at {path}: {_ADVICE}")
        return Path(path)
    package = importlib.util.find_spec("pretty_midi")
    if package is None:
        raise MusictagError(
            "songbook's SoundFont comes with pretty_midi, which is not installed: pip install pretty_midi"
        )
    for folder in package.submodule_search_locations or ():
        if (file := Path(folder) / _DEFAULT_FILE).is_file():
            return file
    raise MusictagError(
        f"pretty_midi is installed without its {_DEFAULT_FILE}: pip install --force-reinstall pretty_midi, or use "
        "a General MIDI .sf2 file with `soundfont`"
    )


def read_soundfont(path: Path) -> Presets:
    """The presets of a version 2 SoundFont that holds every one that an arrangement may need.

    A missing program would sound as a piano or not at all, with a tag that says otherwise; so this raises MusictagError
    for a file that is not a SoundFont, is compressed, cut short or damaged, or lacks presets.
    """
    content = path.read_bytes()
    if len(content) < 12 or content[:4] != b"RIFF" or content[8:12] != b"sfbk":
        raise MusictagError(f"{path} is not a SoundFont (it does not begin as a RIFF file of form sfbk): {_ADVICE}")
    declared = struct.unpack_from("<I", content, 4)[0] + 8
    if declared > len(content):
        raise MusictagError(f"{path} is cut short: it has {len(content)} of {declared} bytes. Download it again")
    chunks = _riff_chunks(content, 12, declared)
    if missing := [name for name in ("ifil", *CHUNKS) if chunks.get(name, (0, 0))[1] < 4]:
        raise MusictagError(f"{path} is a damaged SoundFont (no {', '.join(missing)} chunk): {_ADVICE}")
    version = struct.unpack_from("<H", content, chunks["ifil"][0])[0]
    if version == 3 or content.startswith(b"OggS", chunks["smpl"][0]):
        raise MusictagError(
            f"{path} is a SoundFont with compressed samples (version 3, .sf3), which the synthesiser cannot read: "
            f"convert it to .sf2, for example with Polyphone, or {_ADVICE}"
        )
    if version != 2:
        raise MusictagError(f"{path} is a SoundFont of version {version}, but only 2 is supported: {_ADVICE}")
    try:
        presets = Presets(content, chunks)
        absent = presets.missing(needed_presets())
        if not absent:
            presets.cut(needed_presets())
    except (IndexError, ValueError, struct.error) as error:
        raise MusictagError(f"{path} is a damaged SoundFont (its tables contradict each other): {_ADVICE}") from error
    if absent:
        shown = ", ".join(f"bank {bank} program {program}" for bank, program in absent[:12])
        more = f" and {len(absent) - 12} more" if len(absent) > 12 else ""
        raise MusictagError(f"{path} lacks presets that songbook plays (counted from 0): {shown}{more}; {_ADVICE}")
    return presets


def _riff_chunks(content: bytes, start: int, stop: int) -> dict[str, tuple[int, int]]:
    """Name -> (offset, size) of the chunks between two offsets, also inside LIST chunks; sizes end with ``stop``."""
    found: dict[str, tuple[int, int]] = {}
    position = start
    while position + 8 <= stop:
        name, size = struct.unpack_from("<4sI", content, position)
        if name == b"LIST":
            found |= _riff_chunks(content, position + 12, min(position + 8 + size, stop))
        else:
            found[name.decode("latin-1")] = (position + 8, min(size, stop - position - 8))
        position += 8 + size
        # RIFF pads odd chunks with a zero, which the usual writer of .sf3 files omits
        if size % 2 and content[position : position + 1] == b"\0":
            position += 1
    return found


@lru_cache(maxsize=8)
def short_sha256(path: Path, size: int, modified_ns: int) -> str:
    """First 16 hexadecimal digits of a file's SHA-256, cached by ``size`` and ``modified_ns``, which change with it."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:16]
