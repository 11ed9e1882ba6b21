"""A minimal reimplementation of a run in plain PyTorch, which musictag's runs must reproduce.

It shares the network, its initial weights and the pure functions that choose patches (musictag/data/random_draws.py,
which has its own tests). Reading, cutting, loss, optimiser, schedules, early stopping, choice of the best epoch, song
scores and metrics are implemented again. Legend: S songs, N samples, K tags.
"""

from __future__ import annotations

import copy
import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import sklearn.metrics
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor

from musictag.data.random_draws import epoch_order, noise_seed, patch_starts_of_epoch, song_keys
from musictag.models.checkpoint import read_tagger, write_tagger
from musictag.models.network import TaggingNetwork

TAGS = ("high", "noisy", "brightness")


class Split(NamedTuple):
    """``audio``: S arrays of float32 N; ``targets``: float32 S×K, NaN where unknown."""

    ids: list[str]
    audio: list[np.ndarray]
    targets: np.ndarray


class Trained(NamedTuple):
    """``rows`` as in history.csv, ``states`` after each epoch, test scores S×K of the best one."""

    rows: list[dict[str, float]]
    states: list[dict[str, Tensor]]
    best_epoch: int
    test_scores: np.ndarray
    steps: int
    batch_losses: list[float]


def write_beginning(path: Path, config: dict[str, Any], seed: int = 1) -> str:
    """Write a tagger with fresh weights for ``config``; returns the override that starts a run from it."""
    torch.manual_seed(seed)
    tags = [{"name": name, "kind": "regression" if name == "brightness" else "classification"} for name in TAGS]
    network = TaggingNetwork(config["frontend"], config["backend"], tags, config["data"]["patch_seconds"])
    write_tagger(path, network)
    return f"init_from={path}"


def read_splits(catalogue: Path, tags: Sequence[str] = TAGS) -> dict[str, Split]:
    """The songs of a catalogue written by catalogues.py."""
    with catalogue.open(newline="") as file:
        rows = list(csv.DictReader(file))
    splits = {}
    for split in ("train", "validation", "test"):
        own = [row for row in rows if row["split"] == split]
        audio = [soundfile.read(catalogue.parent / row["path"], dtype="float32")[0] for row in own]
        targets = np.array([[float(row[tag] or "nan") for tag in tags] for row in own], dtype=np.float32)
        splits[split] = Split([row["song_id"] for row in own], audio, targets)
    return splits


def train(config: dict[str, Any]) -> Trained:
    """Train ``config``, starting from a tagger of ``write_beginning``, on one CPU in float32."""
    settings, splits = config["trainer"], read_splits(Path(config["data"]["path"]))
    beginning = read_tagger(config["init_from"])
    model = TaggingNetwork(**beginning.spec)
    model.load_state_dict(beginning.state)
    highest, schedule = config["optimizer"]["lr"], config["scheduler"]["_target_"].rpartition(".")[2]
    decay = config["optimizer"]["weight_decay"]
    # fused: where a gradient is next to nothing Adam steps by its sign, which is rounding's
    optimizer = torch.optim.Adam(model.parameters(), highest, weight_decay=decay, fused=True)
    monitor, rising = config["monitor"], config["monitor"] != "val_loss"
    loss_name, stopping = config["loss"]["_target_"].rpartition(".")[2], config["callbacks"]["early_stopping"]

    def better(one: float, other: float, by: float = 0.0) -> bool:
        return one > other * (1 + by) if rising else one < other * (1 - by)

    rows, states, batch_losses, steps, waited, slow_since = [], [], [], 0, 0, 0
    best = stalled_at = -math.inf if rising else math.inf
    best_epoch = 0
    for epoch in range(settings["max_epochs"]):
        batches = train_batches(splits["train"], config, model.patch_samples, epoch)
        per_step = settings["accumulate_grad_batches"]
        losses = []
        model.train()
        for number, (audio, targets) in enumerate(batches):
            if number % per_step == 0:
                optimizer.zero_grad()
                if schedule == "one_cycle":
                    all_steps = settings["max_epochs"] * math.ceil(len(batches) / per_step)
                    optimizer.param_groups[0].update(one_cycle(highest, steps, all_steps))
            torch.manual_seed(noise_seed(config["seed"], epoch, number, 0))  # dropout
            with torch.autocast("cpu", torch.bfloat16, enabled=settings["precision"] == "bf16-mixed"):
                logits = model(audio).float()
            loss = _loss(loss_name, logits, targets)
            (loss / per_step).backward()
            losses.append(loss.item())
            if (number + 1) % per_step == 0 or number + 1 == len(batches):
                if settings["gradient_clip_val"]:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), settings["gradient_clip_val"])
                optimizer.step()
                steps += 1
        batch_losses += losses
        scores = song_scores(model, splits["validation"].audio, config["evaluation"]["mode"] == "whole")
        rows.append({"epoch": epoch, "train_loss": float(np.mean(losses))})
        rows[-1] |= {
            "learning_rate": optimizer.param_groups[0]["lr"],
            "patches": sum(len(batch[1]) for batch in batches),
        }
        rows[-1] |= figures(loss_name, scores, splits["validation"].targets)
        states.append(copy.deepcopy(model.state_dict()))

        score = rows[-1][monitor]
        if schedule == "ReduceLROnPlateau":
            stalled_at, slow_since = (score, 0) if better(score, stalled_at, by=1e-4) else (stalled_at, slow_since + 1)
            if slow_since > config["scheduler"]["patience"]:
                optimizer.param_groups[0]["lr"] *= config["scheduler"]["factor"]
                slow_since = 0
        best, best_epoch, waited = (score, epoch, 0) if better(score, best) else (best, best_epoch, waited + 1)
        if stopping and waited >= stopping["patience"]:
            break
    model.load_state_dict(states[best_epoch])
    test_scores = song_scores(model, splits["test"].audio, config["evaluation"]["mode"] == "whole")
    return Trained(rows, states, best_epoch, test_scores, steps, batch_losses)


