"""TensorFlow checkpoints are read without TensorFlow, and damage anywhere in them is detected."""

from __future__ import annotations

import numpy as np
import pytest

from musictag.models.pretrained.tensorflow_checkpoint import TensorFlowCheckpoint, crc32c
from tests.helpers.tensorflow_files import tensorflow_files

RNG = np.random.default_rng(0)
VARIABLES = {
    f"layer_{i}/{name}": RNG.standard_normal(shape).astype(np.float32)
    for i in range(9)
    for name, shape in (("kernel", (3, 1, 2, 4)), ("bias", (4,)), ("scale", ()))
} | {"step": np.array(12345)}


def test_crc32c_is_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the catalogues
    assert crc32c(b"\0" * 32) == 0x8A9136AA  # RFC 3720, appendix B.4


def test_variables_come_back():
    checkpoint = TensorFlowCheckpoint(*tensorflow_files(VARIABLES))
    assert set(checkpoint.variables) == set(VARIABLES) - {"step"}  # float32 only
    for name in checkpoint.variables:
        np.testing.assert_array_equal(checkpoint[name], VARIABLES[name])
        assert checkpoint[name].shape == VARIABLES[name].shape
    with pytest.raises(ValueError, match="no float32 variable step"):
        checkpoint["step"]


def test_damage_is_noticed_wherever_it_is():
    index, data = tensorflow_files(VARIABLES)
    for damaged in (data[:-9], data[: len(data) // 2]):
        with pytest.raises(ValueError, match="ends before variable"):
            TensorFlowCheckpoint(index, damaged)
    at = TensorFlowCheckpoint(index, data).variables["layer_4/bias"].offset
    flipped = TensorFlowCheckpoint(index, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(ValueError, match="checksum of variable layer_4/bias"):
        flipped["layer_4/bias"]
    flipped["layer_4/kernel"]
    for place in range(len(index)):
        wrong = index[:place] + bytes([index[place] ^ 4]) + index[place + 1 :]
        try:
            read = TensorFlowCheckpoint(wrong, data)
        except ValueError:
            continue
        # not read: padding of the footer, position and block of meta data
        assert read.variables == TensorFlowCheckpoint(index, data).variables
    for length in range(len(index)):
        with pytest.raises(ValueError, match="index"):
            TensorFlowCheckpoint(index[:length], data)


@pytest.mark.parametrize("content", [b"", b"no index at all" * 10, bytes(48)])
def test_other_files_are_refused(content):
    with pytest.raises(ValueError, match="not an index"):
        TensorFlowCheckpoint(content, b"")
