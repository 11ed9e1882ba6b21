"""Features of songs from inside a tagger, for use elsewhere: `musictag embed`, and the same in Python.

Legend: B patches, N samples, C channels, F mel bands, T frames, H numbers in a row.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from musictag import __version__
from musictag.data.audio.read import AudioSource, read_source
from musictag.data.progress import Progress
from musictag.each_song import Songs
from musictag.errors import MusictagError
from musictag.files import atomic_write
from musictag.inference.over_patches import evaluating, over_patches
from musictag.inference.tagger import SongEmbedder
from musictag.models.network import TaggingNetwork
from musictag.transfer import digest
from musictag.untrusted import unicode_name

PENULTIMATE = "penultimate"
_HOW_TO_LIST = "all that can be asked for: musictag embed --model MODEL --list-layers"
BLOCK_BYTES = 1 << 24  # of features that a Parquet file gets at once; bounds the memory

#: A song's path as it was typed (bytes that are not UTF-8 written out), the seconds at which its patches begin (B),
#: their features (B×H).
SongRows = tuple[str, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Layer:
    """A module whose output can be embedded.

    ``shape`` is what it makes of one patch, ``channels`` says which axis of that is H (0: first); the mean is taken
    over the others. ``kind`` is the module's class.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    channels: int = 0

    @property
    def size(self) -> int:
        """H."""
        return self.shape[self.channels]

    def vectors(self, output: Tensor) -> Tensor:
        """What the module returned for B patches -> B×H float32, apart from what may still be changed in place."""
        output = output.float()
        return output.clone() if output.ndim == 2 else output.movedim(self.channels + 1, 1).flatten(2).mean(-1)


class Embedder(SongEmbedder):
    """Songs -> features of one layer of ``network``: cut into patches, read and batched exactly as for tagging.

    ``layer`` is ``penultimate`` (what goes into the last layer, ``network.backend.output``: H numbers a patch) or the
    dotted name of a module, such as ``frontend`` or ``backend.convolutions.2``. Of outputs over time (B×C×T) or over
    frequency and time (B×C×F×T) it takes the mean, so that H = C. ``layers`` finds those that can be asked for.

    Raises MusictagError for any other name, with the reason or with names that are similar.
    """

    def __init__(self, network: TaggingNetwork, layer: str = PENULTIMATE):
        self.network = network
        self.patch_seconds = network.patch_seconds
        if layer == PENULTIMATE:  # known without looking
            self.layer = _penultimate(network)
            return
        usable, refused = layers(network)
        if layer in refused:
            raise MusictagError(f"layer {layer} cannot be embedded: {refused[layer]}; {_HOW_TO_LIST}")
        if layer not in usable:
            similar = difflib.get_close_matches(layer, usable, n=3)
            hint = f"; similar names: {', '.join(similar)}" if similar else ""
            raise MusictagError(f"this model has no layer {layer}{hint}; {_HOW_TO_LIST}")
        self.layer = usable[layer]

    def patches(self, source: AudioSource) -> tuple[np.ndarray, np.ndarray]:
        network = self.network
        audio = read_source(source, network.sample_rate)
        starts, features = over_patches(network, self._features, audio, network.patch_samples)
        return starts / network.sample_rate, features

    def _features(self, waveform: Tensor) -> Tensor:
        """B×N -> B×H. The hook is gone afterwards, whatever happens."""
        heard: list[Tensor] = []
        with _listening(self.network, self.layer, heard):
            self.network(waveform)
        expected = (len(waveform), self.layer.size)
        if [tuple(found.shape) for found in heard] != [expected]:
            raise MusictagError(f"layer {self.layer.name} of this model does not give one row of numbers a patch")
        return heard[0]


def layers(network: TaggingNetwork) -> tuple[dict[str, Layer], dict[str, str]]:
    """The layers that can be embedded, by name, and why others cannot, found by letting silence go through."""
    seen = _outputs(network, network.input_samples)
    longer = _outputs(network, 2 * network.input_samples, all_of_it=not network.backend.fixed_length)
    usable, refused = {PENULTIMATE: _penultimate(network)}, {}
    for name, module in list(network.named_modules())[1:]:  # without the network itself
        found = _describe(name, type(module).__name__, seen.get(name, []), longer.get(name, []))
        if isinstance(found, Layer):
            usable[name] = found
        else:
            refused[name] = found
    return usable, refused


