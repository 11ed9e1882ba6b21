"""An exported network in 8-bit integers, and what that costs: both are compared on the test songs of a data set.

Legend: B patches, N samples, S songs, K tags.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np

from musictag.common.errors import MusictagError
from musictag.common.text import reason
from musictag.common.timing import median_seconds
from musictag.evaluation.song_metrics import paired_changes
from musictag.experiment.builders import build_source
from musictag.experiment.evaluation import evaluate, heard, prepared_songs
from musictag.experiment.results.files import intervals, read_predictions
from musictag.inference.export import Exported
from musictag.inference.onnx_tagger import INPUT, OnnxTagger

_METRICS = ("pr_auc", "roc_auc")
_CALIBRATION_SONGS = 100
_TIMED_PATCHES = 16
_QUANTISED = ("Conv", "Gemm", "MatMul")


def in_int8(exported: Exported, config: dict[str, Any], names: dict[str, str], most_lost: float) -> Exported:
    """``exported``, an ONNX model, with weights and activations of 8 bits, and a certificate that says what that costs.

    The ranges of the activations are measured on validation songs of ``config["data"]``, or training songs if there are
    none. Both models score its test songs; ``names`` of tags as for ``evaluate``. In the certificate, ``int8`` has
    scores, change with its interval, size and speed.

    Raises MusictagError for bad input, and if more than ``most_lost`` of PR-AUC is lost.
    """
    before = OnnxTagger(exported.content())
    patches, songs = _calibration_patches(before, config)
    small = Exported(_quantised(exported, before, patches), dict(exported.certificate))
    contents = exported.content(), small.content()
    taggers = before, OnnxTagger(contents[1])
    with TemporaryDirectory() as folder:
        found, scored = [], []
        for name, tagger, content in zip(("float", "int8"), taggers, contents, strict=True):
            where, digest = Path(folder) / name, hashlib.sha256(content).hexdigest()
            found.append(evaluate(tagger, name, digest, config, names, where)[1])
            scored.append(read_predictions(where))
    scores, targets, kinds = [one.scores for one in scored], scored[0].targets, scored[0].kinds.tolist()
    if found[0]["test"]["pr_auc"] is None:
        raise MusictagError("what int8 costs is measured in PR-AUC, but no tag has test songs with and without it")
    block = np.resize(patches, (_TIMED_PATCHES, patches.shape[1]))
    seconds = [median_seconds(lambda tagger=tagger: tagger.score(block)) for tagger in taggers]
    change = paired_changes(*scores, targets, kinds, _METRICS, **intervals(config))
    small.certificate.update(
        {
            "largest_difference": float(np.abs(scores[0] - scores[1]).max()),
            "compared_on": f"{len(targets)} test songs of {found[0]['data']}, whole songs",
            "int8": {
                "data": found[0]["data"],
                "calibration_songs": songs,
                "test_songs": len(targets),
                "tags": found[0]["test"]["tags_scored"],
                "change": change,
                **{
                    name: {key: metrics["test"][key] for key in _METRICS}
                    | {"bytes": len(content), "audio_seconds_per_second": block.size / before.sample_rate / spent}
                    for name, metrics, content, spent in zip(("float", "int8"), found, contents, seconds, strict=True)
                },
            },
        }
    )
    if not (lost := -change["pr_auc"]["value"]) <= most_lost:
        raise MusictagError(
            f"int8 loses {lost:.4f} of PR-AUC ({found[0]['test']['pr_auc']['value']:.4f} with float32) on "
            f"{len(targets)} test songs; more than --max-loss {most_lost:g} is not allowed, and no file was written"
        )
    return small


def _calibration_patches(tagger: OnnxTagger, config: dict[str, Any]) -> tuple[np.ndarray, int]:
    """The middle of each of some songs that are not test songs, B×N float32 with margins, and the number of songs."""
    source = build_source(config)
    manifest = source.manifest().split("validation")
    manifest = manifest if len(manifest) else source.manifest().split("train")
    if not len(manifest):
        raise MusictagError(f"{source.name} has only test songs; int8 needs others, too, to see the range of values")
    rows = np.unique(np.linspace(0, len(manifest) - 1, _CALIBRATION_SONGS).astype(int))
    prepared = prepared_songs(source, manifest.select(rows), config)
    size, patches = tagger.input_samples, []
    for row in prepared.store.rows_of(prepared.manifest.column("song_id")).tolist():
        song = heard(tagger, prepared.store.read(row))
        patches.append(np.resize(song[max(0, (len(song) - size) // 2) :][:size], size).astype(np.float32) / 32768)
    return np.stack(patches), len(patches)


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
        logging.disable(logging.WARNING)  # it advises to optimise the graph before: what ONNX Runtime does on loading
        try:
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
        except Exception as error:  # it raises various ones
            raise MusictagError(f"ONNX Runtime cannot write this network in int8: {reason(error)}") from error
        finally:
            logging.disable(logging.NOTSET)
        return onnx.load(paths[1])


def _learned(exported: Exported) -> list[str]:
    """Names of the nodes to change: not those from the waveform to the logarithm of the spectrogram, or to the first
    convolution of a network without one: 8 bits of audio are too few."""
    end = "Conv" if exported.certificate["family"] == "waveform" else "Log"
    audio, found = {INPUT}, []
    for node in exported.program.graph.node:
        if audio & set(node.input):
            audio |= set(node.output) if node.op_type != end else set()
        elif node.op_type in _QUANTISED:
            found.append(node.name)
    return found
