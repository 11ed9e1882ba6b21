"""Features of songs from inside a tagger, for use elsewhere.

Legend: B patches, N samples, C channels, F mel bands, T frames, H numbers in a row.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from musictag.errors import MusictagError
from musictag.tagger import AudioSource, Tagger, evaluating

PENULTIMATE = "penultimate"
_HOW_TO_LIST = "all that can be asked for: musictag embed --model MODEL --list-layers"


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


class Embedder:
    """Songs -> features of one layer of ``tagger``: cut into patches, read and batched exactly as for tagging.

    ``layer`` is ``penultimate`` (what goes into the last layer, ``tagger.backend.output``: H numbers a patch) or the
    dotted name of a module, such as ``frontend`` or ``backend.convolutions.2``. Of outputs over time (B×C×T) or over
    frequency and time (B×C×F×T) it takes the mean, so that H = C. ``layers`` finds those that can be asked for.

    Raises MusictagError for any other name, with the reason or with names that are similar.
    """

    def __init__(self, tagger: Tagger, layer: str = PENULTIMATE):
        self.tagger = tagger
        if layer == PENULTIMATE:  # known without looking
            self.layer = _penultimate(tagger)
            return
        usable, refused = layers(tagger)
        if layer in refused:
            raise MusictagError(f"layer {layer} cannot be embedded: {refused[layer]}; {_HOW_TO_LIST}")
        if layer not in usable:
            similar = difflib.get_close_matches(layer, usable, n=3)
            hint = f"; similar names: {', '.join(similar)}" if similar else ""
            raise MusictagError(f"this model has no layer {layer}{hint}; {_HOW_TO_LIST}")
        self.layer = usable[layer]

    def song(self, source: AudioSource) -> np.ndarray:
        """H float32: the mean over the song's patches. Raises as ``Tagger.tag`` does."""
        return self.patches(source)[1].mean(axis=0)

    def patches(self, source: AudioSource) -> tuple[np.ndarray, np.ndarray]:
        """Seconds at which the patches begin (B) and their features (B×H float32). Raises as ``Tagger.tag`` does."""
        tagger = self.tagger
        starts, features = tagger.over_patches(self._features, tagger.read(source), tagger.patch_samples)
        return starts / tagger.sample_rate, features

    def _features(self, waveform: Tensor) -> Tensor:
        """B×N -> B×H. The hook is gone afterwards, whatever happens."""
        heard: list[Tensor] = []
        with _listening(self.tagger, self.layer, heard):
            self.tagger(waveform)
        expected = (len(waveform), self.layer.size)
        if [tuple(found.shape) for found in heard] != [expected]:
            raise MusictagError(f"layer {self.layer.name} of this model does not give one row of numbers a patch")
        return heard[0]


def layers(tagger: Tagger) -> tuple[dict[str, Layer], dict[str, str]]:
    """The layers that can be embedded, by name, and why others cannot, found by letting silence go through."""
    seen = _outputs(tagger, tagger.input_samples)
    longer = _outputs(tagger, 2 * tagger.input_samples, all_of_it=not tagger.backend.fixed_length)
    usable, refused = {PENULTIMATE: _penultimate(tagger)}, {}
    for name, module in list(tagger.named_modules())[1:]:  # without the tagger itself
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


def _outputs(tagger: Tagger, num_samples: int, all_of_it: bool = True) -> dict[str, list[Any]]:
    """What each module returns for two patches of ``num_samples``, call by call: a tensor's shape, or another's class.

    Not ``all_of_it``: of the front-end alone.
    """
    seen: dict[str, list[Any]] = {}

    def note(name: str, output: Any) -> None:
        seen.setdefault(name, []).append(tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__)

    with ExitStack() as hooks, evaluating(tagger), torch.inference_mode():
        for name, module in tagger.named_modules():
            hooks.enter_context(module.register_forward_hook(lambda _m, _in, out, name=name: note(name, out)))
        silence = torch.zeros(2, num_samples, device=next(tagger.parameters()).device)
        tagger(silence) if all_of_it else tagger.frontend(silence)
    return seen


def _penultimate(tagger: Tagger) -> Layer:
    output = tagger.backend.output
    return Layer(PENULTIMATE, "input of backend.output", (output.in_features,))


def _listening(tagger: Tagger, layer: Layer, heard: list[Tensor]) -> torch.utils.hooks.RemovableHandle:
    """A hook that appends what ``layer`` makes of each batch, B×H, to ``heard``; a context that ends with it."""
    if layer.name == PENULTIMATE:
        output: nn.Module = tagger.backend.output
        return output.register_forward_pre_hook(lambda _module, inputs: heard.append(layer.vectors(inputs[0])))
    module = tagger.get_submodule(layer.name)
    return module.register_forward_hook(lambda _module, _inputs, output: heard.append(layer.vectors(output)))


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
