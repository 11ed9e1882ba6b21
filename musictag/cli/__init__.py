"""The console script `musictag`: one verb a module, which offers ``add_arguments(parser)`` and ``run(arguments)``.

Only the module of the verb that is used gets imported. At its top it imports what its help needs, and torch, numpy and
the like where the work begins, so that help and mistakes in typing cost no time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from musictag.cli.parsing import Commands, add_commands
from musictag.common.errors import MusictagError
from musictag.common.streams import drop_output, write_out_what_cannot_be_encoded
from musictag.common.text import printable
from musictag.models.pretrained import PRETRAINED
from musictag.training.signals import Stopped

#: Verb: its module, and one line of help. Verbs of a group stand in a table of their own.
COMMANDS: Commands = {
    "tag": ("musictag.cli.tag", "tag audio files with a trained tagger"),
    "embed": ("musictag.cli.embed", "write features of songs from inside a trained tagger, as Parquet or npz"),
    "models": ("musictag.cli.models", "the published architectures, with sizes and cost"),
    "pretrained": ("musictag.cli.pretrained", f"make published weights usable: {', '.join(PRETRAINED)}"),
    "status": ("musictag.cli.status", "what of a study is done, running, failed or missing, and the time left"),
    "report": ("musictag.cli.report", "tables, figures and one page of a study, from its finished runs"),
    "compare": ("musictag.cli.compare", "the finished runs of a study as a table and a picture"),
    "catalogue": ("musictag.cli.catalogue", "make a catalogue from labels in whatever form you have them"),
    "prepare": ("musictag.cli.prepare", "decode a data set now instead of at the first training"),
    "data": (
        {
            "check": ("musictag.cli.check", "everything that is wrong with a catalogue of your own"),
            "describe": (
                "musictag.cli.describe",
                "songs, hours, splits, tags and how they go together, as tables and pictures",
            ),
        },
        "look into a data set: check, describe",
    ),
    "plan": ("musictag.cli.plan", "what a training will take: hours, gigabytes, cost, bottleneck"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or 1 where something could not be done."""
    parser = argparse.ArgumentParser(prog="musictag", description="Music auto-tagging.")
    parser.add_argument("--version", action="version", version=f"musictag {version('musictag')}")
    parser.set_defaults(kept="")  # what Ctrl-C leaves of a command, where it leaves anything
    add_commands(parser, COMMANDS)
    write_out_what_cannot_be_encoded()
    parsed = parser.parse_args(arguments)
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
    except Stopped as stopped:  # asked twice
        return stopped.status
    except BrokenPipeError:  # whoever reads has had enough (`| head`)
        drop_output()
        return 1
