"""The console script `musictag`: use a trained tagger on a folder of songs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from musictag import __version__
from musictag.errors import MusictagError, SongError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or 1 where something could not be done."""
    parser = argparse.ArgumentParser(prog="musictag", description="Music auto-tagging.")
    parser.add_argument("--version", action="version", version=f"musictag {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    tag = commands.add_parser(
        "tag",
        help="tag audio files with a trained tagger",
        description="Tag audio files: any sample rate, mono or stereo, from 0.1 s. A song's score is the mean of its "
        "patches' probabilities, exactly as in the test of the run that trained the tagger (unless that ran with "
        "evaluation.mode=whole).",
    )
    tag.add_argument("files", nargs="+", metavar="FILE", help="WAV, FLAC, Ogg, MP3, AIFF, ...")
    tag.add_argument("--model", required=True, metavar="CKPT", help="best.ckpt of a finished run")
    tag.add_argument("--top", type=_positive, default=5, metavar="N", help="how many tags to show (default: 5)")
    tag.add_argument("--json", action="store_true", help="print one JSON object: all tags of every file")
    tag.add_argument("--device", default="cpu", help="cpu (default), cuda, mps, ...")
    tag.set_defaults(run=_tag)

    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except MusictagError as error:
        print(f"musictag: {error}", file=sys.stderr)
        return 1


def _tag(options: argparse.Namespace) -> int:
    from musictag.tagger import load

    tagger = load(options.model, device=options.device)
    results: dict[str, dict[str, float]] = {}
    failed = 0
    for path in options.files:
        try:
            results[path] = tagger.tag(path)
        except (SongError, MusictagError) as error:
            failed += 1
            print(f"musictag: {path}: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    elif results:
        _print_table(results, {tag["name"]: tag["kind"] for tag in tagger.tags}, options.top)
    return 1 if failed else 0


def _print_table(results: dict[str, dict[str, float]], kinds: dict[str, str], top: int) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    regression = [name for name, kind in kinds.items() if kind == "regression"]
    table = Table(title=None)
    table.add_column("file", overflow="fold")
    table.add_column("tags")
    if regression:
        table.add_column("measures")
    for path, scores in results.items():
        best = [(name, score) for name, score in scores.items() if kinds[name] == "classification"][:top]
        row: list[Any] = [escape(path), "\n".join(f"{score:.2f}  {escape(name)}" for name, score in best)]
        if regression:
            row.append("\n".join(f"{scores[name]:.2f}  {escape(name)}" for name in regression))
        table.add_row(*row)
    Console().print(table)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
