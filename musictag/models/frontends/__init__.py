"""Front-ends turn a waveform into a sequence of features (section 2 of the paper). One file per family.

A new one needs a subclass of ``FrontEnd`` and a file in conf/frontend, where the tests find it. A paper's variant of a
class is a file in conf/model.
Legend: B patches, N samples, C channels, T frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import ClassVar

from torch import Tensor, nn

from musictag.models.inference_form import rearranged

#: In the order of figures and tables. A front-end begins with layers that learn from samples, or with a spectrogram.
FAMILIES = ("waveform", "spectrogram")
#: Of a waveform, in samples: two years at 16 kHz.
_LONGEST = 2**40


class FrontEnd(nn.Module, ABC):
    """forward(waveform: B×N float32 in [-1, 1]) -> features: B×C×T.

    Must set the attributes below. Must be constructible on torch's ``meta`` device, and accept the settings
    ``filter_multiplier`` (scales all numbers of filters: the paper's capacity study), ``norm_momentum`` and
    ``sample_rate``.
    """

    family: ClassVar[str]  #: one of FAMILIES, by which tables and figures group front-ends
    sample_rate: int  #: Hz
    out_channels: int  #: C
    hop_samples: int  #: from one frame to the next
    #: receptive field of a frame, away from the ends; None: the whole waveform
    receptive_samples: int | None
    #: extra samples of the song before and after the patch, as context without predictions of its own
    margin_samples: tuple[int, int] = (0, 0)
    #: whether ``forward`` passes its spectrogram (time is the last, frequency the last but one dimension) through
    #: ``augment``, where that is set, as it is during the training steps of a run with augmentations of it
    augments_spectrogram: ClassVar[bool] = False
    augment: Callable[[Tensor], Tensor] | None = None

    @abstractmethod
    def forward(self, waveform: Tensor) -> Tensor: ...

    @abstractmethod
    def num_frames(self, num_samples: int) -> int:
        """T for a waveform of ``num_samples``, exactly; 0 if it is too short. Never decreases with N."""

    def describe_input(self) -> str:
        """The input of its first learned layer, in a word or two, for tables: ``96 mel``."""
        return self.family

    def fit_normalisation(self, waveforms: Iterable[Tensor]) -> None:
        """Measure training songs, blocks of B×N float32, before training. Most front-ends have nothing to measure."""

    def inference_form(self) -> nn.Module:
        """A module with the same ``forward`` in evaluation mode, for scoring only, with the weights of this moment.

        By default a copy in which every nn.Sequential is rearranged (see musictag/models/inference_form.py).
        """
        return rearranged(self)

    def trainable_blocks(self) -> list[nn.Module]:
        """Its parts from input to output, of which the last ones can be trained alone; by default a single one."""
        return [self]

    @property
    def min_samples(self) -> int:
        """The shortest waveform that has a frame."""
        return self.samples_for(1)

    def samples_for(self, num_frames: int) -> int:
        """The shortest waveform that has ``num_frames``, in samples."""
        return 1 + bisect_left(range(1, _LONGEST), num_frames, key=self.num_frames)
