"""Songs whose labels are not in a catalogue: in folder names, in tables of words, inside the files."""

from __future__ import annotations

from pathlib import Path

import av
import mutagen
import numpy as np
import pytest
import soundfile
from mutagen.id3 import TCON

from musictag import cli
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.manifest import Manifest
from tests.helpers.catalogues import synthetic_song

#: Formats that libsndfile cannot write, with FFmpeg's codec for them.
_CODECS = {".m4a": "aac", ".wma": "wmav2", ".wv": "wavpack"}


def write_song(path: Path, seed: int = 0) -> Path:
    """One second of sound, in the format of the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    song = synthetic_song(1.0, seed % 2 == 0, False, 0.5, seed=seed)
    if (codec := _CODECS.get(path.suffix)) is None:
        soundfile.write(path, song, 16000)
        return path
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=44100, layout="mono")
        stream.bit_rate = 64000
        frame = av.AudioFrame.from_ndarray(np.repeat(song, 2)[None], format="fltp", layout="mono")
        frame.rate = 44100
        for chunk in (*av.AudioResampler(stream.format, "mono", 44100).resample(frame), None):
            for packet in stream.encode(chunk):
                container.mux(packet)
    return path


def write_folders(folder: Path, songs: dict[str, int]) -> None:
    """Write the given number of songs to each of the folders below ``folder``."""
    for seed, (name, count) in enumerate(songs.items()):
        for number in range(count):
            write_song(folder / name / f"{number:05d}.wav", 100 * seed + number)


def write_tags(path: Path, **fields: object) -> None:
    """Write tags under the names of this file's format; ``fields`` use ID3's names, such as ``genre``."""
    audio = mutagen.File(path)
    if audio.tags is None:
        audio.add_tags()
    for name, value in fields.items():
        if name == "genre":
            audio.tags.add(TCON(encoding=3, text=value))
        elif hasattr(value, "FrameID"):
            audio.tags.add(value)
        else:
            audio.tags[name] = value
    audio.save()


def make(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Runs `musictag catalogue`, which must succeed; returns the report."""
    capsys.readouterr()
    assert cli.main(["catalogue", *map(str, arguments)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refuse(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Runs `musictag catalogue`, which must fail; returns the message."""
    capsys.readouterr()
    assert cli.main(["catalogue", *map(str, arguments)]) == 1
    return capsys.readouterr().err


def trainable(path: Path, capsys: pytest.CaptureFixture[str], *options: str | Path) -> Manifest:
    """The manifest of a catalogue in which `musictag data check` finds no error, and whose tags can be learned."""
    assert cli.main(["data", "check", str(path), *map(str, options)]) == 0, capsys.readouterr().out
    root = options[1] if options else None
    source = CatalogueFile(path, root)
    manifest = source.manifest()
    assert source.learnable_manifest().tags == manifest.tags
    capsys.readouterr()
    return manifest


def tag_table(manifest: Manifest) -> dict[str, set[str]]:
    """Which songs have each tag."""
    return {tag.name: set(manifest.paths[manifest.values(tag.name) == 1]) for tag in manifest.tags}
