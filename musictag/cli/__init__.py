"""The console script `musictag`: one module per verb, each with ``add_arguments(parser)`` and ``run(arguments)``.

Only the module of the chosen verb is imported. Its top-level imports are those that its help needs; torch, numpy and
the like are imported where the work begins, so that help and mistyped options respond at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from musictag.cli.parsing import Commands, add_commands
from musictag.common.errors import MusictagError
from musictag.common.processes import let_threads_sleep
from musictag.common.streams import drop_output, write_out_what_cannot_be_encoded
from musictag.common.text import printable
from musictag.models.pretrained import PRETRAINED
from musictag.training.signals import Stopped

#: Verb: its module, and one line of help. A group of verbs is a nested table.
COMMANDS: Commands = {
    "tag": ("musictag.cli.tag", "tag songs, folders and playlists; write tags into files; make playlists"),
    "undo": ("musictag.cli.undo", "take back what `musictag tag --write` has written into files"),
    "taggram": ("musictag.cli.taggram", "draw the tags of a song over time, or make a page that plays along"),
    "serve": ("musictag.cli.serve", "a page on this machine: drop a song, see and hear its tags"),
    "embed": ("musictag.cli.embed", "write the features that a trained tagger computes, as Parquet or npz"),
    "models": ("musictag.cli.models", "list the published architectures with their sizes and cost"),
    "pretrained": ("musictag.cli.pretrained", f"convert published weights: {', '.join(PRETRAINED)}"),
    "status": ("musictag.cli.status", "which jobs of a study are done, running, failed or missing, and the time left"),
    "report": ("musictag.cli.report", "tables, figures and a web page for a study, from its finished runs"),
    "compare": ("musictag.cli.compare", "the finished runs of a study as a table and a figure"),
    "ensemble": ("musictag.cli.ensemble", "make one tagger of several finished runs: the mean of their scores"),
    "evaluate": ("musictag.cli.evaluate", "score the test songs of any data set with any tagger"),
    "export": ("musictag.cli.export", "write a trained network as ONNX or for torch.export, with a certificate inside"),
    "catalogue": ("musictag.cli.catalogue", "build a catalogue from your labels, in any of several forms"),
    "prepare": ("musictag.cli.prepare", "decode a data set now instead of when training first needs it"),
    "data": (
        {
            "check": ("musictag.cli.check", "list all errors and warnings in your catalogue"),
            "describe": (
                "musictag.cli.describe",
                "songs, hours, splits, tags and their co-occurrence, as tables and figures",
            ),
        },
        "inspect a data set: check, describe",
    ),
    "advise": ("musictag.cli.advise", "which system to use for your songs, and what more of them would bring"),
    "plan": ("musictag.cli.plan", "estimate what training will take: hours, gigabytes, cost, bottleneck"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or 1 if something failed."""
    parser = argparse.ArgumentParser(prog="musictag", description="Music auto-tagging.")
    parser.add_argument("--version", action="version", version=f"musictag {version('musictag')}")
    parser.set_defaults(kept="")  # what Ctrl-C leaves behind, added to the message
    add_commands(parser, COMMANDS)
    write_out_what_cannot_be_encoded()
    parsed = parser.parse_args(arguments)
    let_threads_sleep()
    try:
        status = parsed.run(parsed)
        sys.stdout.flush()
        return status
    except MusictagError as error:
        print(f"musictag: {printable(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"musictag: interrupted{parsed.kept}", file=sys.stderr)
        return 130
    except Stopped as stopped:  # a second signal
        return stopped.status
    except BrokenPipeError:  # the reader has closed the pipe (`| head`)
        drop_output()
        return 1
    except OSError as error:  # a place that cannot be read or written
        place = f"{error.filename}: " if error.filename else ""
        print(f"musictag: {printable(f'{place}{error.strerror or error}')}", file=sys.stderr)
        return 1
