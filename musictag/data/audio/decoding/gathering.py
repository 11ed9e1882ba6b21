"""Decoded frames become blocks of float32: many frames at a time, each block of one rate."""

from __future__ import annotations

import av
import numpy as np

#: Samples (N, channels) float32, and their rate.
Block = tuple[np.ndarray, int]

#: Samples of each channel that are handed on together.
_BLOCK_SAMPLES = 2**16
#: PyAV looks for the end of the list of a frame's planes, which has none if there are so many: it reads beyond, and may
#: crash. Channels are interleaved by FFmpeg first, then.
_UNSAFE_PLANES = 8
#: By FFmpeg's name for a sample's format: full scale.
_FULL_SCALE = {"u8": 2**7, "s16": 2**15, "s32": 2**31}


class Gathered:
    """Frames in their order, gathered into blocks.

    Frames of another rate, layout or format than those before begin a new block, once ``believed`` of them have come
    one after the other; fewer are dropped as rubbish, and ``dropped_seconds`` tells how much that was. Frames which
    are all that there is are kept, however few they are. The first ``priming_frames`` are no audio, and nothing is
    after ``most_samples``.
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
        """The blocks that are complete now: mostly none."""
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
        """What is left."""
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
        frame.pts = None  # times in a file may jump; samples follow each other
        for packed in self._packer.resample(frame) if self._packer else (frame,):
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
