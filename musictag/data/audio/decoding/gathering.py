"""Decoded frames become float32 blocks: many frames per block, and one rate per block."""

from __future__ import annotations

import av
import numpy as np

#: Samples (N, channels) float32, and their rate.
Block = tuple[np.ndarray, int]

#: Samples of each channel per block.
_BLOCK_SAMPLES = 2**16
#: With this many planes PyAV reads beyond the end of a frame's list of planes, which is not terminated then, and may
#: crash. FFmpeg interleaves the channels first in this case.
_UNSAFE_PLANES = 8
#: Full scale, by FFmpeg's name for a sample format.
_FULL_SCALE = {"u8": 2**7, "s16": 2**15, "s32": 2**31}


class Gathered:
    """Gathers frames into blocks, in order.

    Frames with another rate, layout or format than the previous ones begin a new block, once ``believed`` of them have
    come in a row; fewer are dropped as rubbish, and ``dropped_seconds`` says how much that was. If there are no other
    frames, they are kept, however few. The first ``priming_frames`` are not audio, and nothing is kept after
    ``most_samples``.
    """

    def __init__(self, believed: int, priming_frames: int = 0, most_samples: int | None = None) -> None:
        self.dropped_seconds = 0.0
        self._priming_frames, self._samples_left = priming_frames, most_samples
        self._believed = believed
        self._kind: tuple | None = None
        self._fifo = av.AudioFifo()
        self._packer: av.AudioResampler | None = None
        self._held: list[av.AudioFrame] = []
        self._held_kind: tuple | None = None

    def add(self, frame: av.AudioFrame) -> list[Block]:
        """Add a frame; returns the blocks that it completes, usually none."""
        if self._priming_frames:
            self._priming_frames -= 1
            return []
        kind = (frame.sample_rate, frame.format.name, frame.layout.name)
        if kind == self._kind:
            if self._held:
                self._drop()
            return self._write(frame)
        if kind != self._held_kind:
            self._drop()
            self._held_kind = kind
        self._held.append(frame)
        return self._believe() if len(self._held) >= self._believed else []

    def finish(self) -> list[Block]:
        """Return what is left."""
        blocks = self._believe() if self._kind is None and not self.dropped_seconds else []
        self._drop()
        return blocks + self._flush()

    def _believe(self) -> list[Block]:
        blocks = self._flush()
        self._fifo, self._kind, self._packer = av.AudioFifo(), self._held_kind, None
        held, self._held, self._held_kind = self._held, [], None
        if held and held[0].format.is_planar and held[0].layout.nb_channels >= _UNSAFE_PLANES:
            self._packer = av.AudioResampler(held[0].format.packed.name, held[0].layout, held[0].sample_rate)
        for frame in held:
            blocks += self._write(frame)
        return blocks

    def _drop(self) -> None:
        self.dropped_seconds += sum(frame.samples / frame.sample_rate for frame in self._held if frame.sample_rate)
        self._held, self._held_kind = [], None

    def _write(self, frame: av.AudioFrame) -> list[Block]:
        frame.pts = None  # timestamps in a file may jump; samples are contiguous
        if self._packer is None:
            self._fifo.write(frame)
        else:
            for packed in self._packer.resample(frame):
                packed.pts = None
                self._fifo.write(packed)
        return self._flush() if self._fifo.samples >= _BLOCK_SAMPLES else []

    def _flush(self) -> list[Block]:
        if not self._fifo.samples:
            return []
        frame = self._fifo.read(0, partial=True)
        samples = _samples(frame)
        if self._samples_left is not None:
            samples = samples[: self._samples_left]
            self._samples_left -= len(samples)
        return [(samples, frame.sample_rate)]


def _samples(frame: av.AudioFrame) -> np.ndarray:
    """(N, channels) float32; full scale is 1."""
    samples = frame.to_ndarray()
    samples = samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
    name = frame.format.packed.name
    if name not in _FULL_SCALE:
        return samples.astype(np.float32, copy=False)
    samples = samples.astype(np.float32)
    if name == "u8":
        samples -= _FULL_SCALE[name]
    samples /= np.float32(_FULL_SCALE[name])
    return samples