def assert_is(run_dir: Path, expected: Trained) -> None:
    """The results of the run equal those of the plain loop up to rounding."""
    with (run_dir / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(expected.rows)
    for row, plain in zip(rows, expected.rows, strict=True):
        assert {name: float(row[name]) for name in plain} == pytest.approx(plain, rel=1e-4, abs=1e-5)
    best, last = read_tagger(run_dir / "tagger.safetensors"), torch.load(run_dir / "last.ckpt", weights_only=True)
    assert best.description["epoch"] == expected.best_epoch
    assert last["global_step"] == expected.steps
    last_weights = {name.removeprefix("tagger."): value for name, value in last["state_dict"].items()}
    for weights, plain in ((best.state, expected.states[expected.best_epoch]), (last_weights, expected.states[-1])):
        # Adam makes steps of rounding errors, where a gradient is next to nothing
        torch.testing.assert_close(weights, plain, rtol=1e-4, atol=1e-4)
    scores = np.load(run_dir / "predictions.npz")["scores"]
    np.testing.assert_allclose(scores, expected.test_scores, rtol=0, atol=1e-4)


def one_cycle(highest: float, step: int, all_steps: int) -> dict[str, Any]:
    """Learning rate and betas of Adam in the one-cycle policy: up for 30% of the steps, then down, along cosines."""
    top = 0.3 * all_steps - 1
    share = step / top if step <= top else (all_steps - 1 - step) / (all_steps - 1 - top)
    height = (1 - math.cos(math.pi * share)) / 2
    lowest = highest / 25 if step <= top else highest / 25e4
    return {"lr": lowest + (highest - lowest) * height, "betas": (0.95 - 0.1 * height, 0.999)}


def train_batches(songs: Split, config: dict[str, Any], patch: int, epoch: int) -> list[tuple[Tensor, Tensor]]:
    """Audio and targets of an epoch's batches, without the incomplete last one."""
    size, turns = config["data"]["batch_size"], config["data"]["patches_per_song"]
    order = epoch_order(len(songs.ids) * turns, config["seed"], epoch)
    keys, lengths = song_keys(songs.ids), np.array([len(audio) for audio in songs.audio])
    batches = []
    for first in range(0, len(order) - size + 1, size):
        chosen = [divmod(int(item), turns) for item in order[first : first + size]]
        audio = []
        for song, turn in chosen:
            drawn = (keys[[song]], np.array([turn]), lengths[[song]])
            (start,) = patch_starts_of_epoch(*drawn, patch, config["seed"], epoch)
            audio.append(np.resize(songs.audio[song][start : start + patch], patch))
        targets = songs.targets[[song for song, _ in chosen]]
        batches.append((torch.from_numpy(np.stack(audio)), torch.from_numpy(targets)))
    return batches


def _loss(loss_name: str, logits: Tensor, targets: Tensor) -> Tensor:
    """The mean over known targets, rounded as in musictag: Adam amplifies differences where gradients are nearly 0."""
    known, targets = ~targets.isnan(), targets.nan_to_num()
    if loss_name == "MSE":
        losses = (logits.sigmoid() - targets) ** 2
    else:
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return losses[known].sum() / known.sum().clamp(min=1)


@torch.no_grad()
def song_scores(model: TaggingNetwork, songs: list[np.ndarray], whole: bool = False) -> np.ndarray:
    """S×K: the mean over a song's consecutive patches, the last of which ends with the song."""
    model.eval()
    patch, scores = model.patch_samples, []
    for audio in songs:
        audio = np.concatenate([audio] * math.ceil(patch / len(audio)))[: max(len(audio), patch)]
        starts = [0] if whole else [*range(0, len(audio) - patch, patch), len(audio) - patch]
        patches = [audio if whole else audio[start : start + patch] for start in starts]
        logits = [model(torch.from_numpy(one)[None])[0].double() for one in patches]
        scores.append(torch.stack(logits).sigmoid().mean(dim=0).numpy())
    return np.array(scores)


def figures(loss_name: str, scores: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Loss and macro metrics of one evaluation, over the tags that can be scored."""
    known = ~np.isnan(targets)
    p, t = scores[known], targets[known].astype(np.float64)
    loss = (p - t) ** 2 if loss_name == "MSE" else -t * np.log(p) - (1 - t) * np.log(1 - p)
    areas, precisions, errors = [], [], []
    for tag, true, score in zip(TAGS, targets.T, scores.T, strict=True):
        true, score = true[~np.isnan(true)], score[~np.isnan(true)]
        if tag == "brightness":
            errors.append(sklearn.metrics.root_mean_squared_error(true, score))
        elif 0 < true.sum() < len(true):
            areas.append(sklearn.metrics.roc_auc_score(true, score))
            precisions.append(sklearn.metrics.average_precision_score(true, score))
    means = {"val_roc_auc": areas, "val_pr_auc": precisions, "val_rmse": errors}
    return {"val_loss": float(loss.mean())} | {name: float(np.mean(of_tags)) for name, of_tags in means.items()}
