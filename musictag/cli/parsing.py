"""Command lines: parsers that are filled on first use, and arguments that several verbs share."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Union

from musictag.common.paths import path_argument, song_argument

#: Verb: its module, or a nested table of verbs, and one line of help.
Commands = Mapping[str, tuple[Union[str, "Commands"], str]]


class CommandParser(argparse.ArgumentParser):
    """The parser of a verb. ``module`` is imported, and adds its arguments, only when the verb is used."""

    def __init__(self, *, module: str | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._module = module

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        if self._module is not None:
            module = import_module(self._module)
            module.add_arguments(self)
            self.set_defaults(run=module.run)
        return super().parse_known_args(args, namespace)


def add_commands(parser: argparse.ArgumentParser, table: Commands) -> None:
    """Add the verbs of ``table``: parsing one sets ``run`` to the function of that name in the verb's module."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=CommandParser)
    for verb, (content, text) in table.items():
        if isinstance(content, str):
            commands.add_parser(verb, help=text, module=content)
        else:
            add_commands(commands.add_parser(verb, help=text), content)


def add_songs(parser: argparse.ArgumentParser, nargs: str) -> None:
    """Adds ``files``: the songs to process."""
    parser.add_argument(
        "files",
        nargs=nargs,
        type=song_argument,
        metavar="PATH",
        help="WAV, FLAC, Ogg, MP3, AIFF, ...; a folder: all audio files below it; a playlist (.m3u, .m3u8): its files; "
        "-: names from standard input",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """``model``, ``device``, ``precision`` and ``trust``: the tagger that is used, as ``musictag.load`` takes them."""
    parser.add_argument(
        "--model",
        required=True,
        type=path_argument,
        metavar="MODEL",
        help="folder of a finished run, the tagger.safetensors or model.json in it, or the name of a pretrained model",
    )
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, mps, ...")
    parser.add_argument(
        "--precision",
        default="32-true",
        metavar="P",
        help="32-true (default), or bf16-mixed: faster where there are instructions for it, scores differ by some "
        "thousandths",
    )
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="a package whose classes the model's file may name, besides musictag and registered plug-ins; its code is "
        "run (repeatable)",
    )


def add_hop(parser: argparse.ArgumentParser) -> None:
    """``hop``: seconds between the patches of a song, for ``Tagger.set_hop``."""
    parser.add_argument(
        "--hop",
        type=float,
        metavar="SECONDS",
        help="score a patch every SECONDS (default: one after the other): of patches of 3 s, --hop 15 scores a fifth",
    )


def add_map(parser: argparse.ArgumentParser) -> None:
    """``map``: a table of the tags that have other names in a data set."""
    parser.add_argument(
        "--map", type=path_argument, metavar="FILE", help="CSV with columns tagger and data: the same tag in both"
    )


def positive(text: str) -> int:
    """A positive integer from the command line; raises ArgumentTypeError below 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
