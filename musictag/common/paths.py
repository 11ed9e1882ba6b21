"""User-supplied paths: ``~`` is the home folder, and empty text is not a path."""

from __future__ import annotations

import argparse
import os

from musictag.common.errors import MusictagError


def expanded(text: str, name: str) -> str:
    """Expand ``~`` and ``~user`` in ``text``; ``name`` is the key or option it belongs to.

    A file that really has that name is left as it is. Raises MusictagError for empty text, and for the home of an
    unknown user, for which a folder of that literal name would otherwise be created.
    """
    if not text.strip():
        raise MusictagError(f"{name} is empty; it needs a path (. is the current folder)")
    path = os.path.expanduser(text)
    if path.startswith("~") and not os.path.lexists(path):
        raise MusictagError(
            f"{name}: {text} would be in the home folder of {path[1:].partition('/')[0] or 'a user'}, who is not known "
            f"on this machine; for a folder of that name in the current one use {os.path.abspath(text)}"
        )
    # a folder named ~ is given as ./~, which pathlib would turn into ~ again
    return os.path.abspath(path) if os.path.normpath(path).startswith("~") else path


def path_argument(text: str) -> str:
    """A path on a command line (argparse's ``type``); raises ArgumentTypeError as ``expanded`` does."""
    try:
        return expanded(text, "this path")
    except MusictagError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def song_argument(text: str) -> str:
    """One of many songs on a command line: expanded without checks, since a bad one must not stop the others."""
    return os.path.expanduser(text)
