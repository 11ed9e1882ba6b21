"""The Tagger that ``musictag.load`` returns, for either kind of model.

Legend: B patches, N samples, K tags, H features.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from musictag.common.errors import MusictagError, SongError
from musictag.data.audio.decode import AudioSource
from musictag.evaluation.calibration import check_calibration, given, probabilities
from musictag.inference.familiarity import check_familiarity, strangeness
from musictag.inference.many_songs import WORKERS, Work, each_result, one_result

if TYPE_CHECKING:
    from torch import Tensor

    from musictag.models.network import TaggingNetwork


@dataclass(frozen=True)
class Layer:
    """A module whose output can be embedded.

    ``shape`` is that of its output for one patch, ``channels`` the axis that becomes H (0: first); the others are
    averaged. ``kind`` is the module's class.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    channels: int = 0

    @property
    def size(self) -> int:
        """H."""
        return self.shape[self.channels]

    def vectors(self, output: Tensor) -> Tensor:
        """The module's output for B patches -> B×H float32, copied where a later layer could change it in place."""
        output = output.float()
        return output.clone() if output.ndim == 2 else output.movedim(self.channels + 1, 1).flatten(2).mean(-1)


@dataclass(frozen=True)
class Taggram:
    """Tags over time. ``times``: start of each patch in seconds, B · ``tags``: K names · ``scores``: B×K in [0, 1]."""

    times: np.ndarray
    tags: tuple[str, ...]
    scores: np.ndarray


class TaggedSong(NamedTuple):
    """One of many songs: its scores by tag, highest first, or none and the ``error`` because of which it has none."""

    source: AudioSource
    tags: dict[str, float]
    error: Exception | None


class Confident(NamedTuple):
    """Tags that a song surely has: probabilities by tag, highest first; or none, and ``why``."""

    tags: dict[str, float]
    why: str | None


