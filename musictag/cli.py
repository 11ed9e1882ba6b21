"""The console script `musictag`: tag songs with a trained tagger, prepare a data set, look into a catalogue."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from musictag import __version__
from musictag.errors import MusictagError, SongError
from musictag.published import PRETRAINED


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
    tag.add_argument(
        "--model", required=True, metavar="MODEL", help="best.ckpt of a finished run, or a pretrained model"
    )
    tag.add_argument("--top", type=_positive, default=5, metavar="N", help="how many tags to show (default: 5)")
    tag.add_argument("--json", action="store_true", help="print one JSON object: all tags of every file")
    tag.add_argument("--device", default="cpu", help="cpu (default), cuda, mps, ...")
    tag.set_defaults(run=_tag)

    _add_embed(commands)

    models = commands.add_parser(
        "models",
        help="the published architectures, with sizes and cost",
        description="The published combinations of front-end and back-end that `python train.py model=NAME` trains: "
        "input, parameters, cost, and how much one frame of the front-end hears (and how far frames are apart).",
    )
    models.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    models.set_defaults(run=_models)

    pretrained = commands.add_parser(
        "pretrained",
        help="make published weights usable: " + ", ".join(PRETRAINED),
        description="Obtain published weights (musicnn by Pons & Serra 2019, ISC licence) and keep them as checkpoints "
        "of musictag in the user's cache. From then on they go by name, without a network: musictag tag song.mp3 "
        "--model musicnn-msd.",
    )
    pretrained.add_argument("names", nargs="+", metavar="NAME", help=", ".join(PRETRAINED))
    pretrained.add_argument("--wheel", metavar="FILE", help="that holds them, instead of asking pip for it")
    pretrained.set_defaults(run=_pretrained)

    compare = commands.add_parser(
        "compare",
        help="the finished runs of a study as a table and a picture",
        description="Put the finished runs below a folder side by side: a CSV with one line a run, a table of the "
        "means over the seeds, and a picture of PR-AUC against parameters and speed.",
    )
    compare.add_argument("runs", metavar="FOLDER", help="of runs, such as runs/songbook")
    compare.add_argument("--study", metavar="NAME", help="only runs that were made with study=NAME")
    compare.add_argument("--out", metavar="FOLDER", default=".", help="for NAME.csv and NAME.png (default: here)")
    compare.add_argument(
        "--measure", action="store_true", help="measure tagging speeds here, not as the runs noted them"
    )
    compare.set_defaults(run=_compare)

    _add_prepare(commands)
    _add_data(commands)

    options = parser.parse_args(arguments)
    try:
        status = options.run(options)
        sys.stdout.flush()
        return status
    except MusictagError as error:
        print(f"musictag: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("musictag: interrupted; the same command goes on with what is finished", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # whoever reads has had enough (`| head`): nothing is left to say, not even when Python closes the stream
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _add_embed(commands: argparse._SubParsersAction) -> None:
    embed = commands.add_parser(
        "embed",
        help="write features of songs from inside a trained tagger, as Parquet or npz",
        description="Write what a layer of a trained tagger makes of songs, for use elsewhere: one row a song, the "
        "mean over its patches. Files are read and cut as by musictag tag. A file that exists is never overwritten.",
    )
    embed.add_argument("files", nargs="*", metavar="FILE", help="WAV, FLAC, Ogg, MP3, AIFF, ...")
    embed.add_argument(
        "--model", required=True, metavar="MODEL", help="best.ckpt of a finished run, or a pretrained model"
    )
    embed.add_argument(
        "--layer",
        default="penultimate",
        metavar="LAYER",
        help="penultimate (default: what the last layer gets), frontend, or the name of another layer",
    )
    embed.add_argument("--list-layers", action="store_true", help="print the layers that the model has, and stop")
    embed.add_argument(
        "--out", default="embeddings.parquet", metavar="FILE", help=".parquet or .npz (default: embeddings.parquet)"
    )
    embed.add_argument("--patches", action="store_true", help="one row a patch, with the seconds at which it begins")
    embed.add_argument("--device", default="cpu", help="cpu (default), cuda, mps, ...")
    embed.set_defaults(run=_embed)


def _add_prepare(commands: argparse._SubParsersAction) -> None:
    prepare = commands.add_parser(
        "prepare",
        help="decode a data set now instead of at the first training",
        description="Decode the songs of a data set once, in parallel, as the first training with the same words "
        "would: musictag prepare catalogue.csv, musictag prepare data=jamendo data.root=FOLDER. Interrupted, the same "
        "command goes on.",
    )
    prepare.add_argument(
        "words", nargs="*", metavar="CATALOGUE | KEY=VALUE", help="a table, or as for train.py: data=... and its keys"
    )
    prepare.add_argument("--verify", action="store_true", help="also read what is there, and mend what is damaged")
    prepare.set_defaults(run=_prepare)


def _add_data(commands: argparse._SubParsersAction) -> None:
    data = commands.add_parser("data", help="look into a data set: check, describe")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser(
        "check",
        help="everything that is wrong with a catalogue of your own",
        description="Read a catalogue and look at every file that it names; print all errors and warnings with their "
        "rows. The exit status is 1 where there is an error. Nothing is written or decoded.",
    )
    check.add_argument("catalogue", metavar="CATALOGUE", help="a .csv, .tsv or .parquet table")
    check.add_argument("--root", metavar="FOLDER", help="that the paths start from (default: the table's folder)")
    check.add_argument(
        "--tags",
        nargs="+",
        metavar="TAG",
        help="the tag columns (default: all others); TAG=regression decides its kind",
    )
    check.set_defaults(run=_check)
    describe = actions.add_parser(
        "describe",
        help="songs, hours, splits, tags and how they go together, as tables and pictures",
        description="Describe a data set: musictag data describe catalogue.csv, or with the words of train.py: "
        "musictag data describe data=jamendo data.root=FOLDER.",
    )
    describe.add_argument("words", nargs="+", metavar="CATALOGUE | KEY=VALUE", help="a table, or data=... and its keys")
    describe.add_argument("--out", metavar="FOLDER", help="for the pictures (default: describe-<name>)")
    describe.set_defaults(run=_describe)


def _embed(options: argparse.Namespace) -> int:
    from musictag import embedding

    if options.list_layers == bool(options.files):
        raise MusictagError("musictag embed takes the files to embed, or --list-layers without any")
    if options.list_layers:
        return embedding.list_layers(options.model, options.device)
    try:
        return embedding.main(options.files, options.model, options.layer, options.out, options.patches, options.device)
    except KeyboardInterrupt:
        print("musictag: interrupted; nothing was written", file=sys.stderr)
        return 130


def _compare(options: argparse.Namespace) -> int:
    from musictag.comparison import main

    return main(options.runs, options.study, options.out, options.measure)


def _models(options: argparse.Namespace) -> int:
    from musictag.models_table import main

    return main(options.names)


def _pretrained(options: argparse.Namespace) -> int:
    from musictag.pretrained import obtain

    for name, path in obtain(options.names, options.wheel).items():
        print(f"{name} ({PRETRAINED[name].trained_on}): {path}")
    return 0


def _prepare(options: argparse.Namespace) -> int:
    from musictag import preparing

    return preparing.main(options.words, options.verify)


def _check(options: argparse.Namespace) -> int:
    from musictag.data.check import check

    report = check(options.catalogue, options.root, _kinds_by_tag(options.tags))
    # not through rich: paths and tags are no markup, and a row should stay one line
    print(report)
    return 1 if report.errors else 0


def _describe(options: argparse.Namespace) -> int:
    from musictag.describing import main

    return main(options.words, options.out)


def _kinds_by_tag(words: Sequence[str] | None) -> dict[str, str | None] | None:
    """``TAG`` and ``TAG=KIND`` as a mapping; None where no tags are chosen."""
    from musictag.data.manifest import KINDS

    if words is None:
        return None
    pairs = (word.rpartition("=") for word in words)
    return dict((tag, kind) if kind in KINDS and tag else (f"{tag}{mark}{kind}", None) for tag, mark, kind in pairs)


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
