"""Features of songs from inside a tagger, for use elsewhere.

Legend: B patches, N samples, C channels, F mel bands, T frames, H features.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.inference.over_patches import Patches, evaluating, in_memory
from musictag.inference.tagger import Layer, SongEmbedder
from musictag.models.frozen import layer_digest
from musictag.models.inference_form import InferenceForm
from musictag.models.network import TaggingNetwork

PENULTIMATE = "penultimate"
#: Hooks hear the network in whichever thread it runs.
_ONE_AT_A_TIME = Lock()
_HOW_TO_LIST = "to list all layers: musictag embed --model MODEL --list-layers"


class Embedder(SongEmbedder):
    """Songs -> features from one layer of ``network``: read, cut into patches and batched exactly as for tagging.

    ``layer`` is ``penultimate`` (the input of the last layer, ``network.backend.output``: H features per patch) or the
    dotted name of a module, such as ``frontend`` or ``backend.convolutions.2``. Outputs over time (B×C×T) or over
    frequency and time (B×C×F×T) are averaged, so that H = C. ``layers`` lists the valid names.

    ``precision`` is that of the inference form, which computes ``penultimate``; the other layers are float32.

    Raises MusictagError for any other name, with the reason or with similar names.
    """

    def __init__(self, network: TaggingNetwork, layer: str = PENULTIMATE, precision: str = "32-true"):
        self.network = network
        self.patch_seconds, self.sample_rate = network.patch_seconds, network.sample_rate
        if layer == PENULTIMATE:  # needs no search
            self.layer, self._runs = _penultimate(network), network.inference_form(precision)
            return
        if precision != "32-true":
            raise MusictagError(f"precision={precision} with layer {layer}: only {PENULTIMATE} can be had in bfloat16")
        usable, refused = layers(network)
        if layer in refused:
            raise MusictagError(f"layer {layer} cannot be embedded: {refused[layer]}; {_HOW_TO_LIST}")
        if layer not in usable:
            similar = difflib.get_close_matches(layer, usable, n=3)
            hint = f"; similar names: {', '.join(similar)}" if similar else ""
            raise MusictagError(f"this model has no layer {layer}{hint}; {_HOW_TO_LIST}")
        self.layer, self._runs = usable[layer], network  # the inference form has no such layers

    @property
    def about(self) -> dict[str, Any]:
        """The same in words."""
        return {"layer": self.layer.name, "patch_seconds": self.patch_seconds}

    @cached_property
    def digest(self) -> str:
        """Identifies what is computed: settings, weights, layer and patch length."""
        return layer_digest(self.network, self.layer.name)

    def embed_patches(self, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return in_memory(self.work(), audio)

    def work(self) -> Patches[tuple[np.ndarray, np.ndarray]]:
        return _in_seconds(self.network, self.features)

    def features(self, waveform: Tensor) -> Tensor:
        """Patches with margins, B×N float32 on the network's device -> B×H. The hook is always removed afterwards."""
        heard: list[Tensor] = []
        with _ONE_AT_A_TIME, _listening(self._runs, self.layer, heard):
            self._runs(waveform)
        expected = (len(waveform), self.layer.size)
        if [tuple(found.shape) for found in heard] != [expected]:
            raise MusictagError(f"layer {self.layer.name} of this model does not return one vector per patch")
        return heard[0]


class BeforeHead:
    """Songs -> the vectors that the head of ``network`` gets, with the weights of this moment."""

    def __init__(self, network: TaggingNetwork) -> None:
        self._network = network
        self._form = InferenceForm(network.frontend, network.backend.before_head())
        self.digest = layer_digest(network, None)
        self.about = {"layer": "before the head", "patch_seconds": network.patch_seconds}

    def embed_patches(self, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As ``SongEmbedder.embed_patches``."""
        return in_memory(_in_seconds(self._network, self._form), audio)


def _in_seconds(network: TaggingNetwork, compute: Callable[[Tensor], Tensor]) -> Patches[tuple[np.ndarray, np.ndarray]]:
    """Consecutive patches: their starts in seconds, B, and what ``compute`` makes of them."""
    return Patches(network, compute, network.patch_samples, lambda starts, rows: (starts / network.sample_rate, rows))


def layers(network: TaggingNetwork) -> tuple[dict[str, Layer], dict[str, str]]:
    """The layers that can be embedded, by name, and why others cannot, found with a forward pass of silence."""
    seen = _outputs(network, network.input_samples)
    longer = _outputs(network, 2 * network.input_samples, all_of_it=not network.backend.fixed_length)
    usable, refused = {PENULTIMATE: _penultimate(network)}, {}
    for name, module in list(network.named_modules())[1:]:  # skips the network itself
        found = _describe(name, type(module).__name__, seen.get(name, []), longer.get(name, []))
        if isinstance(found, Layer):
            usable[name] = found
        else:
            refused[name] = found
    return usable, refused


def _describe(name: str, kind: str, outputs: Sequence[Any], longer: Sequence[Any]) -> Layer | str:
    """The layer that a module is, or why it is not one; ``longer`` are its outputs for a waveform twice as long.

    The axis that grows with the waveform is time: the last one in most modules, before the channels in a Transformer.
    """
    if len(outputs) != 1:
        return f"it is used {len(outputs)} times per patch" if outputs else "its forward method is never called"
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
    """What each module returns for two patches of ``num_samples``, per call: the shape of a tensor, else the class.

    Without ``all_of_it`` only the front-end runs.
    """
    seen: dict[str, list[Any]] = {}

    def note(name: str, output: Any) -> None:
        seen.setdefault(name, []).append(tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__)

    with _ONE_AT_A_TIME, ExitStack() as hooks, evaluating(network), torch.inference_mode():
        for name, module in network.named_modules():
            hooks.enter_context(module.register_forward_hook(lambda _m, _in, out, name=name: note(name, out)))
        silence = torch.zeros(2, num_samples, device=next(network.parameters()).device)
        network(silence) if all_of_it else network.frontend(silence)
    return seen


def _penultimate(network: TaggingNetwork) -> Layer:
    output = network.backend.output
    return Layer(PENULTIMATE, "input of backend.output", (output.in_features,))


def _listening(
    network: TaggingNetwork | InferenceForm, layer: Layer, heard: list[Tensor]
) -> torch.utils.hooks.RemovableHandle:
    """A hook that appends the features of ``layer`` for each batch, B×H, to ``heard``; a context that removes it."""
    if layer.name == PENULTIMATE:
        output: nn.Module = network.backend.output
        return output.register_forward_pre_hook(lambda _module, inputs: heard.append(layer.vectors(inputs[0])))
    module = network.get_submodule(layer.name)
    return module.register_forward_hook(lambda _module, _inputs, output: heard.append(layer.vectors(output)))


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
