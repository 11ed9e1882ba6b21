"""The SoundFont: where it is, whether it can be used, which presets it has.

A SoundFont is a RIFF file of form ``sfbk``. The format is described in the SoundFont Technical Specification 2.04;
version 3 is the same with compressed samples, which ``musictag.data.songbook.sf3`` decodes for the synthesiser.
"""

from __future__ import annotations

import hashlib
import importlib.util
import struct
from functools import lru_cache
from pathlib import Path

from musictag.data.songbook.instruments import needed_presets
from musictag.data.songbook.sf3 import cached_sf2, is_compressed, riff_chunks
from musictag.errors import MusictagError

_DEFAULT_FILE = "TimGM6mb.sf2"
_PRESET_HEADER = struct.Struct("<20sHH14x")
_ADVICE = "leave `soundfont` at null for the one that comes with pretty_midi, or name a General MIDI .sf2 or .sf3 file"


def find_soundfont(path: str | Path | None = None) -> Path:
    """``path`` itself, or the General MIDI SoundFont inside the ``pretty_midi`` package (which is not imported).

    Raises MusictagError where there is no such file.
    """
    if path is not None:
        if not Path(path).is_file():
            raise MusictagError(f"no SoundFont at {path}: {_ADVICE}")
        return Path(path)
    package = importlib.util.find_spec("pretty_midi")
    if package is None:
        raise MusictagError("songbook's SoundFont comes with pretty_midi, which is missing: pip install pretty_midi")
    for folder in package.submodule_search_locations or ():
        if (file := Path(folder) / _DEFAULT_FILE).is_file():
            return file
    raise MusictagError(
        f"pretty_midi is installed without its {_DEFAULT_FILE}: pip install --force-reinstall pretty_midi, or name "
        "a General MIDI .sf2 or .sf3 file with `soundfont`"
    )


def read_soundfont(path: Path, cache_dir: Path | None = None) -> bytes:
    """The bytes of a SoundFont, as version 2, that holds every preset an arrangement may ask for.

    One with compressed samples (version 3, .sf3) is decompressed first, which takes seconds; with a ``cache_dir`` the
    result is kept there for the next process.

    A program that is absent would sound as a piano or not at all, under a tag that says otherwise; so this raises
    MusictagError for a file that is no SoundFont, is cut short or damaged, or lacks presets.
    """
    content = path.read_bytes()
    if len(content) < 12 or content[:4] != b"RIFF" or content[8:12] != b"sfbk":
        raise MusictagError(f"{path} is no SoundFont (it does not begin as a RIFF file of form sfbk): {_ADVICE}")
    declared = struct.unpack_from("<I", content, 4)[0] + 8
    if declared > len(content):
        raise MusictagError(f"{path} is cut short: {len(content)} of {declared} bytes are there. Fetch it again")
    chunks = riff_chunks(content)
    if missing := [name for name in ("ifil", "smpl", "phdr") if chunks.get(name, (0, 0))[1] < 4]:
        raise MusictagError(f"{path} is a damaged SoundFont (no {', '.join(missing)} chunk): {_ADVICE}")
    if (version := struct.unpack_from("<H", content, chunks["ifil"][0])[0]) not in (2, 3):
        raise MusictagError(f"{path} is a SoundFont of version {version}, and only 2 and 3 can be read: {_ADVICE}")
    start, size = chunks["phdr"]
    headers = list(_PRESET_HEADER.iter_unpack(content[start : start + size - size % _PRESET_HEADER.size]))
    present = {(bank, program) for _, program, bank in headers[:-1]}  # the last one marks the end
    if absent := sorted(needed_presets() - present):
        shown = ", ".join(f"bank {bank} program {program}" for bank, program in absent[:12])
        more = f" and {len(absent) - 12} more" if len(absent) > 12 else ""
        raise MusictagError(f"{path} lacks presets that songbook plays (counted from 0): {shown}{more}; {_ADVICE}")
    return cached_sf2(content, path, cache_dir) if is_compressed(content, chunks) else content


@lru_cache(maxsize=8)
def short_sha256(path: Path, size: int, modified_ns: int) -> str:
    """First 16 hexadecimal digits of a file's SHA-256; ``size`` and ``modified_ns`` make a changed file a new one."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:16]
