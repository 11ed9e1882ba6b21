"""From a file or a name to a tagger: the only place that knows which kinds of files exist."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from musictag.common.errors import MusictagError
from musictag.inference.ensemble import EnsembleTagger, read_members
from musictag.inference.hub import check_config
from musictag.inference.network_tagger import NetworkTagger, build_network, load_network
from musictag.inference.tagger import Tagger
from musictag.models.checkpoint import SPEC, read_tagger
from musictag.models.pretrained import ENSEMBLE_FILE, HUB_FILE, locate

__all__ = ["load", "load_network"]


def load(
    model: str | os.PathLike,
    device: str | torch.device = "cpu",
    trust: Sequence[str] = (),
    precision: str = "32-true",
) -> Tagger:
    """Load the tagger of a finished run, ready to tag.

    ``model`` is the tagger.safetensors of a network, the model.json of a baseline, the ensemble.json beside the members
    of an ensemble, the folder of a finished run with any of these, a file of `musictag export` (.onnx), or the name of
    a pretrained model. A network runs on ``device``, a baseline on the CPU, apart from a network that computes its
    features. No configuration file is needed. ``precision="bf16-mixed"`` computes convolutions in bfloat16: faster on
    processors and GPUs that have it, with scores that differ by some thousandths; elsewhere, and for a baseline, it is
    refused.

    The file is treated as untrusted: nothing in it is executed. It may name classes of musictag, of packages that are
    registered under the entry-point group ``musictag.plugins``, and of the packages in ``trust``; this is checked
    before anything is imported. Raises MusictagError for any other file.
    """
    path = locate(model)
    if path.name == ENSEMBLE_FILE:
        paths, facts = read_members(path)
        return EnsembleTagger([load(member, device, trust, precision) for member in paths], facts)
    if path.suffix == ".onnx":
        from musictag.inference.onnx_tagger import read_onnx

        if precision != "32-true" or str(device) != "cpu":
            raise MusictagError(f"an exported network runs on the CPU in float32, not with {device=} {precision=}")
        return read_onnx(path)
    if path.suffix == ".json":
        # imported here: networks need no descriptors, and so no scipy
        from musictag.inference.feature_tagger import read_feature_tagger

        if precision != "32-true":
            raise MusictagError(f"precision={precision}: a baseline has no convolutions; use precision=32-true")
        return read_feature_tagger(path, device, trust)
    stored = read_tagger(path)
    network = build_network(path, stored, device, trust)
    try:
        tagger = NetworkTagger(network, precision, {k: v for k, v in stored.description.items() if k not in SPEC})
    except MusictagError as error:
        raise MusictagError(f"{path}: {error}") from error
    tagger.path = path
    if path.name == HUB_FILE:
        check_config(path.parent, stored.description)
    return tagger
