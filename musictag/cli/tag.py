"""`musictag tag`: the tags of songs, printed, kept in a file, written into the songs, and as playlists."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING

from musictag.cli.parsing import add_hop, add_model, add_songs, positive
from musictag.common.errors import MusictagError
from musictag.common.paths import path_argument
from musictag.common.processes import importing, keep_freed_memory
from musictag.common.progress import say
from musictag.common.streams import drop_output

if TYPE_CHECKING:
    from musictag.cli.each_song import Songs
    from musictag.cli.tag_rows import Changes, JsonRows, TableRows
    from musictag.inference.tagger import Tagger

_SHOWN = 5  # tags in the table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag tag`."""
    parser.description = (
        "Tag audio files: any sample rate, mono or stereo, from 0.1 s to 12 hours. A song's score is the mean "
        "probability over its patches, exactly as in the test of the run that trained the tagger (unless that used "
        "evaluation.mode=whole). Results appear as songs finish, and Ctrl-C keeps them."
    )
    add_songs(parser, "+")
    add_model(parser)
    add_hop(parser)
    choice = parser.add_argument_group("which tags")
    choice.add_argument(
        "--top", type=positive, metavar="N", help=f"the N highest (default: {_SHOWN} in the table, elsewhere all)"
    )
    choice.add_argument("--threshold", type=probability, metavar="P", help="only tags with a score of at least P")
    confident = (
        "only tags that a song surely has, with their probabilities: from a score at which at least 90%% of the "
        "validation songs had the tag, and only if the song sounds like these; otherwise none, and why"
    )
    choice.add_argument("--confident", action="store_true", help=confident)
    choice.add_argument("--tags", action="append", metavar="TAG,TAG", help="only these")
    results = parser.add_argument_group("results in files")
    results.add_argument("--json", action="store_true", help="print one JSON object, which is whole also after Ctrl-C")
    out = (
        ".jsonl, .csv or .parquet: grows song by song, and the same command continues it; songs that are in it are not "
        "analysed again, also under other names"
    )
    results.add_argument("--out", type=path_argument, metavar="FILE", help=out)
    lists = "one .m3u8 per tag, with --confident, --threshold or --top"
    results.add_argument("--playlists", type=path_argument, metavar="FOLDER", help=lists)
    write = parser.add_argument_group("tags into the songs, with --confident, --threshold or --top")
    field = "the field of the files' own tags; an entry that a file has already stays"
    write.add_argument("--write", choices=["genre", "mood", "grouping", "comment"], help=field)
    existing = write.add_mutually_exclusive_group()
    existing.add_argument("--merge", action="store_true", help="add the tags to an entry")
    existing.add_argument("--replace", action="store_true", help="write over an entry")
    write.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    write.add_argument("--keep-times", action="store_true", help="files keep their time of change")
    journal = "where to keep what was there before, for musictag undo (default: musictag-DATE-TIME.jsonl here)"
    write.add_argument("--journal", type=path_argument, metavar="FILE", help=journal)
    parser.set_defaults(kept=" before the first file was tagged")


