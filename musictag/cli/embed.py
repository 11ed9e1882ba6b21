"""`musictag embed`: features of songs from inside a trained tagger, as Parquet or npz."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING

from musictag.cli.parsing import add_model, add_songs
from musictag.common.errors import MusictagError
from musictag.common.files import atomic_write
from musictag.common.paths import path_argument
from musictag.common.processes import importing
from musictag.common.text import quantity, unicode_name

if TYPE_CHECKING:
    import numpy as np

    from musictag.cli.each_song import Songs
    from musictag.inference.tagger import SongEmbedder

    #: A song's path as given (bytes that are not UTF-8 escaped), the start of its patches in seconds (B), their
    #: features (B×H).
    SongRows = tuple[str, np.ndarray, np.ndarray]
    #: Name of a song, and the two arrays or why there are none.
    Results = Iterator[tuple[str, tuple[np.ndarray, np.ndarray] | Exception]]

BLOCK_BYTES = 1 << 24  # size of the features written to a Parquet file at once; bounds the memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag embed`."""
    parser.description = (
        "Write the features that a layer of a trained tagger computes, for use elsewhere: one row per song, the "
        "mean over its patches. Files are read and cut into patches as by musictag tag. An existing file is never "
        "overwritten; Ctrl-C keeps the finished songs. data=... and its keys, as for train.py, in place of files: all "
        "songs of a data set, by song_id, from the features that are stored beside its prepared audio."
    )
    add_songs(parser, "*")
    add_model(parser)
    parser.add_argument(
        "--layer",
        metavar="LAYER",
        help="penultimate (default: the input of the last layer; for a baseline: its features), frontend, or the name "
        "of another layer",
    )
    parser.add_argument("--list-layers", action="store_true", help="print the layers of the model and exit")
    parser.add_argument(
        "--out",
        default="embeddings.parquet",
        type=path_argument,
        metavar="FILE",
        help=".parquet or .npz (default: embeddings.parquet)",
    )
    parser.add_argument("--patches", action="store_true", help="one row per patch, with its start in seconds")
    parser.set_defaults(kept="; nothing was written")


def run(arguments: argparse.Namespace) -> int:
    """Embed songs, or list the layers of a model; returns the exit status. Errors: see ``embed``."""
    if arguments.list_layers == bool(arguments.files):
        raise MusictagError("musictag embed takes the files to embed, or --list-layers without files")
    return list_layers(arguments) if arguments.list_layers else embed(arguments)


