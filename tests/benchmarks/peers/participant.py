"""One participant of the comparison, in its own process: ``python participant.py WHO MODEL MODE BATCH [FOLDER]``.

It says "ready" after two warm-up steps, then takes one step for every line that it reads and writes the seconds. WHO:
``musictag``, ``musictag-bf16``, ``musictag-compiled``; ``plain`` (modules of plain.py); ``minzwon`` or ``clmr`` (public
code in FOLDER, see the package's docstring); ``tensorflow``, which imports nothing but TensorFlow, so that any Python
can run it; ``musictag-files`` and ``musicnn`` (the package), which tag BATCH of the MP3 files in FOLDER.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

_TAGS = 50
_RATE = 16000


def musictag(who: str, model: str, mode: str, batch: int, folder: str | None) -> Callable[[], Any]:
    import torch

    from musictag.experiment.compose import compose
    from musictag.models.network import TaggingNetwork
    from musictag.training.instantiate import make_partial
    from musictag.training.losses import BCE
    from musictag.training.module import to_waveform
    from tests.benchmarks.peers.plain import MODELS

    config = compose([f"model={model}"])
    tags = [{"name": f"tag {number}"} for number in range(_TAGS)]
    network = TaggingNetwork(config["frontend"], config["backend"], tags, MODELS[model][1])
    audio = torch.randn(batch, network.input_samples).mul_(3000).to(torch.int16)
    network.fit_normalisation([to_waveform(audio)])
    bf16 = torch.autocast("cpu", torch.bfloat16, enabled=who == "musictag-bf16")
    compiled = who == "musictag-compiled"
    if compiled:
        network.compile(dynamic=False)
    if mode == "inference":
        # what test, validation and `musictag tag` call
        precision = "bf16-mixed" if who == "musictag-bf16" else "32-true"
        scoring = network.eval() if compiled else network.eval().inference_form(precision)

        def tag() -> None:
            with torch.inference_mode():
                network.probabilities(scoring(to_waveform(audio)))

        return tag
    optimizer = make_partial("optimizer", config["optimizer"])(network.parameters())
    loss, targets = BCE(), torch.zeros(batch, _TAGS)

    def train() -> None:
        optimizer.zero_grad()
        with bf16:
            error = loss(network(to_waveform(audio)), targets)
        error.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()

    return train


def plain(who: str, model: str, mode: str, batch: int, folder: str | None) -> Callable[[], Any]:
    from tests.benchmarks.peers.plain import MODELS

    network, _, samples = MODELS[model]
    return _torch_step(network(_TAGS), mode, batch, samples)


def public(who: str, model: str, mode: str, batch: int, folder: str | None) -> Callable[[], Any]:
    import torch

    from tests.benchmarks.peers import PUBLIC
    from tests.benchmarks.peers.plain import MODELS

    place, name, classes = PUBLIC[who]
    sys.path.insert(0, f"{folder}/{place}")
    network = getattr(import_module(name), classes[model][0])(**classes[model][1])
    if who == "clmr":  # takes B×1×N and returns logits
        network = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), network, torch.nn.Sigmoid())
    return _torch_step(network, mode, batch, MODELS[model][2])


def _torch_step(network: Any, mode: str, batch: int, samples: int) -> Callable[[], Any]:
    """The loop of most public training scripts: probabilities, BCELoss, Adam."""
    import torch

    audio, targets = 0.1 * torch.randn(batch, samples), torch.zeros(batch, _TAGS)
    if mode == "inference":
        network.eval()

        def tag() -> None:
            with torch.no_grad():
                network(audio)

        return tag
    optimizer, loss = torch.optim.Adam(network.parameters(), 1e-3), torch.nn.BCELoss()

    def train() -> None:
        optimizer.zero_grad()
        loss(network(audio).float(), targets).backward()
        optimizer.step()

    return train


def tensorflow(who: str, model: str, mode: str, batch: int, folder: str | None) -> Callable[[], Any]:
    """The paper's models as graphs of TensorFlow 1, rebuilt: tf.compat.v1, channels last, one thread. The spectrogram
    model begins with a log-mel that is there already."""
    import numpy as np
    import tensorflow

    tf = tensorflow.compat.v1
    tf.disable_eager_execution()
    training = mode == "training"
    shape = [3 * _RATE, 1] if model == "pons_waveform" else [3 * _RATE // 256 + 1, 96, 1]  # log-mel: frames, bands
    audio, targets = tf.placeholder(tf.float32, [None, *shape]), tf.placeholder(tf.float32, [None, _TAGS])

    def norm(x: Any) -> Any:
        return tf.layers.batch_normalization(x, training=training)

    def conv(x: Any, filters: int, length: int, strides: int = 1, padding: str = "valid") -> Any:
        return tf.layers.conv1d(x, filters, length, strides, padding, activation=tf.nn.relu)

    def vertical(x: Any, filters: int, width: int, height: int) -> Any:
        x = tf.pad(x, [[0, 0], [width // 2, width // 2], [0, 0], [0, 0]])
        return tf.reduce_max(norm(tf.layers.conv2d(x, filters, (width, height), activation=tf.nn.relu)), 2)

    def shared(x: Any) -> Any:  # one scale for all filters
        return tf.squeeze(norm(tf.expand_dims(x, -1)), -1)

    if model == "pons_waveform":
        x = norm(conv(audio, 64, 3, 3))
        for filters in (64, 64, 128, 128, 128, 256):
            x = tf.layers.max_pooling1d(norm(conv(x, filters, 3)), 3, 3)
    else:
        x, mean = audio, tf.reduce_mean(audio, 2)
        branches = [vertical(x, n, width, height) for height in (86, 38) for width, n in ((7, 16), (3, 32), (1, 64))]
        branches += [
            norm(conv(mean, n, length, 1, "same")) for length, n in ((165, 16), (128, 32), (64, 64), (32, 128))
        ]
        x = tf.concat(branches, -1)
    x = norm(conv(x, 512, 7))
    x = tf.layers.max_pooling1d(x + shared(conv(x, 512, 7, padding="same")), 2, 2)
    x = x + shared(conv(x, 512, 7, padding="same"))
    x = tf.layers.dropout(tf.concat([tf.reduce_max(x, 1), tf.reduce_mean(x, 1)], 1), 0.5, training=training)
    x = tf.layers.dropout(norm(tf.layers.dense(x, 500, tf.nn.relu)), 0.5, training=training)
    logits = tf.layers.dense(x, _TAGS)
    wanted: Any = tf.sigmoid(logits)
    if training:
        loss = tf.losses.sigmoid_cross_entropy(targets, logits)
        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
            wanted = tf.train.AdamOptimizer(1e-3).minimize(loss)
    session = tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1))
    session.run(tf.global_variables_initializer())
    fed = {audio: np.random.default_rng(0).normal(0, 0.1, (batch, *shape)), targets: np.zeros((batch, _TAGS))}
    return lambda: session.run(wanted, fed)


def songs_of(folder: str, batch: int) -> list[str]:
    return [str(path) for path in sorted(Path(folder).glob("*.mp3"))[:batch]]


def musictag_files(who: str, model: str, mode: str, batch: int, folder: str | None) -> Callable[[], Any]:
    """What `musictag tag` does with many files, on one processor."""
    from musictag.inference.network_tagger import NetworkTagger
    from tests.benchmarks.inference import network_of

    _on_one_processor()
    tagger, paths = NetworkTagger(network_of(model)), songs_of(folder, batch)
    return lambda: list(tagger.tag_many(paths))


def musicnn_files(who: str, model: str, mode: str, batch: int, folder: str | None) -> Callable[[], Any]:
    """The musicnn package as it is installed beside TensorFlow."""
    from musicnn.extractor import extractor

    _on_one_processor()

    def tag() -> None:
        with redirect_stdout(sys.stderr):  # it prints what it does, where answers are expected here
            for path in songs_of(folder, batch):
                extractor(path, "MTT_musicnn", extract_features=False)

    return tag


def _on_one_processor() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


STEPS = {
    "musictag": musictag, "musictag-bf16": musictag, "musictag-compiled": musictag, "plain": plain,
    "minzwon": public, "clmr": public, "tensorflow": tensorflow, "musictag-files": musictag_files,
    "musicnn": musicnn_files,
}  # fmt: skip


def main(who: str, model: str, mode: str, batch: str, folder: str | None = None) -> None:
    if who not in ("tensorflow", "musicnn"):
        import torch

        torch.set_num_threads(1)
    step = STEPS[who](who, model, mode, int(batch), folder)
    for _ in range(2):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        step()
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
