"""`musictag export`: a trained network as a file for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from musictag.common.errors import MusictagError
from musictag.common.paths import path_argument, song_argument
from musictag.common.processes import importing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag export`."""
    parser.description = (
        "Write a trained network as ONNX, which other programs run without PyTorch, or for torch.export. The file "
        "takes "
        "waveforms and returns scores. A certificate inside says what it is: tags, sample rate, length of a patch, "
        "calibration, test scores, training data, and the largest difference from PyTorch, which is measured now."
    )
    parser.add_argument("model", type=path_argument, metavar="MODEL", help="as for `musictag tag --model`")
    parser.add_argument("--format", default="onnx", choices=("onnx", "torch-export"), help="default: onnx")
    parser.add_argument("-o", "--out", required=True, type=path_argument, metavar="FILE", help="ends in .onnx or .pt2")
    parser.add_argument(
        "--song",
        action="append",
        default=[],
        type=song_argument,
        metavar="FILE",
        help="compare the scores of this song (repeatable; default: a synthesised clip)",
    )
    parser.add_argument("--licence", metavar="TEXT", help="the licence of the weights, for the certificate")
    parser.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help="as for `musictag tag`")


def run(arguments: argparse.Namespace) -> int:
    """Export a network; returns the exit status. Errors: see ``export``; MusictagError for what has no network."""
    with importing():
        from musictag.inference.export import FORMATS, export
        from musictag.inference.load import load
        from musictag.inference.network_tagger import NetworkTagger

    path = Path(arguments.out)
    if path.suffix != FORMATS[arguments.format]:
        raise MusictagError(f"{path} should end in {FORMATS[arguments.format]} for --format {arguments.format}")
    tagger = load(arguments.model, trust=arguments.trust)
    if not isinstance(tagger, NetworkTagger):
        raise MusictagError(
            f"{arguments.model} is not a single network, and nothing else can be exported; of an ensemble, export the "
            "members"
        )
    songs = [tagger.read(song) for song in arguments.song]
    found = export(tagger, path, arguments.format, songs, arguments.licence)
    length = f"{found['patch_samples'] + sum(found['margin_samples']):,} samples"
    length += " or more" if found["length"] == "free" else ""
    print(
        f"{path}: {path.stat().st_size / 1e6:.1f} MB, takes {length} at {found['sample_rate']:g} Hz, returns "
        f"{len(found['tags'])} scores, which differ from PyTorch's by at most {found['largest_difference']:.1g} "
        f"({found['compared_on']})"
    )
    if found["licence"] is None:
        print("its certificate names no licence; --licence adds one")
    return 0