def list_layers(arguments: argparse.Namespace) -> int:
    """Print the layers that can be embedded: name, class, output shape for a patch, H. Returns 0."""
    from musictag.inference.load import load

    usable = load(arguments.model, arguments.device, arguments.trust).layers()
    rows = [("LAYER", "KIND", "SHAPE PER PATCH", "FEATURES")]
    rows += [(layer.name, layer.kind, "×".join(map(str, layer.shape)), str(layer.size)) for layer in usable.values()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for *texts, size in rows:
        cells = [text.ljust(width) for text, width in zip(texts, widths, strict=False)]
        print("  ".join([*cells, size.rjust(widths[-1])]))
    return 0


def embed(arguments: argparse.Namespace) -> int:
    """Write the features of songs to a file; returns the exit status: 1 if a song had to be skipped.

    Raises MusictagError, before any work, for a file that cannot be written, and if no song could be used: then it is
    not created.
    """
    with importing():
        from musictag.cli.each_song import Songs
        from musictag.inference.load import load
        from musictag.inference.many_songs import each_result
        from musictag.models.pretrained import digest

    model, out, patches = arguments.model, arguments.out, arguments.patches
    path = Path(out)
    if path.suffix.lower() not in WRITERS:
        raise MusictagError(f"--out {out} must end in {' or '.join(WRITERS)}")
    if path.exists():
        raise MusictagError(f"{out} already exists; choose another name with --out, or delete it")
    of_data = any(given.startswith("data=") for given in arguments.files)
    songs = Songs([] if of_data else arguments.files)
    tagger = load(model, arguments.device, arguments.trust, arguments.precision)
    embedder = tagger.embedder(arguments.layer)
    about = {
        "model": model,
        "model_sha256": digest(model),
        "layer": embedder.layer.name,
        "sample_rate": tagger.sample_rate,
        "patch_seconds": embedder.patch_seconds,
        "musictag": version("musictag"),
    }
    if of_data:
        column, results = "song_id", _of_prepared(songs, arguments.files, embedder)
    else:
        column, results = "path", each_result(embedder.work(), songs.paths, embedder.sample_rate)
    write, rows = WRITERS[path.suffix.lower()], _rows(songs, results, patches)
    try:
        with songs.stoppable(), atomic_write(path) as file:
            number = write(file, rows, embedder.layer.size, json.dumps(about), patches, column)
            if not number:
                raise _Ended
    except _Ended:
        if (status := songs.status("were embedded, so nothing was written")) > 1:
            return status
        raise MusictagError(f"no file could be embedded, so {out} was not created") from None
    except OSError as error:
        raise MusictagError(f"{out} cannot be written: {error.strerror or error}") from error
    what = quantity(songs.done, "song") + (f", {quantity(number, 'patch', 'patches')}" if patches else "")
    print(f"{out}: {what}, {quantity(embedder.layer.size, 'feature')} each (layer {embedder.layer.name})")
    return songs.status("are in it; for the others, choose another name with --out")


class _Ended(Exception):
    """A file must be discarded."""


def _rows(songs: Songs, results: Results, patches: bool) -> Iterator[SongRows]:
    """The rows to write for each song of ``results`` that can be used."""
    for name, (seconds, features) in songs.successes(results, "embedding"):
        if not patches:
            seconds, features = seconds[:1], features.mean(axis=0, keepdims=True)
        yield unicode_name(name), seconds, features


def _of_prepared(songs: Songs, overrides: Sequence[str], embedder: SongEmbedder) -> Results:
    """The songs of the data set that ``overrides`` describe, from their stored features.

    Raises MusictagError as ``prepare`` and ``stored_patch_features`` do, for baselines, and for another sample rate.
    """
    import numpy as np

    from musictag.data.audio.patches import patch_starts
    from musictag.data.features.patch_features import stored_patch_features
    from musictag.experiment.builders import build_source
    from musictag.experiment.compose import configuration
    from musictag.experiment.evaluation import prepared_songs
    from musictag.experiment.identity import check_keys

    config = configuration(overrides)
    check_keys(config)
    source = build_source(config)
    prepared = prepared_songs(source, source.manifest(), config)
    store, ids = prepared.store, prepared.manifest.song_ids
    if embedder.patch_seconds is None or embedder.sample_rate != store.sample_rate:
        raise MusictagError(
            f"features of patches at {store.sample_rate:,} Hz are stored beside prepared audio, and this model has "
            "none: name the files themselves"
        )
    found = stored_patch_features(store, ids, embedder)
    songs.paths = ids.tolist()
    size = round(embedder.patch_seconds * store.sample_rate)
    lengths = store.num_samples[store.rows_of(ids)].tolist()
    return (
        (song, (patch_starts(length, size) / store.sample_rate, found.values[begin:end].astype(np.float32)))
        for song, length, (begin, end) in zip(songs.paths, lengths, pairwise(found.first), strict=True)
    )


def _write_parquet(file: IO[bytes], rows: Iterable[SongRows], size: int, about: str, patches: bool, name: str) -> int:
    """Columns ``name``, ``seconds`` if ``patches``, ``embedding`` (lists of ``size`` float32); block by block. Returns
    the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    start = [("seconds", pa.float64())] if patches else []
    schema = pa.schema([(name, pa.string()), *start, ("embedding", pa.list_(pa.float32(), size))], {"about": about})
    number = 0
    # features rarely repeat: dictionary encoding would only cost time
    with pq.ParquetWriter(file, schema, use_dictionary=[name]) as writer:
        for paths, seconds, features in _blocks(rows, BLOCK_BYTES):
            lists = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), size)
            writer.write_table(pa.table({name: paths, "seconds": seconds, "embedding": lists}, schema))
            number += len(paths)
    return number


def _write_npz(file: IO[bytes], rows: Iterable[SongRows], size: int, about: str, patches: bool, name: str) -> int:
    """Arrays ``name`` + s, ``seconds`` if ``patches``, ``embeddings`` (rows × ``size``) and ``about``, a JSON text.
    Returns the number of rows."""
    import numpy as np

    number = 0
    for paths, seconds, features in _blocks(rows, sys.maxsize):  # all in one
        start = {"seconds": seconds} if patches else {}
        np.savez(file, **{f"{name}s": np.array(paths)}, **start, embeddings=features, about=np.array(about))
        number = len(paths)
    return number


WRITERS = {".parquet": _write_parquet, ".npz": _write_npz}


def _blocks(rows: Iterable[SongRows], num_bytes: int) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
    """Rows of several songs merged: their paths (repeated for each row), seconds and features."""
    import numpy as np

    paths: list[str] = []
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    held = 0
    for path, seconds, features in rows:
        paths += [path] * len(seconds)
        parts.append((seconds, features))
        held += features.nbytes
        if held >= num_bytes:
            yield paths, *map(np.concatenate, zip(*parts, strict=True))
            paths, parts, held = [], [], 0
    if parts:
        yield paths, *map(np.concatenate, zip(*parts, strict=True))
