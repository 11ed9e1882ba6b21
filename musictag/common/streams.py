"""Standard output in any encoding, and after its reader has gone."""

from __future__ import annotations

import io
import os
import sys


def write_out_what_cannot_be_encoded() -> None:
    """Print characters that the encoding of standard output lacks (LANG=C) as ``\\xe9`` from now on."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_utf8() -> bool:
    """Whether standard output can encode every character."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def drop_output() -> None:
    """Discard further standard output, including what Python has buffered and would write on exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
