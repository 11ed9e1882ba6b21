"""An exported network in 8-bit integers, and what that costs: both are compared on the test songs of a data set.

Legend: B patches, N samples, S songs, K tags.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np

from musictag.common.errors import MusictagError
from musictag.common.timing import median_seconds
from musictag.data.audio.patches import fit_length
from musictag.data.datasets import Source
from musictag.evaluation.song_metrics import paired_changes
from musictag.experiment.builders import build_source
from musictag.experiment.evaluation import evaluate, heard, prepared_songs
from musictag.experiment.results.files import Predictions, intervals, read_predictions
from musictag.inference.export import Exported, quietly
from musictag.inference.onnx_tagger import INPUT, OnnxTagger

_METRICS = ("pr_auc", "roc_auc")
_CALIBRATION_SONGS = 100
_TIMED_PATCHES = 16
_QUANTISED = ("Conv", "Gemm", "MatMul")


def in_int8(exported: Exported, config: dict[str, Any], names: dict[str, str], most_lost: float) -> Exported:
    """``exported``, an ONNX model, with weights and activations of 8 bits, and a certificate that says what that costs.

    The ranges of the activations are measured on validation songs of ``config["data"]``, or training songs if there are
    none. Both models score its test songs; ``names`` of tags as for ``evaluate``. In the certificate, ``int8`` has the
    scores, their change with its interval, size and speed.

    Raises MusictagError for bad input, and if more than ``most_lost`` of PR-AUC is lost.
    """
    before, source = OnnxTagger(exported.content()), build_source(config)
    patches = _calibration_patches(before, source, config)
    block = np.resize(patches, (_TIMED_PATCHES, before.input_samples))
    facts, scores = {}, []

    def measure(name: str, made: Exported) -> Predictions:
        content = made.content()
        tagger = OnnxTagger(content)
        with TemporaryDirectory() as folder:
            digest = hashlib.sha256(content).hexdigest()
            test = evaluate(tagger, name, digest, config, names, Path(folder) / name)[1]["test"]
            found = read_predictions(Path(folder) / name)
        if test["pr_auc"] is None:
            raise MusictagError("what int8 costs is measured in PR-AUC, but no tag has test songs with and without it")
        speed = block.size / before.sample_rate / median_seconds(lambda: tagger.score(block))
        facts[name] = {key: test[key] for key in _METRICS} | {"bytes": len(content), "real_time_factor": speed}
        scores.append(found.scores)
        return found

    of_float = measure("float32", exported)
    small = Exported(_quantised(exported, before, patches), dict(exported.certificate))
    measure("int8", small)
    change = paired_changes(*scores, of_float.targets, of_float.kinds.tolist(), _METRICS, **intervals(config))
    songs = f"{len(of_float.targets)} test songs of {source.name}"
    if not (lost := -change["pr_auc"]["value"]) <= most_lost:
        raise MusictagError(
            f"int8 loses {lost:.4f} of PR-AUC ({facts['float32']['pr_auc']['value']:.4f} with float32) on {songs}; "
            f"more than --max-loss {most_lost:g} is not allowed, and no file was written"
        )
    facts |= {"songs": songs, "tags": of_float.tags.tolist(), "calibration_songs": len(patches), "change": change}
    largest = float(np.abs(scores[0] - scores[1]).max())
    small.certificate.update(int8=facts, largest_difference=largest, compared_on=f"whole songs: {songs}")
    return small


def _calibration_patches(tagger: OnnxTagger, source: Source, config: dict[str, Any]) -> np.ndarray:
    """The middle of each of some songs that are not test songs, B×N float32 with margins."""
    manifest = source.manifest()
    manifest = next((songs for songs in map(manifest.split, ("validation", "train")) if len(songs)), None)
    if manifest is None:
        raise MusictagError(f"{source.name} has only test songs; int8 needs others, too, to see the range of values")
    rows = np.unique(np.linspace(0, len(manifest) - 1, _CALIBRATION_SONGS).astype(int))
    prepared = prepared_songs(source, manifest.select(rows), config)
    size, patches = tagger.input_samples, []
    for row in prepared.store.rows_of(prepared.manifest.column("song_id")).tolist():
        song = heard(tagger, prepared.store.read(row))
        patches.append(fit_length(song, size)[max(0, (len(song) - size) // 2) :][:size].astype(np.float32) / 32768)
    return np.stack(patches)


def _quantised(exported: Exported, tagger: OnnxTagger, patches: np.ndarray) -> Any:
    """The model with the learned convolutions and products in 8 bits.

    Static, because ONNX Runtime has no fast kernels for convolutions with dynamic ranges; a scale per channel, and
    weights of 7 bits, as products overflow with 8 on processors without VNNI.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static

    if not (nodes := _learned(exported)):
        raise MusictagError("this network has nothing that could be in int8")
    inputs: Iterable = iter([tagger.graph_input(patches[first : first + 1]) for first in range(len(patches))])
    with TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("float.onnx", "int8.onnx")]
        onnx.save(exported.program, paths[0])
        with quietly("ONNX Runtime cannot write this network in int8"):
            quantize_static(
                *paths,
                SimpleNamespace(get_next=lambda: next(inputs, None)),
                nodes_to_quantize=nodes,
                op_types_to_quantize=list(_QUANTISED),
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )
        return onnx.load(paths[1])


def _learned(exported: Exported) -> list[str]:
    """Names of the nodes to change: not those from the waveform to the logarithm of the spectrogram, or to the first
    convolution of a network without one: 8 bits of audio are too few."""
    ends = ("Shape", "Conv" if exported.certificate["family"] == "waveform" else "Log")
    audio, found = {INPUT}, []
    for node in exported.program.graph.node:
        if audio & set(node.input):
            audio |= set() if node.op_type in ends else set(node.output)
        elif node.op_type in _QUANTISED:
            found.append(node.name)
    return found
