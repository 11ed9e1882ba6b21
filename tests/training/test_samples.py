"""Samples between float and int16: rounded to the nearest, clipped at full scale, and the same numbers everywhere."""

from __future__ import annotations

import numpy as np
import torch

from musictag.data.audio.decode import to_float, to_int16
from musictag.training.module import to_waveform


def test_samples_are_rounded_to_the_nearest_and_clipped() -> None:
    steps = np.array([0.0, 0.4, 0.6, -0.4, -0.6, 1000.7, -1000.7, 32766.6, 32767.4, 40000, -32767.6, -40000])
    expected = [0, 0, 1, 0, -1, 1001, -1001, 32767, 32767, 32767, -32768, -32768]
    assert to_int16(steps / 32768).tolist() == expected


def test_training_hears_the_numbers_that_tagging_and_features_hear() -> None:
    samples = np.array([-32768, -1, 0, 1, 16384, 32767], dtype=np.int16)
    np.testing.assert_array_equal(to_float(samples), samples / 32768)
    np.testing.assert_array_equal(to_waveform(torch.from_numpy(samples)).numpy(), to_float(samples))
