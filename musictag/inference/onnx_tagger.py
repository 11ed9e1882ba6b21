"""Inference with an exported network and ONNX Runtime, and the certificate that such a file carries.

The certificate is JSON in the metadata of the file, under the key ``musictag``; docs/tagging.md lists its keys.
Legend: B patches, N samples, K tags.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import xxhash

from musictag.common.errors import MusictagError
from musictag.common.text import parse_json, reason
from musictag.inference.over_patches import Patches, PatchTagger, Result
from musictag.models.frontends import FAMILIES
from musictag.models.frontends.log_mel import LogMel
from musictag.models.network import MAX_PATCH_SAMPLES
from musictag.models.spec import checked_tags

FORMAT = 1
KEY = "musictag"
#: What every certificate has; the rest are facts about the tagger that it was made from.
FACTS = ("format", "tags", "sample_rate", "patch_samples", "margin_samples", "length", "family", "digest")
INPUT, OUTPUT = "waveform", "scores"
#: The input of a network without its log-mel spectrogram, and the key under which the certificate describes that.
LOG_MEL = "log_mel"


class OnnxTagger(PatchTagger):
    """Tags songs with the exported network ``content`` (the bytes of a file), which may be untrusted.

    Raises ValueError for anything that is not such a network, is damaged, or does not match its certificate.
    """

    no_layers = "an exported network has no layers that can be asked for; use the tagger that it was made from"

    def __init__(self, content: bytes) -> None:
        onnx, runtime = libraries()
        model = onnx.load_model_from_string(content)
        certificate = _certificate(model)
        tags = checked_tags(certificate["tags"])
        super().__init__(tags, certificate["sample_rate"], certificate)
        self.certificate, self.family = certificate, certificate["family"]
        self.patch_samples, self.margin_samples = certificate["patch_samples"], tuple(certificate["margin_samples"])
        self._log_mel = LogMel(self.sample_rate, **certificate[LOG_MEL]) if LOG_MEL in certificate else None
        if self._log_mel is not None and self._log_mel.margin_samples != self.margin_samples:
            raise ValueError("its log-mel spectrogram does not have the margins of its certificate")
        _check_self_contained(model)
        self._session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
        scores = self.score(np.zeros((2, self.input_samples), dtype=np.float32))
        if scores.shape != (2, len(tags)) or not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError(f"it does not give each of the {len(tags)} tags of its certificate a score from 0 to 1")

    def score(self, waveform: np.ndarray) -> np.ndarray:
        """Waveform B×N float32 in [-1, 1] -> scores B×K float32."""
        return self._session.run([OUTPUT], self.graph_input(waveform))[0]

    def graph_input(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        """What the network in the file takes, by name: the waveform, or its log-mel spectrogram, B×F×T float32."""
        if self._log_mel is None:
            return {INPUT: waveform}
        return {LOG_MEL: self._log_mel(torch.from_numpy(waveform)).numpy()}

    def patches(self, hop_samples: int, finish: Callable[[np.ndarray, np.ndarray], Result]) -> Patches[Result]:
        return _Patches(self, self.score, hop_samples, finish)


class _Patches(Patches[Result]):
    threads = 0  # ONNX Runtime has its own

    def _rows(self, patches: np.ndarray) -> np.ndarray:
        return self._compute(patches.astype(np.float32) / 32768)


def libraries() -> tuple[ModuleType, ModuleType]:
    """onnx and onnxruntime; raises MusictagError if they are not installed."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise MusictagError(f"ONNX files need pip install 'musictag[export]' ({error})") from error
    return onnx, onnxruntime


def read_onnx(path: Path) -> OnnxTagger:
    """The tagger in a file of `musictag export`, which may be untrusted; raises MusictagError for anything else."""
    libraries()
    try:
        return OnnxTagger(path.read_bytes())
    except Exception as error:  # protobuf and ONNX Runtime raise various errors for damaged bytes
        why = str(error) if isinstance(error, ValueError | MusictagError) else reason(error)
        raise MusictagError(f"{path} is not a tagger exported by musictag, or is damaged: {why}") from error


def certified(model: Any, certificate: dict[str, Any]) -> bytes:
    """The bytes of an ONNX model with this certificate, to which the digest of everything else is added."""
    onnx, _ = libraries()
    text = json.dumps(certificate | {"digest": _digest(model)}, allow_nan=False)
    onnx.helper.set_model_props(model, {KEY: text})
    return model.SerializeToString(deterministic=True)


def _digest(model: Any) -> str:
    """Of all but the metadata. It detects damage and exchanged weights; it proves nothing about who wrote the file."""
    onnx, _ = libraries()
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    bare.ClearField("metadata_props")
    return xxhash.xxh3_128(bare.SerializeToString(deterministic=True)).hexdigest()


def _certificate(model: Any) -> dict[str, Any]:
    texts = [entry.value for entry in model.metadata_props if entry.key == KEY]
    if len(texts) != 1:
        raise ValueError("it has no certificate of musictag in its metadata")
    content = parse_json(texts[0].encode())
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"this version of musictag reads certificates of format {FORMAT}")
    if missing := [key for key in FACTS if key not in content]:
        raise ValueError(f"its certificate lacks {', '.join(missing)}")
    if content["digest"] != _digest(model):
        raise ValueError("its network is not the one that its certificate was written for")
    margin, rate = content["margin_samples"], content["sample_rate"]
    lengths = [content["patch_samples"], *(margin if isinstance(margin, list) and len(margin) == 2 else [-1])]
    if not all(type(length) is int and 0 <= length <= MAX_PATCH_SAMPLES for length in lengths) or not lengths[0]:
        raise ValueError("the lengths of patch and margins in its certificate are not possible")
    if content["family"] not in FAMILIES:
        raise ValueError("the family in its certificate is not known")
    if not isinstance(rate, int | float) or not 1_000 <= rate <= 192_000:
        raise ValueError("the sample rate in its certificate is not possible")
    return content


def _check_self_contained(model: Any) -> None:
    """Raise ValueError for a network that refers to other files, or has parts where such references could hide."""
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    tensors = [*model.graph.initializer, *(attribute.t for attribute in attributes)]
    if any(tensor.data_location or tensor.external_data for tensor in tensors) or model.graph.sparse_initializer:
        raise ValueError("its weights are not inside the file")
    if model.functions or any(a.HasField("g") or a.graphs or a.tensors or a.sparse_tensors for a in attributes):
        raise ValueError("it has parts that networks exported by musictag do not have")
