"""`musictag export`: a trained network as a file for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musictag.cli.parsing import add_map
from musictag.common.errors import MusictagError, SongError
from musictag.common.paths import path_argument, song_argument
from musictag.common.processes import importing

if TYPE_CHECKING:
    import numpy as np

    from musictag.inference.network_tagger import NetworkTagger

_MAX_LOSS = 0.01


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag export`."""
    parser.description = (
        "Write a trained network as ONNX, which other programs run without PyTorch, or for torch.export. The file "
        "takes waveforms and returns scores. A certificate inside says what it is: tags, sample rate, length of a "
        "patch, calibration, test scores, training data, and the largest difference from PyTorch, measured now."
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
        help="compare the scores of this song (repeatable; default: songs of the run's data set, if they are prepared "
        "here, else a synthesised clip)",
    )
    parser.add_argument("--licence", metavar="TEXT", help="the licence of the weights, for the certificate")
    parser.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help="as for `musictag tag`")
    parser.add_argument(
        "--log-mel",
        default="inside",
        choices=("inside", "apart"),
        help="apart: the file takes the log-mel spectrogram that its certificate describes (default: inside)",
    )
    parser.add_argument(
        "--int8",
        nargs="*",
        metavar="CATALOGUE | KEY=VALUE",
        help="ONNX in 8-bit integers; songs with tags show what that costs: a table, or data=... as for `musictag "
        "evaluate`",
    )
    parser.add_argument(
        "--max-loss",
        type=float,
        metavar="X",
        help=f"with --int8: fail if more PR-AUC than this is lost (default: {_MAX_LOSS})",
    )
    add_map(parser)


def run(arguments: argparse.Namespace) -> int:
    """Export a network; returns the exit status. Errors: see ``export`` and ``in_int8``; MusictagError for what has no
    network, and for options that do not go together."""
    with importing():
        from musictag.experiment.builders import build_source
        from musictag.experiment.compose import configuration
        from musictag.experiment.evaluation import common_tags, read_names, songs_of_run
        from musictag.experiment.int8 import in_int8
        from musictag.inference.export import FORMATS, export
        from musictag.inference.load import load
        from musictag.inference.network_tagger import NetworkTagger
        from musictag.models.pretrained import locate

    path = Path(arguments.out)
    if path.suffix != FORMATS[arguments.format]:
        raise MusictagError(f"{path} should end in {FORMATS[arguments.format]} for --format {arguments.format}")
    _check_int8(arguments)
    names = read_names(Path(arguments.map)) if arguments.map else {}
    config = configuration(arguments.int8) if arguments.int8 else None
    tagger = load(arguments.model, trust=arguments.trust)
    if not isinstance(tagger, NetworkTagger):
        raise MusictagError(
            f"{arguments.model} is not a single network, and nothing else can be exported; of an ensemble, export the "
            "members"
        )
    if config is not None:  # tags in common are missed before the work
        common_tags(tagger, build_source(config).manifest(), names)
    songs, compared_on = [_read(tagger, song) for song in arguments.song], ""
    if not songs:
        songs, compared_on = songs_of_run(tagger, locate(arguments.model).parent)
    made = export(tagger, arguments.format, songs, arguments.licence, arguments.log_mel, compared_on)
    if config is not None:
        limit = _MAX_LOSS if arguments.max_loss is None else arguments.max_loss
        made = in_int8(made, config, names, limit)
    made.save(path)
    found = made.certificate
    length = f"{found['patch_samples'] + sum(found['margin_samples']):,} samples"
    length += " or more" if found["length"] == "free" else ""
    print(
        f"{path}: {path.stat().st_size / 1e6:.1f} MB, takes {'the log-mel of ' if 'log_mel' in found else ''}{length} "
        f"at {found['sample_rate']:g} Hz, returns {len(found['tags'])} scores, which differ from PyTorch's by at most "
        f"{found['largest_difference']:.1g} ({found['compared_on']})"
    )
    if config is not None:
        print(_shown(found["int8"]))
    if found["licence"] is None:
        print("its certificate names no licence; --licence adds one")
    return 0


def _read(tagger: NetworkTagger, song: str) -> np.ndarray:
    try:
        return tagger.read(song)
    except SongError as error:
        raise MusictagError(f"--song {song}: {error}") from error


def _check_int8(arguments: argparse.Namespace) -> None:
    if arguments.int8 is None and (arguments.max_loss is not None or arguments.map):
        raise MusictagError("--max-loss and --map go with --int8")
    if arguments.int8 is not None and arguments.format != "onnx":
        raise MusictagError("--int8 is for ONNX: leave out --format torch-export")
    if arguments.int8 == []:
        raise MusictagError(
            "--int8 needs songs with tags, to measure the range of the values inside the network and how much PR-AUC "
            "is lost: a table, --int8 catalogue.csv, or a data set, --int8 data=songbook"
        )


def _shown(int8: dict[str, Any]) -> str:
    """What int8 costs, in words."""
    both = int8["float32"], int8["int8"]
    lines = [f"int8 and float32 on {int8['songs']}, {len(int8['tags'])} tags:"]
    for key, label in (("pr_auc", "PR-AUC"), ("roc_auc", "ROC-AUC")):
        before, after, change = *(found[key]["value"] for found in both), int8["change"][key]
        ends = "" if change["low"] is None else f" ({change['low']:+.4f} to {change['high']:+.4f})"
        lines.append(f"  {label} {after:.4f}, from {before:.4f}: {change['value']:+.4f}{ends}")
    size, speed = ([found[key] for found in both] for key in ("bytes", "real_time_factor"))
    lines.append(
        f"  {size[1] / 1e6:.2f} MB, from {size[0] / 1e6:.2f}; {speed[1]:.0f} times real time, from {speed[0]:.0f}"
    )
    return "\n".join(lines)
