"""`musictag undo`: files as they were before `musictag tag --write`."""

from __future__ import annotations

import argparse

from musictag.common.errors import SongError
from musictag.common.paths import path_argument
from musictag.common.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag undo`."""
    parser.description = (
        "Take back what musictag tag --write has written into files, with the journal that it kept. A file that has "
        "not been changed since becomes what it was, byte for byte; in others the field alone gets its old content. "
        "It can be repeated at any time, also after an interruption."
    )
    parser.add_argument("journal", type=path_argument, metavar="JOURNAL", help="the .jsonl that musictag tag named")
    parser.set_defaults(kept="; repeat the command to take back the rest")


def run(arguments: argparse.Namespace) -> int:
    """Take back a journal; returns the exit status, 1 if a file could not be changed. Errors: see ``undo``."""
    from musictag.library.writing import undo

    failed = 0
    for path, said in undo(arguments.journal):
        failed += isinstance(said, SongError)
        print(printable(f"{path}: {said}"), flush=True)
    return 1 if failed else 0
