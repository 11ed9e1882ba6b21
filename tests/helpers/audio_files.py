"""Audio files of every format that PyAV can write, made during a test."""

from __future__ import annotations

import tempfile
from pathlib import Path

import av
import numpy as np

#: By suffix: FFmpeg's container and codec, its sample format, and options.
ENCODINGS: dict[str, tuple[str, str, str, dict[str, str]]] = {
    ".mp3": ("mp3", "libmp3lame", "fltp", {}),
    ".m4a": ("ipod", "aac", "fltp", {}),
    ".mp4": ("mp4", "aac", "fltp", {"movflags": "faststart"}),
    ".alac.m4a": ("ipod", "alac", "s16p", {}),
    ".mov": ("mov", "pcm_s16le", "s16", {}),
    ".fragmented.mp4": ("mp4", "aac", "fltp", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    ".mka": ("matroska", "aac", "fltp", {}),
    ".webm": ("webm", "libopus", "flt", {}),
    ".aac": ("adts", "aac", "fltp", {}),
    ".wma": ("asf", "wmav2", "fltp", {}),
    ".wv": ("wv", "wavpack", "fltp", {}),
    ".flac": ("flac", "flac", "s16", {}),
    ".opus": ("ogg", "libopus", "flt", {}),
    ".tta": ("tta", "tta", "s16", {}),
    ".ac3": ("ac3", "ac3", "fltp", {}),
    ".caf": ("caf", "alac", "s16p", {}),
    ".mp2": ("mp2", "mp2", "s16", {}),
}


def encoded(
    suffix: str,
    samples: np.ndarray,
    rate: int,
    bit_rate: int | None = None,
    codec: str | None = None,
    encoding: tuple[str, str, str, dict[str, str]] | None = None,
) -> bytes:
    """``samples`` (N) or (N, channels), floats in [-1, 1], as the bytes of a file: in an ``encoding`` (by default that
    of the suffix), or a WAV with any ``codec``."""
    container, codec, sample_format, options = encoding or ENCODINGS.get(suffix, (suffix[1:], codec, None, {}))
    samples = samples[:, None] if samples.ndim == 1 else samples
    sample = {"format": sample_format} if sample_format else {}
    layout = {1: "mono", 2: "stereo"}[samples.shape[1]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"song{suffix}"  # a real file, because some formats rewrite their header at the end
        with av.open(str(path), "w", format=container, options=options) as output:
            _encode(output, output.add_stream(codec, rate=rate, layout=layout, **sample), samples, bit_rate)
        return path.read_bytes()


def _encode(output: av.container.OutputContainer, stream: av.AudioStream, samples: np.ndarray, bit_rate: int | None):
    context = stream.codec_context
    if bit_rate:
        stream.bit_rate = bit_rate
    planar = np.ascontiguousarray(samples.T, dtype=np.float32)
    frame = av.AudioFrame.from_ndarray(planar, format="fltp", layout=context.layout.name)
    frame.sample_rate = context.sample_rate
    context.open()
    resampler = av.AudioResampler(
        context.format.name, context.layout.name, context.sample_rate, context.frame_size or 1024
    )
    for part in [*resampler.resample(frame), *resampler.resample(None), None]:
        for packet in stream.encode(part):
            output.mux(packet)
