"""Errors for bad input: one kind stops the run, the other costs a single song."""

from __future__ import annotations


class MusictagError(Exception):
    """Bad input that stops the run before work starts.

    The message is written for the user: what is wrong, what is allowed, what to use instead.
    The command-line programs print it without a traceback and exit with status 1.
    """


class SongError(Exception):
    """One song cannot be used (missing, unreadable, empty, silent). Only that song is lost.

    The message is the reason, short enough for a table cell; the caller knows which song it is.
    """


class PassingSongError(SongError):
    """A song cannot be used now, but perhaps later: its file is missing or may not be read, or memory is short."""


class SongWarning(UserWarning):
    """A song is used although part of its file could not be; the message names the file and says what was left out."""
