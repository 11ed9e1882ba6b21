"""`musictag serve`: a page on this machine on which songs are tagged."""

from __future__ import annotations

import argparse
from contextlib import suppress

from musictag.cli.parsing import add_model
from musictag.common.errors import MusictagError
from musictag.common.paths import path_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag serve`."""
    parser.description = (
        "Serve a page on this machine: drop a song or record one, and see its tags over time while it plays. Songs are "
        "not kept. Ctrl-C ends it."
    )
    add_model(parser)
    parser.add_argument(
        "--beside",
        action="append",
        default=[],
        type=path_argument,
        metavar="MODEL",
        help="another model, shown beside the first (repeatable)",
    )
    parser.add_argument(
        "--truth",
        nargs="+",
        metavar="CATALOGUE | KEY=VALUE",
        help="a table, or data=... and its keys as for train.py: where a copy of one of its songs is dropped, what is "
        "true is shown beside the models' tags",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="where to listen (default: 127.0.0.1, this machine alone; 0.0.0.0: whoever reaches this machine, without "
        "a password)",
    )
    parser.add_argument("--port", type=int, default=8765, help="default: 8765; 0: a free one")
    parser.add_argument("--megabytes", type=float, default=100, metavar="N", help="the largest file (default: 100)")
    parser.add_argument("--minutes", type=float, default=15, metavar="N", help="the longest song (default: 15)")


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C; returns the exit status. Raises MusictagError for models that cannot be loaded or have no
    taggram, for impossible limits, for a data set that cannot be read, and for an address that cannot be used."""
    from musictag.inference.load import load
    from musictag.library.server import Demo
    from musictag.models.pretrained import ENSEMBLE_FILE, locate, model_name

    for option, limit in (("megabytes", arguments.megabytes), ("minutes", arguments.minutes)):
        if not 0 < limit < 1e6:
            raise MusictagError(f"--{option} {limit:g} must be positive, and less than a million")
    truth = None
    if arguments.truth:
        # imported here: it takes seconds
        from musictag.experiment.builders import build_source
        from musictag.experiment.compose import configuration
        from musictag.library.truth import Truth

        truth = Truth(build_source(configuration(arguments.truth)))
    taggers = {}
    for model in (arguments.model, *arguments.beside):
        path, name = locate(model), model_name(model)
        if name in taggers:
            raise MusictagError(f"two models are called {name}; name each once")
        if path.suffix == ".json" and path.name != ENSEMBLE_FILE:
            raise MusictagError(f"{model}: a baseline hears whole songs, and has no tags over time")
        taggers[name] = load(model, arguments.device, arguments.trust, arguments.precision)
    try:
        demo = Demo(taggers, (arguments.host, arguments.port), arguments.megabytes, arguments.minutes, truth)
    except (OSError, OverflowError) as error:
        raise MusictagError(f"--host {arguments.host} --port {arguments.port} cannot be used: {error}") from error
    host, port = demo.server_address[:2]
    print(f"http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    with demo, suppress(KeyboardInterrupt):
        demo.serve_forever()
    return 0
