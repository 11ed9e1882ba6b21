"""`musictag tag`: the tags of songs, printed song by song."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from musictag.cli.parsing import add_model, add_songs, positive
from musictag.common.errors import MusictagError, SongError
from musictag.common.processes import importing
from musictag.common.streams import drop_output, is_utf8
from musictag.common.text import printable, unicode_name

if TYPE_CHECKING:
    from musictag.cli.each_song import Songs
    from musictag.inference.tagger import Tagger

_GAP = 2  # spaces between columns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag tag`."""
    parser.description = (
        "Tag audio files: any sample rate, mono or stereo, from 0.1 s. A song's score is the mean probability over "
        "its patches, exactly as in the test of the run that trained the tagger (unless that used "
        "evaluation.mode=whole). Results appear as songs finish, and Ctrl-C keeps them."
    )
    add_songs(parser, "+")
    add_model(parser)
    parser.add_argument("--top", type=positive, default=5, metavar="N", help="how many tags to show (default: 5)")
    parser.add_argument(
        "--confident",
        action="store_true",
        help="only tags that a song surely has, with their probabilities: from a score at which at least 90%% of the "
        "validation songs had the tag, and only if the song sounds like these; otherwise none, and why",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object: all tags of every file, also after Ctrl-C"
    )
    parser.set_defaults(kept=" before the first file was tagged")


def run(arguments: argparse.Namespace) -> int:
    """Tag songs; returns the exit status. Errors: see ``tag``."""
    try:
        return tag(
            arguments.files,
            arguments.model,
            arguments.top,
            arguments.json,
            arguments.device,
            arguments.trust,
            arguments.precision,
            arguments.confident,
        )
    except KeyboardInterrupt:  # before the first file
        if arguments.json:
            print("{}")
        raise


def tag(
    names: Sequence[str],
    model: str,
    top: int,
    as_json: bool,
    device: str,
    trust: Sequence[str] = (),
    precision: str = "32-true",
    confident: bool = False,
) -> int:
    """Tag the files ``names`` and all audio below those that are folders; returns the exit status.

    Prints a table, or with ``as_json`` one JSON object with all tags of every file, each song as soon as it is
    finished. Ctrl-C keeps the finished songs and closes the JSON object. Bytes of names that are not UTF-8 are escaped
    (``\\xe9``). Files that cannot be used are reported on standard error: status 1.

    With ``confident``, songs without a confident tag have none, and standard error says why: that is no failure.

    Raises MusictagError for a model that cannot be loaded, or with ``confident`` has no calibration, and if standard
    output cannot be written.
    """
    with importing():
        from musictag.cli.each_song import Songs
        from musictag.inference.load import load

    songs = Songs(names)
    tagger = load(model, device, trust, precision)
    if confident:
        _ = tagger.calibration  # without it this fails now, once, and not for every song
    rows = _JsonRows() if as_json else _TableRows(tagger.tags, songs.paths, top)
    with songs.stoppable():
        try:
            if confident:
                results = _confident(tagger, songs)
            else:
                results = ((song.source, song.error or _checked(song.tags)) for song in tagger.tag_many(songs.paths))
            for path, scores in songs.successes(results):
                _write(rows.row(path, scores))
            _write(rows.end())
        except BrokenPipeError:  # the reader has closed the pipe
            raise
        except OSError as error:
            drop_output()
            raise MusictagError(f"standard output cannot be written: {error.strerror}") from error
    return songs.status("were tagged")


def _confident(tagger: Tagger, songs: Songs) -> Iterator[tuple[str, dict[str, float] | Exception]]:
    """Every song with its confident tags; says why a song has none."""
    from musictag.inference.many_songs import each_result
    from musictag.inference.tagger import Confident

    for path, found in each_result(tagger.confident_song, songs.paths, tagger.sample_rate):
        if isinstance(found, Confident) and found.why:
            songs.say(f"{path}: no confident tags: {found.why}")
        yield path, found.tags if isinstance(found, Confident) else found


def _checked(scores: dict[str, float]) -> dict[str, float] | SongError:
    if not all(map(math.isfinite, scores.values())):
        return SongError("the model's scores are not finite: its weights are damaged or invalid")
    return scores


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


class _JsonRows:
    """One JSON object, written song by song."""

    def __init__(self) -> None:
        self._before = "{\n"

    def row(self, path: str, scores: dict[str, float]) -> str:
        text = json.dumps({unicode_name(path): scores}, indent=2, ensure_ascii=not is_utf8())
        before, self._before = self._before, ",\n"
        return before + text.removeprefix("{\n").removesuffix("\n}")

    def end(self) -> str:
        return "{}\n" if self._before == "{\n" else "\n}\n"


class _TableRows:
    """A table whose rows can be printed before the next song is known: the column widths are fixed from the start."""

    def __init__(self, tags: Sequence[dict[str, str]], paths: Sequence[str], top: int) -> None:
        self._kinds = {tag["name"]: tag["kind"] for tag in tags}
        self._top = top
        self._console = Console()
        of_kind = {
            kind: [name for name in self._kinds if self._kinds[name] == kind] for kind in set(self._kinds.values())
        }
        self._columns = {
            heading: max(cell_len(name) for name in of_kind[kind]) + len("0.00  ")
            for heading, kind in (("tags", "classification"), ("measures", "regression"))
            if kind in of_kind
        }
        room = self._console.width - sum(self._columns.values()) - _GAP * len(self._columns)
        widest = max((cell_len(printable(path)) for path in paths), default=0)
        self._columns = {"file": max(len("file"), min(widest, max(room, self._console.width // 3)))} | self._columns
        self._is_first = True

    def row(self, path: str, scores: dict[str, float]) -> str:
        classes = [name for name in scores if self._kinds[name] == "classification"][: self._top]
        measures = [name for name in self._kinds if self._kinds[name] == "regression" and name in scores]
        cells = {
            "file": escape(printable(path)),
            "tags": "\n".join(f"{scores[name]:.2f}  {escape(name)}" for name in classes),
            "measures": "\n".join(f"{scores[name]:.2f}  {escape(name)}" for name in measures),
        }
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_header=self._is_first)
        for heading, width in self._columns.items():
            table.add_column(heading, width=width, overflow="fold")
        table.add_row(*(cells[heading] for heading in self._columns))
        with self._console.capture() as captured:
            self._console.print(table)
            self._console.print()
        self._is_first = False
        return captured.get()

    def end(self) -> str:
        return ""
