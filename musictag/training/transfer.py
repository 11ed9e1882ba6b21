"""Transfer learning: fine-tuning of trained weights, and probes on a frozen network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from musictag.common.errors import MusictagError
from musictag.models.backends import BackEnd
from musictag.models.checkpoint import read_tagger
from musictag.models.frontends import FrontEnd
from musictag.models.frontends.encoder import brings_weights
from musictag.models.frozen import TRAINING_SETTINGS, filled
from musictag.models.network import TaggingNetwork
from musictag.models.pretrained import PRETRAINED, locate
from musictag.training.finetune import check_finetuning

PROBE = "musictag.models.backends.probe.Probe"


def with_probe(backend: Mapping[str, Any], probe: Mapping[str, Any]) -> dict[str, Any]:
    """The specification of a probe on ``backend``."""
    return {"_target_": PROBE, "body": dict(backend), **probe}


def check_transfer(config: Mapping[str, Any]) -> None:
    """Raise MusictagError for combinations of ``init_from``, ``freeze``, ``probe`` and ``finetune`` that are wrong in
    any case."""
    check_finetuning(config)
    if config["init_from"] is not None:
        locate(config["init_from"])
    elif config["trainer"]["max_epochs"] == 0:
        raise MusictagError(
            "trainer.max_epochs=0 trains nothing: it scores trained weights on the test songs; use init_from=..., the "
            "tagger.safetensors of a run or a pretrained name"
        )
    elif "probe" in config:
        raise MusictagError(
            "a probe needs a trained network; use init_from=..., the tagger.safetensors of a run or a pretrained name"
        )
    elif config["freeze"] is not None and not brings_weights(config["frontend"]):
        raise MusictagError(
            f"freeze={config['freeze']} keeps weights that were trained before; use init_from=... as well"
        )


def initialise_from(network: TaggingNetwork, model: str, will_train: bool = True) -> str:
    """Give ``network`` the weights of tagger ``model``, in place; returns a message about it.

    Front-end, back-end and the measured normalisation are copied. The last layer is copied if the tags are the same in
    the same order; else it stays as initialized, as a new head. A probe is always new.

    Raises MusictagError if the stored architecture is not that of ``network``, and if something is new without
    ``will_train``.
    """
    stored = read_tagger(locate(model))
    spec, weights = stored.spec, stored.state
    own = network.spec
    is_probe = own["backend"]["_target_"] == PROBE and spec["backend"].get("_target_") != PROBE
    backend = own["backend"]["body"] if is_probe else own["backend"]
    differences = [
        *_differences(own["frontend"], spec["frontend"], "frontend", FrontEnd),
        *_differences(backend, spec["backend"], "backend", BackEnd),
    ]
    if differences:
        preset = PRETRAINED[model].architecture if model in PRETRAINED else None
        hint = f"use model={preset} for its architecture" if preset else "use the settings it was trained with"
        raise MusictagError(
            f"init_from={model} has another architecture than the network to train; {hint}. It differs in "
            + "; ".join(differences)
        )
    same_tags = spec["tags"] == own["tags"] and not is_probe
    if not will_train and not same_tags:
        raise MusictagError(_untrained(model, is_probe, spec["tags"], own["tags"]))
    if is_probe:
        weights = {key.replace("backend.", "backend.body.", 1): value for key, value in weights.items()}
    state = network.state_dict()
    if is_probe:
        new = {key for key in state if not key.startswith(("frontend.", "backend.body."))}
    else:
        new = {key for key in state if key.startswith("backend.output.") and not same_tags}
    for key in state.keys() - new:
        if key not in weights or weights[key].shape != state[key].shape:
            found = tuple(weights[key].shape) if key in weights else "missing"
            raise MusictagError(
                f"init_from={model}: {key} is {found}, not {tuple(state[key].shape)}. Back-ends of a fixed length need "
                "patches of the length they were trained with: see data.patch_seconds"
            )
    network.load_state_dict({key: state[key] if key in new else weights[key] for key in state})
    if is_probe:
        return f"Weights of {model}; everything but the probe stays unchanged"
    if same_tags:
        return f"Weights of {model}, for the same {len(spec['tags'])} tags"
    return f"Weights of {model}; the last layer is new: {len(own['tags'])} tags instead of its {len(spec['tags'])}"


def _untrained(model: str, is_probe: bool, *both: Sequence[Mapping[str, str]]) -> str:
    """The message for new weights that would be scored without training; ``both``: tags of the model and the data."""
    if is_probe:
        return (
            f"trainer.max_epochs=0 scores weights as they are, but the probe on {model} would be new; omit probe, "
            "or use the tagger.safetensors of a run with this probe as init_from"
        )
    known, wanted = ([f"{tag['name']}:{tag['kind']}" for tag in tags] for tags in both)
    are = "the same in another order" if sorted(known) == sorted(wanted) else f"others, {len(known)} of them"
    return (
        f"trainer.max_epochs=0 scores weights as they are, but the tags of {model} are {are}: its last layer would be "
        f"new. With data=catalogue its own tags are chosen, in their order, by data.tags={{{','.join(known[:3])}"
        f"{',...' if len(known) > 3 else ''}}}; or train the last layer with trainer.max_epochs=1 or more"
    )


def _differences(own: Mapping[str, Any], other: Mapping[str, Any], group: str, contract: type) -> list[str]:
    """Differences of two specifications that make different networks, with the value of the checkpoint."""
    if own["_target_"] != other["_target_"]:
        return [f"{group}: {other['_target_'].rpartition('.')[2]}, not {own['_target_'].rpartition('.')[2]}"]
    ours, theirs = filled(own, contract), filled(other, contract)
    return [
        f"{group}.{key}={theirs.get(key)} (here {ours.get(key)})"
        for key in sorted(ours.keys() | theirs.keys())
        if key not in TRAINING_SETTINGS and ours.get(key) != theirs.get(key)
    ]
