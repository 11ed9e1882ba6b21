"""What metrics.json says of a network, beyond the scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from musictag.data.features.patch_features import PatchEmbedder
from musictag.data.loading.datamodule import SongDataModule
from musictag.evaluation.metrics import monitors
from musictag.models.network import TaggingNetwork
from musictag.models.summary import head_flops, training_flops

#: A run still improves if its monitor gains more than this share from one fifth of its epochs to the next.
_GAIN = 0.01
#: Songs whose features are computed again to measure how long that takes.
_TIMED_SONGS = 8


def network_facts(
    network: TaggingNetwork,
    data: SongDataModule,
    history: Sequence[Mapping[str, Any]],
    best_epoch: int | None,
    validation: dict[str, float] | None,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Validation, sizes, speed, seconds of the stages.

    ``validation``: scores of weights that were not trained here, without ``history`` and ``best_epoch``.
    """
    train_seconds, patches = (sum(row[key] for row in history) for key in ("seconds", "patches"))
    speed = patches * network.patch_seconds / max(train_seconds, 1e-9) if history else None
    return {
        "family": network.frontend.family,
        "input": network.frontend.describe_input(),
        "validation": history[best_epoch] if history else validation,
        "epochs": len(history),
        "best_epoch": best_epoch,
        "parameters": sum(p.numel() for p in network.parameters()),
        "parameters_trained": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "speed": {
            "train_audio_seconds_per_second": speed,
            "test_audio_seconds_per_second": data.audio_seconds("test") / max(seconds["test"], 1e-9),
        },
        "seconds": {name: round(value, 3) for name, value in seconds.items()} | {"epochs": round(train_seconds, 3)},
    }


def computing_seconds(data: SongDataModule, compute: Callable[[np.ndarray], Any]) -> float:
    """Seconds that ``compute`` takes for one second of audio, measured on a few test songs (int16 N each)."""
    chosen = np.linspace(0, len(data.song_ids("test")) - 1, _TIMED_SONGS).astype(int).tolist()
    songs = [data.audio("test", song) for song in chosen]
    compute(songs[0])  # warm-up
    began = time.perf_counter()
    for song in songs:
        compute(song)
    return (time.perf_counter() - began) * data.sample_rate / sum(map(len, songs))


def with_stored_features(
    facts: Mapping[str, Any], network: TaggingNetwork, data: SongDataModule, embedder: PatchEmbedder
) -> dict[str, Any]:
    """``facts`` of a network whose head alone was trained, on stored features, with the cost of these: they take most
    of it, whether they were stored already or not."""
    computing = computing_seconds(data, embedder.embed_patches)
    speed, compute, patches = dict(facts["speed"]), dict(facts["compute"]), facts["compute"]["patches"]
    speed["test_audio_seconds_per_second"] = 1 / (computing + 1 / speed["test_audio_seconds_per_second"])
    if patches:
        seconds = compute["train_seconds"] + computing * data.audio_seconds("train")
        speed["train_audio_seconds_per_second"] = patches * network.patch_seconds / seconds
        compute["train_seconds"] = round(seconds, 3)
        if compute["train_flop"] is not None:  # of whole steps
            stored = data.features["train"]
            in_head = head_flops(network, stored.values.shape[1])
            before = compute["train_flop"] / patches - in_head
            compute["train_flop"] = before * int(stored.first[-1] - stored.first[0]) + in_head * patches
    return {**facts, "speed": speed, "compute": compute}


def training_facts(
    network: TaggingNetwork,
    history: Sequence[Mapping[str, Any]],
    best_epoch: int | None,
    monitor: str,
    steps: int,
) -> dict[str, Any]:
    """Whether the training had converged, and what it took. ``steps``: of the optimizer."""
    patches = sum(row["patches"] for row in history)
    per_patch = training_flops(network) if history else 0
    compute = {
        "train_flop": None if per_patch is None else float(per_patch * patches),
        "train_seconds": round(sum(row["seconds"] for row in history), 3),
        "steps": steps,
        "patches": patches,
    }
    return {"convergence": convergence(history, best_epoch, monitor) if history else None, "compute": compute}


def convergence(history: Sequence[Mapping[str, Any]], best_epoch: int, monitor: str) -> dict[str, Any]:
    """Whether more epochs could have given more: they could if the best one is within the last tenth while ``monitor``
    was still improving, by more than a hundredth of its value from the last but one fifth of the epochs to the last.

    Fewer than four epochs show no end of the improvement.
    """
    fifth = max(len(history) // 5, 2)
    values = [row[monitor] if monitors()[monitor] == "max" else -row[monitor] for row in history]
    before, last = (sum(part) / fifth for part in (values[-2 * fifth : -fifth], values[-fifth:]))
    has_stopped = len(history) >= 2 * fifth and last - before <= _GAIN * abs(before)
    at_end = best_epoch + 1 > 0.9 * len(history)
    return {
        "best_epoch": best_epoch,
        "epochs": len(history),
        "at_end": at_end,
        "still_falling": not has_stopped,  # the error by the monitor
        "converged": has_stopped or not at_end,
    }
