"""The console script `musictag`: tag songs with a trained tagger, prepare a data set, look into a catalogue."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from musictag import __version__
from musictag.cli_data import add_data_commands
from musictag.cli_plan import add_plan_command
from musictag.cli_studies import add_study_commands, positive
from musictag.errors import MusictagError
from musictag.interruption import Stopped
from musictag.places import path_argument, song_argument
from musictag.published import PRETRAINED
from musictag.streams import drop_output, write_out_what_cannot_be_encoded
from musictag.untrusted import printable

_SONGS = "WAV, FLAC, Ogg, MP3, AIFF, ...; of a folder all audio files below it"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or 1 where something could not be done."""
    parser = argparse.ArgumentParser(prog="musictag", description="Music auto-tagging.")
    parser.add_argument("--version", action="version", version=f"musictag {__version__}")
    parser.set_defaults(kept="")  # what Ctrl-C leaves of a command, where it leaves anything
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    tag = commands.add_parser(
        "tag",
        help="tag audio files with a trained tagger",
        description="Tag audio files: any sample rate, mono or stereo, from 0.1 s. A song's score is the mean of its "
        "patches' probabilities, exactly as in the test of the run that trained the tagger (unless that ran with "
        "evaluation.mode=whole). Results appear as songs finish, and Ctrl-C keeps them.",
    )
    tag.add_argument("files", nargs="+", type=song_argument, metavar="FILE | FOLDER", help=_SONGS)
    tag.add_argument(
        "--model",
        required=True,
        type=path_argument,
        metavar="MODEL",
        help="folder of a finished run, tagger.safetensors or model.json in it, or a pretrained model",
    )
    tag.add_argument("--top", type=positive, default=5, metavar="N", help="how many tags to show (default: 5)")
    tag.add_argument(
        "--json", action="store_true", help="print one JSON object: all tags of every file, also after Ctrl-C"
    )
    tag.add_argument("--device", default="cpu", help="cpu (default), cuda, mps, ...")
    tag.set_defaults(run=_tag, kept=" before the first file was tagged")

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
        description="Obtain published weights (musicnn by Pons & Serra 2019, ISC licence) and keep them as taggers of "
        "musictag in the user's cache. From then on they go by name, without a network: musictag tag song.mp3 "
        "--model musicnn-msd.",
    )
    pretrained.add_argument("names", nargs="+", metavar="NAME", help=", ".join(PRETRAINED))
    pretrained.add_argument(
        "--wheel", type=path_argument, metavar="FILE", help="that holds them, instead of asking pip for it"
    )
    pretrained.set_defaults(run=_pretrained)

    add_study_commands(commands)
    add_data_commands(commands)
    add_plan_command(commands)

    write_out_what_cannot_be_encoded()
    options = parser.parse_args(arguments)
    try:
        status = options.run(options)
        sys.stdout.flush()
        return status
    except MusictagError as error:
        print(f"musictag: {printable(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"musictag: interrupted{options.kept}", file=sys.stderr)
        return 130
    except Stopped as stopped:  # asked twice
        return stopped.status
    except BrokenPipeError:  # whoever reads has had enough (`| head`)
        drop_output()
        return 1


def _add_embed(commands: argparse._SubParsersAction) -> None:
    embed = commands.add_parser(
        "embed",
        help="write features of songs from inside a trained tagger, as Parquet or npz",
        description="Write what a layer of a trained tagger makes of songs, for use elsewhere: one row a song, the "
        "mean over its patches. Files are read and cut as by musictag tag. A file that exists is never overwritten; "
        "after Ctrl-C the songs that were finished are in it.",
    )
    embed.add_argument("files", nargs="*", type=song_argument, metavar="FILE | FOLDER", help=_SONGS)
    embed.add_argument(
        "--model",
        required=True,
        type=path_argument,
        metavar="MODEL",
        help="folder of a finished run, tagger.safetensors or model.json in it, or a pretrained model",
    )
    embed.add_argument(
        "--layer",
        metavar="LAYER",
        help="penultimate (default: what the last layer gets; of a baseline: its features), frontend, or the name of "
        "another layer",
    )
    embed.add_argument("--list-layers", action="store_true", help="print the layers that the model has, and stop")
    embed.add_argument(
        "--out",
        default="embeddings.parquet",
        type=path_argument,
        metavar="FILE",
        help=".parquet or .npz (default: embeddings.parquet)",
    )
    embed.add_argument("--patches", action="store_true", help="one row a patch, with the seconds at which it begins")
    embed.add_argument("--device", default="cpu", help="cpu (default), cuda, mps, ...")
    embed.set_defaults(run=_embed, kept="; nothing was written")


def _embed(options: argparse.Namespace) -> int:
    from musictag import embedding

    if options.list_layers == bool(options.files):
        raise MusictagError("musictag embed takes the files to embed, or --list-layers without any")
    if options.list_layers:
        return embedding.list_layers(options.model, options.device)
    return embedding.main(options.files, options.model, options.layer, options.out, options.patches, options.device)


def _models(options: argparse.Namespace) -> int:
    from musictag.models_table import main

    return main(options.names)


def _pretrained(options: argparse.Namespace) -> int:
    from musictag.pretrained import obtain

    for name, path in obtain(options.names, options.wheel).items():
        print(f"{name} ({PRETRAINED[name].trained_on}): {path}")
    return 0


def _tag(options: argparse.Namespace) -> int:
    try:
        from musictag.tagging import main as tag

        return tag(options.files, options.model, options.top, options.json, options.device)
    except KeyboardInterrupt:  # before the first file
        if options.json:
            print("{}")
        raise


if __name__ == "__main__":
    sys.exit(main())
