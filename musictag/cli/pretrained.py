"""`musictag pretrained`: published weights as taggers in the user's cache."""

from __future__ import annotations

import argparse

from musictag.common.paths import path_argument
from musictag.models.pretrained import PRETRAINED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag pretrained`."""
    parser.description = (
        "Download published weights (musicnn by Pons & Serra 2019, ISC licence) and convert them to taggers "
        "in the user's cache. From then on they can be used by name, offline: musictag tag song.mp3 "
        "--model musicnn-msd."
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help=", ".join(PRETRAINED))
    parser.add_argument(
        "--file",
        type=path_argument,
        metavar="FILE",
        help="use this copy of the published file instead of downloading it",
    )


def run(arguments: argparse.Namespace) -> int:
    """Obtain the weights and print where they are; returns the exit status. Errors: see ``obtain``."""
    from musictag.models.pretrained.obtain import obtain

    for name, path in obtain(arguments.names, arguments.file).items():
        print(f"{name} ({PRETRAINED[name].trained_on}): {path}")
    return 0
