"""Links of a recording chain: equaliser, compressor, codec. Legend: N samples."""

from __future__ import annotations

import io

import av
import numpy as np
import scipy.signal

#: Centres of the bands in Hz; in between the gain is interpolated over the logarithm of the frequency.
EQUALISER_BANDS = (100.0, 250.0, 600.0, 1500.0, 3500.0, 7000.0)
#: Encoder, container, bits per second: all keep the band up to 5.5 kHz or more.
CODECS = (("libmp3lame", "mp3", 24_000), ("libmp3lame", "mp3", 32_000), ("libopus", "ogg", 16_000), ("libopus", "ogg", 24_000))  # fmt: skip  # noqa: E501

_STEP_SECONDS = 0.01  # resolution of the compressor's level
_RELEASE_SECONDS = 0.15
_RANGE_DB = 24.0  # below the loudest passage, where compression begins


def equaliser_gain(gains_db: tuple[float, ...], size: int, sample_rate: int) -> np.ndarray:
    """Gain (size // 2 + 1, float32) for the spectrum of ``size`` samples."""
    frequencies = np.maximum(np.arange(size // 2 + 1) * (sample_rate / size), 1.0)
    curve = np.interp(np.log(frequencies), np.log(EQUALISER_BANDS), gains_db)
    return (10 ** (curve / 20)).astype(np.float32)


def compressed(audio: np.ndarray, reduction_db: float, sample_rate: int) -> np.ndarray:
    """``audio`` (N) with its loudest passage ``reduction_db`` softer, and less so what is softer already."""
    step = round(_STEP_SECONDS * sample_rate)
    blocks = np.pad(audio, (0, -len(audio) % step)).reshape(-1, step)
    level = 10 * np.log10(np.mean(np.square(blocks), axis=1, dtype=np.float64) + 1e-12)
    over = np.clip(1 + (level - level.max()) / _RANGE_DB, 0.0, 1.0)
    keep = np.exp(-_STEP_SECONDS / _RELEASE_SECONDS)
    smooth = scipy.signal.lfilter([1 - keep], [1, -keep], over, zi=[keep * over[0]])[0]
    centres = (np.arange(len(smooth)) + 0.5) * step
    gain_db = -reduction_db * np.interp(np.arange(len(audio)), centres, smooth)
    return audio * (10 ** (gain_db / 20)).astype(np.float32)


def coded(audio: np.ndarray, codec: int, sample_rate: int) -> np.ndarray:
    """int16 ``audio`` (N) after encoding and decoding with ``CODECS[codec]``, as long and at the same place."""
    encoder, container, bit_rate = CODECS[codec]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(encoder, rate=sample_rate, layout="mono")
        stream.bit_rate = bit_rate
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=sample_rate)
        frame = av.AudioFrame.from_ndarray(audio[None], format="s16", layout="mono")
        frame.sample_rate = sample_rate
        for given in (frame, None):
            for converted in resampler.resample(given):
                output.mux(stream.encode(converted))
        output.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as stored:
        back = av.AudioResampler(format="s16", layout="mono", rate=sample_rate)
        frames = [frame for given in (*stored.decode(audio=0), None) for frame in back.resample(given)]
    decoded = np.concatenate([frame.to_ndarray()[0] for frame in frames])[: len(audio)]
    return np.pad(decoded, (0, len(audio) - len(decoded)))
