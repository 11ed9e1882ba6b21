"""`musictag taggram`: tags over time, as a picture or as a page that plays along."""

from __future__ import annotations

import argparse
import os

from musictag.cli.parsing import add_model, positive
from musictag.common.errors import MusictagError, SongError
from musictag.common.paths import path_argument, song_argument

_SUFFIXES = (".png", ".html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag taggram`."""
    parser.description = (
        "Draw the tags of a song over time, below its spectrogram. A .html is one file that contains the song and "
        "marks what is heard; it opens offline."
    )
    parser.add_argument("song", type=song_argument, metavar="SONG", help="an audio file of any kind")
    add_model(parser)
    parser.add_argument(
        "-o", "--out", type=path_argument, default="taggram.png", metavar="FILE", help=".png or .html (taggram.png)"
    )
    parser.add_argument("--top", type=positive, default=10, metavar="N", help="the N highest tags (default: 10)")
    parser.add_argument(
        "--hop", type=float, default=1.0, metavar="SECONDS", help="from one column to the next (default: 1)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Draw a taggram; returns the exit status. Raises MusictagError for another kind of file, one that is there, and a
    model or song that cannot be used."""
    suffix = os.path.splitext(arguments.out)[1].lower()
    if suffix not in _SUFFIXES:
        raise MusictagError(f"--out {arguments.out} must end in {' or '.join(_SUFFIXES)}")
    if os.path.exists(arguments.out):
        raise MusictagError(f"{arguments.out} exists; delete it, or choose another --out")
    from musictag.common.files import atomic_write
    from musictag.common.text import unicode_name
    from musictag.inference.load import load
    from musictag.library.taggram import hear, taggram_page, taggram_picture

    tagger = load(arguments.model, arguments.device, arguments.trust, arguments.precision)
    try:
        name = unicode_name(os.path.basename(arguments.song))
        heard = hear(tagger, tagger.read(arguments.song), arguments.top, arguments.hop)
        content = taggram_page(name, {"": heard}).encode() if suffix == ".html" else taggram_picture(heard, name)
    except SongError as error:
        raise MusictagError(f"{arguments.song}: {error}") from error
    try:
        with atomic_write(arguments.out) as file:
            file.write(content)
    except OSError as error:
        raise MusictagError(f"{arguments.out} cannot be written: {error.strerror or error}") from error
    print(f"{arguments.out}: {len(heard.taggram.tags)} tags, {len(heard.taggram.times)} columns")
    return 0
