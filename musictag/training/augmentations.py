"""Augmentations: what is done at random to the patches of a training step, on their device.

All random numbers of a patch are a function of (seed, epoch, song, draw) and the augmentation's name. The order is
always the same: first what changes the waveform, then the spectrogram; within both, what mixes patches comes last, and
the others are in the order of their names. Legend: B patches, N samples, F frequencies, T frames, K tags.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from musictag.common.errors import MusictagError
from musictag.common.processes import rank_zero_say
from musictag.data.random_draws import augmentation_draws, song_keys
from musictag.training.module import to_waveform


class Augmentation(ABC):
    """One change of patches at random, each changed with ``probability``; a subclass defines ``changed``.

    Raises MusictagError for a probability outside [0, 1].
    """

    of_spectrogram: ClassVar[bool] = False  #: whether it changes the spectrogram, not the waveform
    num_draws = 1  #: random numbers that ``changed`` needs for a patch

    def __init__(self, probability: float = 1.0) -> None:
        check_range("probability", probability, 0, 1)
        self.probability = probability

    @abstractmethod
    def changed(self, values: Tensor, draws: Tensor) -> Tensor:
        """``values``, waveforms float32 B×N or spectrograms B×...×F×T, all of them changed.

        ``draws``: float32 B×num_draws, uniform in [0, 1), on the device of ``values``.
        """

    def prepared(self, draws: np.ndarray) -> np.ndarray:
        """``draws`` of ``applied``, in place of which a subclass may give what it computes from them beforehand."""
        return draws

    def applied(self, values: Tensor, draws: Tensor) -> Tensor:
        """``values``, each changed with ``probability``; ``draws`` has one number more than ``changed`` needs."""
        return torch.where(_per_patch(self.chosen(draws), values), self.changed(values, draws[:, 1:]), values)

    def chosen(self, draws: Tensor) -> Tensor:
        """Which patches are changed: bool B."""
        return draws[:, 0] < self.probability


class Gain(Augmentation):
    """Louder or quieter by up to ``decibels``."""

    def __init__(self, decibels: float = 6.0, probability: float = 1.0) -> None:
        super().__init__(probability)
        check_range("decibels", decibels, 0, 60)
        self.decibels = decibels

    def changed(self, values: Tensor, draws: Tensor) -> Tensor:
        return values * _factor(self.decibels * (2 * draws - 1))


class Polarity(Augmentation):
    """The waveform upside down, which nobody hears."""

    num_draws = 0

    def __init__(self, probability: float = 0.5) -> None:
        super().__init__(probability)

    def changed(self, values: Tensor, draws: Tensor) -> Tensor:
        return -values


class Shift(Augmentation):
    """Later or earlier by up to ``share`` of the patch; what leaves it at one end comes in at the other."""

    def __init__(self, share: float = 0.5, probability: float = 1.0) -> None:
        super().__init__(probability)
        check_range("share", share, 0, 0.5)
        self.share = share

    def changed(self, values: Tensor, draws: Tensor) -> Tensor:
        length = values.shape[-1]
        by = ((2 * draws - 1) * self.share * length).long()
        return values.gather(-1, (torch.arange(length, device=values.device) - by) % length)


class Equaliser(Augmentation):
    """A filter whose gain is at most ``decibels`` up or down, drawn anew at each octave and linear in between."""

    octaves: ClassVar[int] = 8  # below half the sample rate; lower ones have the gain of the lowest
    num_draws = octaves + 1

    def __init__(self, decibels: float = 6.0, probability: float = 1.0) -> None:
        super().__init__(probability)
        check_range("decibels", decibels, 0, 60)
        self.decibels = decibels

    def changed(self, values: Tensor, draws: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(values)
        bins = _bins(spectrum.shape[-1], values)
        octave = (self.octaves + torch.log2(bins / bins[-1])).clamp(min=0)
        lower = octave.floor().long().clamp(max=self.octaves - 1)
        gains = self.decibels * (2 * draws - 1)
        gain = torch.lerp(gains[:, lower], gains[:, lower + 1], octave - lower)
        return torch.fft.irfft(spectrum * _factor(gain), n=values.shape[-1])


class Noise(Augmentation):
    """Noise between white and brown, ``min_decibels`` to ``max_decibels`` below the patch; none in silence.

    Raises MusictagError for bounds in the wrong order.
    """

    num_draws = 3

    def __init__(self, min_decibels: float = 10.0, max_decibels: float = 40.0, probability: float = 0.5) -> None:
        super().__init__(probability)
        check_range("min_decibels", min_decibels, -60, max_decibels)
        self.min_decibels, self.max_decibels = min_decibels, max_decibels

    def changed(self, values: Tensor, draws: Tensor) -> Tensor:
        generator, bins = torch.Generator(values.device), _bins(values.shape[-1] // 2 + 1, values)
        spectrum = torch.empty(len(values), len(bins), 2, device=values.device)
        for row, seed in zip(spectrum, (draws[:, 0] * 2**24).long().tolist(), strict=True):
            row.normal_(generator=generator.manual_seed(seed))
        steepness = 2 * draws[:, 1:2]  # of the power: 0 is white, 1 pink, 2 brown noise
        noise = torch.fft.irfft(torch.view_as_complex(spectrum) * bins ** (-steepness / 2), n=values.shape[-1])
        below = self.min_decibels + (self.max_decibels - self.min_decibels) * draws[:, 2:]
        return values + noise * (_level(values) / _level(noise) / _factor(below))


class Masking(Augmentation):
    """Stretches of the spectrogram, over all frequencies and over all of its time, replaced by the patch's mean.

    As SpecAugment without warping (Park et al. 2019): ``masks`` of each kind, up to ``frequency`` of all bands high and
    up to ``time`` of all frames wide.
    """

    of_spectrogram = True

    def __init__(self, masks: int = 2, frequency: float = 0.15, time: float = 0.1, probability: float = 1.0) -> None:
        super().__init__(probability)
        check_range("masks", masks, 1, 10)
        check_range("frequency", frequency, 0, 1)
        check_range("time", time, 0, 1)
        self.masks, self.shares, self.num_draws = masks, (frequency, time), 4 * masks

    def changed(self, values: Tensor, draws: Tensor) -> Tensor:
        masked = torch.zeros((), dtype=torch.bool, device=values.device)
        for number in range(self.masks):
            for axis, share in enumerate(self.shares):
                size = values.shape[axis - 2]
                extent, place = draws[:, 4 * number + 2 * axis : 4 * number + 2 * axis + 2].unbind(1)
                width = (extent * (share * size + 1)).floor().clamp(max=size)
                first = (place * (size - width + 1)).floor()
                positions = torch.arange(size, device=values.device)
                inside = (positions >= first[:, None]) & (positions < (first + width)[:, None])
                shape = [len(values)] + [1] * (values.dim() - 1)
                shape[axis - 2] = size
                masked = masked | inside.view(shape)
        mean = values.flatten(1).mean(1)
        return torch.where(masked, _per_patch(mean, values), values)


class Mixup(Augmentation):
    """Each patch mixed with the next one of its batch, and their targets likewise (Zhang et al. 2018).

    The patch's own share is the larger of a number with a Beta(``alpha``, ``alpha``) distribution and its complement. A
    target that is unknown in either is unknown. On several processes, the next patch is that of the process's own
    share of the batch.
    """

    def __init__(self, alpha: float = 0.4, probability: float = 1.0) -> None:
        super().__init__(probability)
        if not alpha > 0:
            raise MusictagError(f"alpha={alpha} must be above 0")
        self.alpha = alpha

    def prepared(self, draws: np.ndarray) -> np.ndarray:
        from scipy.special import betaincinv  # here, as importing it takes a moment

        share = betaincinv(self.alpha, self.alpha, draws[:, 1].astype(np.float64))
        return np.stack([draws[:, 0], np.maximum(share, 1 - share).astype(np.float32)], axis=1)

    def changed(self, values: Tensor, draws: Tensor) -> Tensor:
        return torch.lerp(values.roll(1, 0), values, _per_patch(draws[:, 0], values))


class LogMelMixup(Mixup):
    """The same with the spectrograms instead of the waveforms."""

    of_spectrogram = True


class Augment(Callback):
    """Applies ``augmentations``, by name, to the batches of training; ``seed`` is that of the run.

    Where a front-end has no spectrogram, augmentations of it are left out, and a message says so.
    """

    def __init__(self, augmentations: Mapping[str, Augmentation], seed: int) -> None:
        def order(name: str) -> tuple[bool, str]:
            return isinstance(augmentations[name], Mixup), name

        self._parts = [(name, augmentations[name]) for name in sorted(augmentations, key=order)]
        self._seed = seed
        self._keys = np.empty(0, dtype=np.uint64)
        self._of_spectrogram: list[tuple[Augmentation, Tensor]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._keys = song_keys(trainer.datamodule.song_ids("trained"))
        frontend = pl_module.tagger.frontend
        left_out = [name for name, part in self._parts if part.of_spectrogram and not frontend.augments_spectrogram]
        if left_out:
            self._parts = [(name, part) for name, part in self._parts if name not in left_out]
            rank_zero_say(f"{', '.join(left_out)}: left out, as {type(frontend).__name__} has no spectrogram")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: dict[str, Any], batch_idx: int
    ) -> None:
        keys, number = self._keys[batch["song"].cpu().numpy()], batch["draw"].cpu().numpy()
        batch["audio"] = to_waveform(batch["audio"])
        later = []
        for name, part in self._parts:
            random = augmentation_draws(name, keys, number, self._seed, trainer.current_epoch, 1 + part.num_draws)
            draws = torch.from_numpy(part.prepared(random)).to(batch["audio"].device)
            if isinstance(part, Mixup):
                batch["target"] = part.applied(batch["target"], draws)
            if part.of_spectrogram:
                later.append((part, draws))
            else:
                batch["audio"] = part.applied(batch["audio"], draws)
        self._of_spectrogram = later
        pl_module.tagger.frontend.augment = self._augment if later else None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        pl_module.tagger.frontend.augment = None

    def _augment(self, spectrogram: Tensor) -> Tensor:
        for part, draws in self._of_spectrogram:
            spectrogram = part.applied(spectrogram, draws)
        return spectrogram


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise MusictagError for a setting outside [low, high]."""
    if not low <= value <= high:
        raise MusictagError(f"{name}={value} must be from {low} to {high}")


def _per_patch(numbers: Tensor, values: Tensor) -> Tensor:
    """B numbers in a shape that broadcasts with ``values``, B×..."""
    return numbers.view(-1, *[1] * (values.dim() - 1))


def _factor(decibels: Tensor) -> Tensor:
    return torch.exp(decibels * (math.log(10) / 20))


def _bins(number: int, values: Tensor) -> Tensor:
    """Numbers of the bins of a spectrum; 1 for the first, too, where a logarithm would be infinite."""
    return torch.arange(number, device=values.device, dtype=values.dtype).clamp(min=1)


def _level(waveform: Tensor) -> Tensor:
    return waveform.square().mean(-1, keepdim=True).sqrt()