def _describe(name: str, kind: str, outputs: Sequence[Any], longer: Sequence[Any]) -> Layer | str:
    """The layer that a module is, or why it is none; ``longer`` are its outputs for twice as long a waveform.

    What grows with the waveform is time. Most modules have it last, those of a Transformer before the channels.
    """
    if len(outputs) != 1:
        return f"it is used {len(outputs)} times a patch" if outputs else "nothing goes through it as a whole"
    (shape,) = outputs
    if not isinstance(shape, tuple):
        return f"it returns a {shape}, not a tensor"
    if shape[:1] != (2,) or not 2 <= len(shape) <= 4:
        return f"its output for 2 patches is {_by(shape)}: neither B×H, B×C×T nor B×C×F×T"
    grown = [axis for axis, length in enumerate(longer[0]) if length != shape[axis]] if longer else []
    if len(shape) == 3 and grown == [1]:
        return Layer(name, kind, shape[1:], channels=1)
    if len(shape) > 2 and 1 in grown:
        return f"its output for 2 patches is {_by(shape)}, with time where the channels should be"
    return Layer(name, kind, shape[1:])


def _outputs(network: TaggingNetwork, num_samples: int, all_of_it: bool = True) -> dict[str, list[Any]]:
    """What each module returns for two patches of ``num_samples``, call by call: a tensor's shape, or another's class.

    Not ``all_of_it``: of the front-end alone.
    """
    seen: dict[str, list[Any]] = {}

    def note(name: str, output: Any) -> None:
        seen.setdefault(name, []).append(tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__)

    with ExitStack() as hooks, evaluating(network), torch.inference_mode():
        for name, module in network.named_modules():
            hooks.enter_context(module.register_forward_hook(lambda _m, _in, out, name=name: note(name, out)))
        silence = torch.zeros(2, num_samples, device=next(network.parameters()).device)
        network(silence) if all_of_it else network.frontend(silence)
    return seen


def _penultimate(network: TaggingNetwork) -> Layer:
    output = network.backend.output
    return Layer(PENULTIMATE, "input of backend.output", (output.in_features,))


def _listening(network: TaggingNetwork, layer: Layer, heard: list[Tensor]) -> torch.utils.hooks.RemovableHandle:
    """A hook that appends what ``layer`` makes of each batch, B×H, to ``heard``; a context that ends with it."""
    if layer.name == PENULTIMATE:
        output: nn.Module = network.backend.output
        return output.register_forward_pre_hook(lambda _module, inputs: heard.append(layer.vectors(inputs[0])))
    module = network.get_submodule(layer.name)
    return module.register_forward_hook(lambda _module, _inputs, output: heard.append(layer.vectors(output)))


