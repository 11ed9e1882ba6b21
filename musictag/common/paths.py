"""Paths as people type them: ``~`` is the home folder, and an empty word is no path."""

from __future__ import annotations

import argparse
import os

from musictag.common.errors import MusictagError


def expanded(text: str, name: str) -> str:
    """``text`` with ``~`` and ``~user`` as the folders that they mean; ``name`` is the key or option that it is for.

    A file that is called just so is meant by its name. Raises MusictagError for an empty text, and for the home of
    somebody who is not known here: a folder of that name would be made otherwise.
    """
    if not text.strip():
        raise MusictagError(f"{name} is empty; it needs a path (. is the current folder)")
    path = os.path.expanduser(text)
    if path.startswith("~") and not os.path.lexists(path):
        raise MusictagError(
            f"{name}: {text} would be in the home folder of {path[1:].partition('/')[0] or 'somebody'}, who is not "
            f"known on this machine; a folder of that name in the current one is {os.path.abspath(text)}"
        )
    # a folder named ~ is typed ./~, which pathlib would make ~ again
    return os.path.abspath(path) if os.path.normpath(path).startswith("~") else path


def path_argument(text: str) -> str:
    """The path of a command line (argparse's ``type``); raises ArgumentTypeError as ``expanded`` does."""
    try:
        return expanded(text, "this path")
    except MusictagError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def song_argument(text: str) -> str:
    """The same for one of many songs, of which none may stop the others: whatever it is, it is looked up later."""
    return os.path.expanduser(text)
