"""Distillation: a network learns from another tagger, the teacher, beside its labels or instead of them.

The teacher hears the same patches, with what augmentations did to their waveforms, in evaluation mode and float32; or
what it makes of the songs' consecutive patches is stored, and the nearest of these counts.
Legend: B patches, N samples, K tags, H features.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.functional import resample

from musictag.common.errors import MusictagError
from musictag.common.processes import rank_zero_say
from musictag.common.text import some
from musictag.inference.embedding import BeforeHead, Embedder
from musictag.inference.ensemble import read_members
from musictag.inference.load import load
from musictag.inference.network_tagger import NetworkTagger
from musictag.inference.tagger import Tagger
from musictag.models.frontends.encoder import HUGGING_FACE, described, load_weights
from musictag.models.layers import full_precision
from musictag.models.network import TaggingNetwork
from musictag.models.pretrained import ENSEMBLE_FILE, digest, locate
from musictag.models.pretrained.folders import files_digest, is_encoder

PROBABILITIES, EMBEDDINGS = "probabilities", "embeddings"
SIGNALS = (PROBABILITIES, EMBEDDINGS)
#: Settings of which only a teacher makes use, with their values in conf/.
_UNTAUGHT = {
    "distillation.signal": PROBABILITIES, "distillation.weight": 1.0, "distillation.stored": False,
    "data.unlabelled_share": 0.5,
}  # fmt: skip


class Teacher:
    """The tagger ``model`` (see ``musictag.load``), which hears patches at ``sample_rate``, or the encoder in that
    folder, which hears them ``patch_seconds`` at a time. ``margin_samples`` of the audio around a patch come with it.

    ``signal``: what it returns for each, its ``probabilities`` (B×K, the mean over an ensemble) or its ``embeddings``,
    the penultimate features (B×H). Raises MusictagError for a baseline, and for embeddings of an ensemble.
    """

    def __init__(
        self,
        model: str,
        signal: str,
        sample_rate: float,
        patch_seconds: float = 3.0,
        margin_samples: tuple[int, int] = (0, 0),
    ) -> None:
        self.signal = signal
        self.tagger = _encoder(model, sample_rate, patch_seconds) if is_encoder(model) else load(model)
        self._taggers: Sequence[Tagger] = getattr(self.tagger, "members", [self.tagger])
        if not all(isinstance(tagger, NetworkTagger) for tagger in self._taggers):
            raise MusictagError(
                f"teacher={model}: features and trees describe whole songs, and cannot score patches; use a network, "
                "or an ensemble of networks"
            )
        if signal == EMBEDDINGS:
            self.size = self.tagger.embedder().layer.size  # refused by an ensemble
        self._rates = sample_rate, self.tagger.sample_rate
        if not all(float(rate).is_integer() for rate in self._rates):
            raise MusictagError(f"teacher={model} hears {self.tagger.sample_rate} Hz, to which audio is not resampled")
        self._margin = tuple(round(samples * self._rates[1] / sample_rate) for samples in margin_samples)

    def stored(self) -> tuple[Embedder, int]:
        """What computes the features to store, those that training the same head would, and the samples of a patch.
        Raises MusictagError for an ensemble, and where the audio would have to be resampled."""
        embedder = self.tagger.embedder()
        if self._rates[0] != self._rates[1]:
            raise MusictagError(
                f"distillation.stored=true needs a teacher that hears the {self._rates[0]:g} Hz of the prepared audio, "
                f"and this one hears {self._rates[1]:g}; use distillation.stored=false"
            )
        network = embedder.network
        return embedder if self.signal == EMBEDDINGS else BeforeHead(network), network.patch_samples

    @torch.no_grad()
    def of_features(self, features: Tensor) -> Tensor:
        """Stored features B×H -> the signal, float32."""
        network = self._taggers[0].network
        with full_precision(features):
            if self.signal == EMBEDDINGS:
                return features.float()
            return network.probabilities(network.head(features.float()))

    def to(self, device: torch.device) -> None:
        """Compute on ``device`` from now on."""
        networks = [tagger.network.to(device) for tagger in self._taggers]
        if self.signal == EMBEDDINGS:
            self._computing = [(Embedder(network).features, network) for network in networks]
        else:
            self._computing = [(NetworkTagger(network).scores, network) for network in networks]

    @torch.no_grad()
    def __call__(self, waveform: Tensor) -> Tensor:
        """B×N float32 on the device -> the signal, float32, without gradients."""
        with full_precision(waveform):
            waveform = resample(waveform, *map(int, self._rates))
            heard = []
            for compute, network in self._computing:
                patches = in_patches(waveform, network, self._margin)
                heard.append(compute(patches.flatten(0, 1)).unflatten(0, patches.shape[:2]).mean(1))
            return torch.stack(heard).mean(0)


def _encoder(folder: str, sample_rate: float, patch_seconds: float) -> NetworkTagger:
    """An encoder of transformers with the mean over time, for its embeddings: it has no tags."""
    spec = described({"_target_": HUGGING_FACE, "name": folder, "sample_rate": sample_rate})
    mean = {"_target_": "musictag.models.backends.pooling.Pooling", "pooling": "mean", "hidden_units": []}
    network = TaggingNetwork(spec, mean, [{"name": "no tags"}], patch_seconds)
    rank_zero_say(load_weights(network.frontend, folder))
    return NetworkTagger(network.eval())


def in_patches(waveform: Tensor, network: TaggingNetwork, margin: tuple[int, int] = (0, 0)) -> Tensor:
    """B×N -> B×P×M: the patches of ``network``, with its margins, in which it hears another one's patch, which has
    ``margin`` samples around it.

    As many as fit best, at least one, evenly spaced; a patch that is shorter is repeated, as in tagging.
    """
    size, (before, after) = network.patch_samples, network.frontend.margin_samples
    length = waveform.shape[1] - sum(margin)
    if length < size:
        waveform = waveform[:, margin[0] : margin[0] + length].repeat(1, math.ceil(size / length))[:, :size]
        length, margin = size, (0, 0)
    spare, number = length - size, max(round(length / size), 1)
    starts = [spare // 2] if number == 1 else [spare * place // (number - 1) for place in range(number)]
    waveform = F.pad(waveform, (before - margin[0], after - margin[1]))
    return torch.stack([waveform[:, start : start + network.input_samples] for start in starts], dim=1)


class Distillation(nn.Module):
    """The loss of ``student`` against ``teacher``, times ``weight``.

    Probabilities: the cross-entropy, averaged over patches and the tags that both have, by name and kind. Embeddings: 1
    minus the cosine between the teacher's and a linear projection of the student's, averaged over patches. The
    projection is trained with the student, and is no part of it; nor is the teacher of this module's state.

    ``about`` is a message of what is learned from the teacher. Raises MusictagError if there is nothing to learn, and
    with ``stored`` if the teacher has no features to store.
    """

    def __init__(self, student: TaggingNetwork, model: str, signal: str, weight: float, stored: bool = False) -> None:
        super().__init__()
        self._teacher = [Teacher(model, signal, student.sample_rate, student.patch_seconds, student.margin_samples)]
        if stored:
            self.teacher.stored()
        self.signal, self.weight = signal, weight
        teacher, told = self.teacher, ""
        if (rate := teacher.tagger.sample_rate) != student.sample_rate:
            told = f", which hears the audio resampled from {student.sample_rate:g} to {rate:g} Hz"
        if signal == EMBEDDINGS:
            before = [p for name, p in student.named_parameters() if not name.startswith("backend.output.")]
            if not any(parameter.requires_grad for parameter in before):
                raise MusictagError(
                    "distillation.signal=embeddings trains what comes before the last layer, and all of that is frozen"
                )
            self.projection = nn.Linear(student.backend.output.in_features, teacher.size)
            self.about = f"Teacher {model}{told}: its {teacher.size} features"
            return
        its, own = ([(tag["name"], tag["kind"]) for tag in network.tags] for network in (teacher.tagger, student))
        self._own = [place for place, tag in enumerate(own) if tag in its]
        self._its = [its.index(own[place]) for place in self._own]
        if not self._own:
            raise MusictagError(
                f"teacher={model} has none of these tags: {some(student.tag_names)}. It has "
                f"{some(teacher.tagger.tag_names)}; use distillation.signal=embeddings, which needs no common tags"
            )
        lacking = [name for name, kind in own if (name, kind) not in its]
        self.about = f"Teacher {model}{told}: {len(self._own)} of the {len(own)} tags"
        self.about += f" (not {some(lacking)})" if lacking else ""

    @property
    def teacher(self) -> Teacher:
        return self._teacher[0]  # in a list, as it is no part of what is trained and saved

    def forward(self, student: TaggingNetwork, waveform: Tensor, stored: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Patches as the student hears them, B×N -> its logits B×K, and the loss against the teacher, a scalar.
        ``stored``: features of the teacher, B×H, in place of what it would make of the patches."""
        target = self.teacher(waveform) if stored is None else self.teacher.of_features(stored)
        if self.signal == PROBABILITIES:
            logits = student(waveform)
            with full_precision(waveform):
                loss = F.binary_cross_entropy_with_logits(logits[:, self._own].float(), target[:, self._its])
            return logits, self.weight * loss
        inputs: list[Tensor] = []
        with student.backend.output.register_forward_pre_hook(lambda _, given: inputs.append(given[0])):
            logits = student(waveform)
        with full_precision(waveform):
            similarity = F.cosine_similarity(self.projection(inputs[0].float()), target)
        return logits, self.weight * (1 - similarity).mean()