def list_layers(model: str, device: str = "cpu") -> int:
    """Print the layers of ``model`` that can be embedded: name, class, what a patch becomes, H. Returns 0."""
    from musictag.inference.load import load

    usable = load(model, device).layers()
    rows = [("LAYER", "KIND", "A PATCH BECOMES", "NUMBERS")]
    rows += [(layer.name, layer.kind, _by(layer.shape), str(layer.size)) for layer in usable.values()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for *texts, size in rows:
        cells = [text.ljust(width) for text, width in zip(texts, widths, strict=False)]
        print("  ".join([*cells, size.rjust(widths[-1])]))
    return 0


def main(
    names: Sequence[str], model: str, layer: str | None, out: str, patches: bool = False, device: str = "cpu"
) -> int:
    """Write the features of the files ``names``, and of all audio below those that are folders, to ``out``; returns the
    exit status: 1 where a file had to be left out.

    One row a song, or one a patch with ``patches``. Files that cannot be used are named on standard error. Ends after
    Ctrl-C with the songs that were finished in ``out``. Raises MusictagError, before any work, for an ``out`` that
    cannot be written, and where no file could be used: then there is no ``out``.
    """
    from musictag.inference.load import load

    path = Path(out)
    if path.suffix.lower() not in WRITERS:
        raise MusictagError(f"--out {out} must end in {' or '.join(WRITERS)}")
    if path.exists():
        raise MusictagError(f"{out} is there already; type another name after --out, or delete it")
    songs = Songs(names)
    tagger = load(model, device)
    embedder = tagger.embedder(layer)
    about = {
        "model": model,
        "model_sha256": digest(model),
        "layer": embedder.layer.name,
        "sample_rate": tagger.sample_rate,
        "patch_seconds": embedder.patch_seconds,
        "musictag": __version__,
    }
    rows = _Rows(songs, embedder, patches)
    try:
        with songs.heard(), atomic_write(path) as file:
            WRITERS[path.suffix.lower()](file, rows, embedder.layer.size, json.dumps(about), patches)
            if not songs.done:
                raise _Ended
    except _Ended:
        if (status := songs.status("were embedded, so nothing was written")) > 1:
            return status
        raise MusictagError(f"no file could be embedded, so there is no {out}") from None
    except OSError as error:
        raise MusictagError(f"{out} cannot be written: {error.strerror or error}") from error
    what = _count(songs.done, "song") + (f", {_count(rows.number, 'patch', 'es')}" if patches else "")
    print(f"{out}: {what}, {_count(embedder.layer.size, 'number')} each (layer {embedder.layer.name})")
    return songs.status("are in it; for the others, give another name after --out")


class _Ended(Exception):
    """Before its time: the work, or a file of which nothing shall be left."""


class _Rows:
    """What is to be written of each song that can be used; ``number`` counts the rows."""

    def __init__(self, songs: Songs, embedder: SongEmbedder, patches: bool) -> None:
        self.number = 0
        self._songs, self._embedder, self._patches = songs, embedder, patches

    def __iter__(self) -> Iterator[SongRows]:
        with suppress(_Ended), Progress("embedding", len(self._songs.paths), unit="files") as progress:
            for path, (seconds, features) in self._songs.each(self._embedder.patches):
                if not self._patches:
                    seconds, features = seconds[:1], features.mean(axis=0, keepdims=True)
                self.number += len(seconds)
                yield unicode_name(path), seconds, features
                progress.show(self._songs.done)
            if self._songs.is_stopped:
                raise _Ended


def _write_parquet(file: IO[bytes], rows: Iterable[SongRows], size: int, about: str, patches: bool) -> None:
    """Columns ``path``, ``seconds`` if ``patches``, ``embedding`` (lists of ``size`` float32); a block at a time."""
    columns = {"path": pa.string(), "seconds": pa.float64(), "embedding": pa.list_(pa.float32(), size)}
    if not patches:
        del columns["seconds"]
    schema = pa.schema(columns, {"about": about})
    # features hardly ever recur: a dictionary of them would only take time
    with pq.ParquetWriter(file, schema, use_dictionary=["path"]) as writer:
        for paths, seconds, features in _blocks(rows, BLOCK_BYTES):
            lists = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), size)
            values = {"path": pa.array(paths, pa.string()), "seconds": seconds, "embedding": lists}
            writer.write_table(pa.table({name: values[name] for name in columns}, schema))


def _write_npz(file: IO[bytes], rows: Iterable[SongRows], size: int, about: str, patches: bool) -> None:
    """Arrays ``paths``, ``seconds`` if ``patches``, ``embeddings`` (rows × ``size``) and ``about``, a JSON text."""
    for paths, seconds, features in _blocks(rows, sys.maxsize):
        arrays = {"paths": np.array(paths), "seconds": seconds, "embeddings": features, "about": np.array(about)}
        if not patches:
            del arrays["seconds"]
        np.savez(file, **arrays)


WRITERS = {".parquet": _write_parquet, ".npz": _write_npz}


def _blocks(rows: Iterable[SongRows], num_bytes: int) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
    """Rows of several songs in one: their paths (as often as they have rows), seconds and features."""
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


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number:,} {noun}{plural if number != 1 else ''}"


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
