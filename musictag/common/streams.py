"""Standard output of any encoding, and when nobody takes it any more."""

from __future__ import annotations

import io
import os
import sys


def write_out_what_cannot_be_encoded() -> None:
    """From here on letters that the encoding of standard output does not have (LANG=C) are printed as ``\\xe9``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_utf8() -> bool:
    """Whether standard output takes every letter."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def drop_output() -> None:
    """Nothing more is said on standard output, not even what Python has kept back and writes as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