def check_teacher(config: Mapping[str, Any]) -> None:
    """Raise MusictagError for settings of a teacher that are wrong in any case."""
    teacher, unlabelled = config["teacher"], config["data"]["unlabelled"]
    model, signal, weight, stored = (config["distillation"][key] for key in ("model", "signal", "weight", "stored"))
    if teacher is None:
        if unlabelled is not None:
            raise MusictagError(
                f"data.unlabelled={unlabelled}: only a teacher can use songs without labels; use teacher=..., or omit "
                "it"
            )
        given = {f"{group}.{key}": value for group in ("distillation", "data") for key, value in config[group].items()}
        if other := [f"{key}={given[key]}" for key, value in _UNTAUGHT.items() if given.get(key, value) != value]:
            raise MusictagError(f"{', '.join(other)}: only a teacher is learned from; use teacher=..., or omit it")
        return
    if config["trainer"]["max_epochs"] == 0:
        raise MusictagError("trainer.max_epochs=0 trains nothing, from a teacher neither; omit teacher")
    for name, part in (config.get("augmentation") or {}).items():
        if part is not None and str(part.get("_target_")).endswith("LogMelMixup"):
            raise MusictagError(
                f"augmentation.{name} mixes spectrograms, which a teacher does not hear: use recipe=mixup, which mixes "
                f"waveforms, or augmentation.{name}=null"
            )
        if stored and part is not None and str(part.get("_target_")).endswith("Mixup"):
            raise MusictagError(
                f"augmentation.{name} mixes songs, of which the teacher has heard each alone: use "
                f"distillation.stored=false, or augmentation.{name}=null"
            )
    if config["compile"] and signal == EMBEDDINGS:
        raise MusictagError("distillation.signal=embeddings looks into the network: use compile=false")
    if signal not in SIGNALS:
        raise MusictagError(f"distillation.signal={signal} does not exist; allowed: {', '.join(SIGNALS)}")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise MusictagError(f"distillation.weight={weight} must be above 0; without a teacher: teacher=null")
    if model is not None and not (Path(teacher) / "metrics.json").is_file():
        raise MusictagError(
            f"distillation.model={model}: the teacher's run {teacher} is not finished; run this command with "
            f"model={model}, and without a teacher, first"
        )
    if not is_encoder(teacher):
        locate(teacher)
    elif signal != EMBEDDINGS:
        raise MusictagError(f"teacher={teacher} is an encoder, without tags: use distillation.signal=embeddings")


def teacher_digest(model: str) -> str:
    """Identifies the weights of ``model``; of an ensemble, those of all members."""
    if is_encoder(model):
        return files_digest(Path(model))
    path = locate(model)
    if path.name != ENSEMBLE_FILE:
        return digest(model)
    return hashlib.sha256("".join(digest(str(member)) for member in read_members(path)[0]).encode()).hexdigest()