def probability(text: str) -> float:
    """A score on a command line; raises ArgumentTypeError outside [0, 1]."""
    if not 0 <= (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Tag the songs that are meant; returns the exit status, 1 if a file could not be used.

    Raises MusictagError for options that do not go together, for a model that cannot be loaded, or with ``--confident``
    has no calibration, and if standard output, the file of tags or the journal cannot be written: what is in them
    stays.
    """
    _check(arguments)
    try:
        return _tag(arguments)
    except KeyboardInterrupt:  # before the first file
        if arguments.json:
            print("{}")
        raise


def _tag(arguments: argparse.Namespace) -> int:
    with importing():
        from musictag.cli.each_song import Songs
        from musictag.inference.load import load
        from musictag.inference.over_patches import side_by_side
        from musictag.library.analyse import analysed
        from musictag.library.choice import Choice, labels, named_tags
        from musictag.library.playlists import write_playlists
        from musictag.library.tags_file import TagsFile
        from musictag.models.pretrained import digest

    keep_freed_memory()
    songs = Songs(arguments.files)
    tagger = load(arguments.model, arguments.device, arguments.trust, arguments.precision)
    computed = arguments.precision
    if arguments.hop is not None:
        tagger.set_hop(arguments.hop)
        computed += f" hop {arguments.hop:g}"
    if arguments.confident:
        _ = tagger.calibration  # without one this fails now, once, and not for every song
    choice = Choice(arguments.top, arguments.threshold, named_tags(arguments.tags, tagger), arguments.confident)
    rows = _rows(arguments, tagger, songs)
    with_tags: dict[str, Mapping[str, float]] = {}
    known, kept = None, choice
    if arguments.out:
        model = f"{os.path.basename(os.path.normpath(arguments.model))} {digest(arguments.model)[:16]}"
        # a file of all tags can be chosen from; of confident ones it has no probabilities
        choices = [choice] if choice.confident else [choice, Choice()]
        analyses = {f"{model} {computed} {one}": one for one in choices}
        known = TagsFile(arguments.out, tagger.tag_names, *analyses)
        kept = analyses[known.analysis]
    doing = "tagging" if known is not None or sys.stderr.isatty() else None
    try:
        with (
            songs.stoppable(),
            side_by_side(),
            closing(known) if known is not None else nullcontext(),
            closing(songs.successes(analysed(tagger, songs.paths, kept, known), doing)) as results,
        ):
            for path, song in results:
                if song.why is not None:
                    songs.say(f"{path}: no confident tags: {song.why}")
                if song.facts is not None:
                    known.add(path, *song.facts, song.tags)
                chosen = choice(tagger, song.tags)
                tags = {name: chosen[name] for name in labels(tagger, chosen)}
                if arguments.playlists:
                    with_tags[path] = tags
                if song.is_new or arguments.json or arguments.write:
                    _write(rows.row(path, tags if arguments.write else chosen))
            _write(rows.end())
    except BrokenPipeError:  # the reader has closed the pipe
        raise
    except OSError as error:
        drop_output()
        raise MusictagError(f"standard output cannot be written: {error.strerror}") from error
    if known is not None:
        say(f"{arguments.out}: {len(known):,} songs")
    if arguments.playlists and songs.is_stopped:
        say(f"{arguments.playlists}: no playlists, as songs are missing")
    elif arguments.playlists:
        say(f"{arguments.playlists}: {len(write_playlists(arguments.playlists, with_tags)):,} playlists, one per tag")
    return songs.status("were tagged" + ("; repeat the command to continue" if known is not None else ""))


def _decides(arguments: argparse.Namespace) -> bool:
    """Whether the options say which tags a song has."""
    return arguments.top is not None or arguments.threshold is not None or arguments.confident


def _check(arguments: argparse.Namespace) -> None:
    for option in ("write", "playlists"):
        if getattr(arguments, option) and not _decides(arguments):
            raise MusictagError(
                f"--{option} needs to know which tags a song has: --confident (those that it surely has), --threshold "
                "0.5 (those with at least that score), --top 3 (the highest), or several of these"
            )
    for option in ("merge", "replace", "dry_run", "keep_times", "journal"):
        if getattr(arguments, option) and not arguments.write:
            raise MusictagError(f"--{option.replace('_', '-')} goes with --write genre|mood|grouping|comment")
    if arguments.json and arguments.write:
        raise MusictagError("--write prints what it changes, which is not JSON: use --out NAME.jsonl beside it")
    if arguments.journal and os.path.exists(arguments.journal):
        raise MusictagError(f"--journal {arguments.journal} exists; choose another name")


def _rows(arguments: argparse.Namespace, tagger: Tagger, songs: Songs) -> Changes | JsonRows | TableRows:
    from musictag.cli.tag_rows import Changes, JsonRows, TableRows
    from musictag.library.writing import KEEP, MERGE, REPLACE, Journal

    if arguments.write:
        existing = MERGE if arguments.merge else REPLACE if arguments.replace else KEEP
        name = arguments.journal or time.strftime("musictag-%Y%m%d-%H%M%S.jsonl")
        journal = None if arguments.dry_run else Journal(name)
        return Changes(arguments.write, existing, journal, arguments.keep_times, songs.fail)
    if arguments.json:
        return JsonRows()
    top = arguments.top if _decides(arguments) else _SHOWN
    return TableRows(dict(zip(tagger.tag_names, tagger.tag_kinds, strict=True)), songs.paths, top)


def _write(text: str) -> None:
    print(text, end="", flush=True)
