"""The two kinds of bad input, told apart by what they cost: a run, or one song."""

from __future__ import annotations


class MusictagError(Exception):
    """Bad input that stops the run before work starts.

    The message is written for the person at the keyboard: what is wrong, what is allowed, what to type.
    The command-line programs print it without a traceback and exit with status 1.
    """


class SongError(Exception):
    """One song cannot be used (missing, unreadable, empty, silent). It costs that song only.

    The message is the reason, short enough for a table cell; whoever catches it knows the song.
    """


class SongWarning(UserWarning):
    """A song is used although not all of its file could be; the message names the file and says what was left out."""