class SongEmbedder(ABC):
    """Songs -> features from one layer of a tagger. ``patch_seconds``: length behind one row; None: the whole song."""

    layer: Layer
    sample_rate: float
    patch_seconds: float | None

    def song(self, source: AudioSource) -> np.ndarray:
        """H float32: the mean over the song's patches. Raises as ``Tagger.tag`` does."""
        return self.patches(source)[1].mean(axis=0)

    def patches(self, source: AudioSource) -> tuple[np.ndarray, np.ndarray]:
        """Start of each patch in seconds (B) and features (B×H float32). Raises as ``Tagger.tag`` does."""
        return one_result(self.work(), source, self.sample_rate)

    def work(self) -> Work[tuple[np.ndarray, np.ndarray]]:
        """What ``patches`` does, for many songs."""
        return Work(self.embed_patches)

    @abstractmethod
    def embed_patches(self, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mono int16 samples (N) at ``sample_rate`` -> the same."""


class Tagger(ABC):
    """Predicts the tags of songs, with a trained network or a baseline.

    ``tags`` holds a dictionary for each tag, with ``name`` and ``kind`` (``classification`` or ``regression``), in the
    order of the scores. ``sample_rate`` is that of the model's input, in Hz. ``facts`` is what its file says beyond the
    model, as plain containers: ``calibration``, ``test`` scores, ... (see
    ``musictag.experiment.results.tagger_facts``).

    Raises MusictagError for a calibration that does not fit the tags, or is damaged.
    """

    family: str  #: the group of systems in which reports show it
    no_layers: str  #: why, for a kind of tagger that has none that ``embed`` could use

    def __init__(
        self, tags: Iterable[Mapping[str, str]], sample_rate: float, facts: Mapping[str, Any] | None = None
    ) -> None:
        self.tags = [{"name": tag["name"], "kind": tag["kind"]} for tag in tags]
        self.tag_names = tuple(tag["name"] for tag in self.tags)
        self.tag_kinds = tuple(tag["kind"] for tag in self.tags)
        self.sample_rate = sample_rate
        self.facts = checked_facts(facts or {}, self.tag_kinds)
        self.path: Path | None = None  #: the file that it was loaded from, if any

    def tag(self, source: AudioSource, top: int | None = None, threshold: float | None = None) -> dict[str, float]:
        """Scores of a whole song by tag, highest first.

        ``source`` is a path, (samples, rate in Hz), or a file that is open for reading bytes. ``top`` keeps that many
        tags, ``threshold`` those with at least that score. The length of a file makes no difference to the memory that
        a network needs.

        Raises SongError for a file that cannot be read, MusictagError for unusable samples, either for less than 0.1 s;
        issues SongWarning if part of a file could not be used.
        """
        _check_top(top)
        return self._ranked(one_result(self.work(), source, self.sample_rate), top, threshold)

    def tag_many(
        self,
        sources: Iterable[AudioSource],
        top: int | None = None,
        threshold: float | None = None,
        workers: int = WORKERS,
    ) -> Iterator[TaggedSong]:
        """Tag songs in order, each as soon as it is finished, while ``workers`` threads read the next files.

        Faster than ``tag`` song by song, with the same scores but for rounding: a batch holds patches of several songs.
        Whatever ``tag`` would raise for a song is its ``error``. Raises MusictagError if ``top`` or ``workers`` are
        less than 1.
        """
        _check_top(top)
        if workers < 1:
            raise MusictagError(f"workers={workers}; it must be at least 1")
        results = each_result(self.work(), sources, self.sample_rate, workers)
        return (
            TaggedSong(source, {}, scores)
            if isinstance(scores, Exception)
            else TaggedSong(source, self._ranked(scores, top, threshold), None)
            for source, scores in results
        )

    def _ranked(self, scores: np.ndarray, top: int | None, threshold: float | None) -> dict[str, float]:
        order = np.argsort(-scores, kind="stable")[:top]
        return {self.tag_names[i]: float(scores[i]) for i in order if threshold is None or scores[i] >= threshold}

    @property
    def calibration(self) -> Mapping[str, Any]:
        """``tags`` (see ``musictag.evaluation.calibration``) and ``familiarity``, from the validation songs of the run.

        Raises MusictagError for a tagger without.
        """
        if "calibration" not in self.facts:
            raise MusictagError(
                "this tagger does not know how far its scores can be trusted: it was not tested on validation songs of "
                "its own (published weights), or by an earlier version of musictag; use scores and --top, or train one "
                "again"
            )
        return self.facts["calibration"]

    def strangeness(self, audio: np.ndarray) -> float:
        """How unlike the validation songs the sound of mono int16 samples (N) at ``sample_rate`` is: above 1, no tag is
        given with confidence. Infinite where validation songs were too few to tell; raises as ``calibration``."""
        familiarity = self.calibration["familiarity"]
        return math.inf if familiarity is None else strangeness(familiarity, audio, self.sample_rate)

    def confident(self, scores: Mapping[str, float] | np.ndarray, strangeness: float) -> Confident:
        """The tags among the ``scores`` of a song, K or by tag, that reach a threshold from which at least 90% of the
        validation songs had the tag, unless the ``strangeness`` of the song is above 1. Raises as ``calibration``, and
        SongError for scores that are no numbers."""
        if isinstance(scores, Mapping):
            scores = np.array([scores[name] for name in self.tag_names], dtype=np.float32)
        if not np.isfinite(scores).all():
            raise SongError("the model's scores are not finite: its weights are damaged or invalid")
        of_tags, familiarity = self.calibration["tags"], self.calibration["familiarity"]
        if all(tag["precision_threshold"] is None for tag in of_tags):
            most = max(tag["known"] for tag in of_tags)
            return Confident({}, f"no tag was right often enough on {most:,} validation songs")
        if familiarity is None:
            return Confident({}, "the validation songs were too few to tell whether a song is like them")
        if not strangeness <= 1:
            return Confident(
                {}, f"it does not sound like the validation songs (strangeness {strangeness:.1f}, above 1)"
            )
        found = self._ranked(np.where(given(of_tags, scores), probabilities(of_tags, scores), -1.0), None, 0.0)
        return Confident(found, None if found else "no score reaches its threshold")

    def confident_song(self, audio: np.ndarray) -> Confident:
        """``confident`` for mono int16 samples (N) at ``sample_rate``."""
        return self.confident(self.predict_song(audio), self.strangeness(audio))

    def save_pretrained(self, folder: str | Path, licence: str | None = None) -> None:
        """Write the tagger to ``folder`` in the layout of the Hugging Face Hub, with a model card.

        Raises MusictagError for anything but a single network.
        """
        raise MusictagError("only a single network has the layout of the Hugging Face Hub")

    @classmethod
    def from_pretrained(cls, folder: str | Path, **arguments: Any) -> Tagger:
        """The tagger in a folder of ``save_pretrained``; ``arguments`` as for ``musictag.load``.

        Raises MusictagError as that does, and for files that do not belong together.
        """
        # by name: the module that loads taggers imports this one
        return import_module("musictag.inference.load").load(folder, **arguments)

    def embed(self, source: AudioSource, layer: str | None = None) -> np.ndarray:
        """Features of a whole song, H float32: the output of ``layer``, averaged over the song's patches.

        By default it is the penultimate layer of a network, or the features of a baseline. For many songs, or for one
        row per patch, use ``embedder``. Raises as ``tag`` does, and MusictagError for a layer that does not exist.
        """
        return self.embedder(layer).song(source)

    def read(self, source: AudioSource) -> np.ndarray:
        """Mono int16 samples (N) of ``source`` at ``sample_rate``, as in the prepared audio of a data set."""
        return one_result(Work(lambda audio: audio), source, self.sample_rate)

    @property
    def network(self) -> TaggingNetwork:
        """The ``nn.Module`` inside: waveforms, B×N float32 in [-1, 1], to logits, B×K; ``probabilities`` makes scores
        of them. Raises MusictagError for a baseline and for an ensemble, which have no single network."""
        raise MusictagError(f"a {type(self).__name__} has no network of its own")

    def set_hop(self, hop_seconds: float) -> None:
        """Let scores of songs be means over patches ``hop_seconds`` apart instead of consecutive ones: with gaps if it
        is longer than a patch, for so much less time. Raises MusictagError for less than a sample, and for a model that
        hears whole songs."""
        raise MusictagError("a hop is one between patches, and a baseline hears whole songs")

    def work(self) -> Work[np.ndarray]:
        """What ``tag`` does with many songs: scores (K, float32) of each."""
        return Work(self.predict_song)

    @abstractmethod
    def predict_song(self, audio: np.ndarray) -> np.ndarray:
        """Mono int16 samples (N) at ``sample_rate`` -> scores (K, float32)."""

    @abstractmethod
    def taggram(self, source: AudioSource, hop_seconds: float | None = None) -> Taggram:
        """Scores over time, one row every ``hop_seconds`` (default: consecutive patches, as in ``tag``).

        The last patch ends with the song, so its hop may be shorter. Raises as ``tag`` does, and MusictagError for a
        model that only works on whole songs.
        """

    def embedder(self, layer: str | None = None) -> SongEmbedder:
        """Computes ``embed`` for many songs, looking up the layer only once. Raises as ``embed`` does."""
        raise MusictagError(self.no_layers)

    def layers(self) -> dict[str, Layer]:
        """The layers that ``embed`` accepts, by name."""
        raise MusictagError(self.no_layers)


def checked_facts(facts: Mapping[str, Any], kinds: Sequence[str]) -> dict[str, Any]:
    """A copy of ``facts``, which may be untrusted; raises MusictagError unless their calibration is one for these
    tags."""
    try:
        if not isinstance(facts, Mapping):
            raise ValueError("what it says about itself is not a dictionary")
        calibration = facts.get("calibration")
        if calibration is not None:
            if not isinstance(calibration, dict) or set(calibration) != {"tags", "familiarity"}:
                raise ValueError("its calibration does not consist of tags and familiarity")
            check_calibration(calibration["tags"], kinds)
            check_familiarity(calibration["familiarity"])
    except ValueError as error:
        raise MusictagError(f"the tagger is damaged: {error}") from error
    return {key: value for key, value in facts.items() if value is not None}


def _check_top(top: int | None) -> None:
    if top is not None and top < 1:
        raise MusictagError(f"top={top}; it must be at least 1")
