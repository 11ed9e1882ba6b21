"""A song's taggram as a picture, and as a page that plays the song along with it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from dataclasses import dataclass
from threading import Lock
from typing import Any

import matplotlib
import numpy as np
import soundfile
import torch
from jinja2 import Environment
from torchaudio.transforms import MelSpectrogram

from musictag.common.errors import SongError
from musictag.common.plotting import LONGEST_NAME, STYLE, new_figure
from musictag.common.text import printable
from musictag.inference.tagger import Tagger, Taggram

_WINDOW, _BANDS, _COLUMNS = 1024, 96, 2000
_DRAWING = Lock()  # the style of figures is one for all threads
#: A page contains the song, and a browser has to hold it: about 15 MB for an hour.
LONGEST_PAGE_SECONDS = 2 * 3600


@dataclass(frozen=True)
class Picture:
    """``png``: the image. ``span``: where time begins and ends in it, as shares of its width. ``taggram``: of the tags
    that it shows, in its order. ``audio``: mono int16 samples (N) at ``sample_rate``."""

    png: bytes
    span: tuple[float, float]
    taggram: Taggram
    audio: np.ndarray
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Length of the song."""
        return len(self.audio) / self.sample_rate


def draw_taggram(tagger: Tagger, name: str, audio: np.ndarray, top: int, hop_seconds: float) -> Picture:
    """The ``top`` tags with the highest mean score, one column every ``hop_seconds``, below the mel spectrogram of what
    the tagger hears: ``audio``, mono int16 samples (N) at its rate. Raises as ``Tagger.taggram`` does."""
    rate = int(tagger.sample_rate)
    whole = tagger.taggram((audio, rate), hop_seconds)
    labels = [k for k, kind in enumerate(tagger.tag_kinds) if kind == "classification"]
    chosen = sorted(labels or range(len(whole.tags)), key=lambda k: -whole.scores[:, k].mean())[:top]
    taggram = Taggram(whole.times, tuple(whole.tags[k] for k in chosen), whole.scores[:, chosen])
    png, span = _figure(name, audio, rate, taggram)
    return Picture(png, span, taggram, audio, rate)


def _figure(name: str, audio: np.ndarray, rate: int, taggram: Taggram) -> tuple[bytes, tuple[float, float]]:
    seconds = len(audio) / rate
    with _DRAWING, matplotlib.rc_context(STYLE):
        figure = new_figure(9, 3.0 + 0.24 * len(taggram.tags))
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.6, 0.24 * len(taggram.tags) + 0.2))
        above.imshow(
            _mel_decibels(audio, rate), origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, _BANDS)
        )
        above.set(title=_short(printable(name), 90), yticks=[], ylabel="mel")
        # a row of the taggram holds from its start to the next
        edges = np.append(taggram.times, seconds)
        image = below.pcolormesh(
            edges, np.arange(len(taggram.tags) + 1), taggram.scores.T, cmap="Blues", vmin=0, vmax=1, rasterized=True
        )
        names = [_short(tag, LONGEST_NAME) for tag in taggram.tags]
        below.set_yticks(np.arange(len(names)) + 0.5, names)
        below.invert_yaxis()
        below.set_xlim(0, seconds)
        below.xaxis.set_major_formatter(lambda value, _: f"{int(value // 60)}:{int(value % 60):02d}")
        figure.colorbar(image, ax=below, label="score", pad=0.01, aspect=12)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        box = below.get_position()
    return buffer.getvalue(), (box.x0, box.x1)


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _mel_decibels(audio: np.ndarray, rate: int) -> np.ndarray:
    """Bands × columns, at most _COLUMNS of them, in dB below the loudest."""
    waveform = torch.from_numpy(audio).float() / 32768
    if len(waveform) < _WINDOW:
        waveform = torch.nn.functional.pad(waveform, (0, _WINDOW - len(waveform)))
    hop = max(_WINDOW // 4, len(waveform) // _COLUMNS)
    mel = MelSpectrogram(rate, n_fft=_WINDOW, hop_length=hop, n_mels=_BANDS)(waveform)
    decibels = 10 * torch.log10(mel.clamp(min=1e-10))
    return decibels.clamp(min=decibels.max() - 80).numpy()


def taggram_page(picture: Picture, name: str) -> str:
    """One HTML file with picture and song: what is heard is marked, a click goes there, and the tags of the moment are
    listed. Raises SongError for a song that is too long for a page."""
    if picture.seconds > LONGEST_PAGE_SECONDS:
        raise SongError(f"is longer than {LONGEST_PAGE_SECONDS // 3600} hours, too long for a page: use a .png")
    sound = io.BytesIO()
    soundfile.write(sound, picture.audio, picture.sample_rate, format="MP3")
    data: dict[str, Any] = {
        "span": picture.span,
        "seconds": picture.seconds,
        "times": np.round(picture.taggram.times, 3).tolist(),
        "tags": list(picture.taggram.tags),
        "scores": np.round(picture.taggram.scores.astype(float), 3).tolist(),
    }
    return (
        Environment(autoescape=True)
        .from_string(PAGE_HEAD + _PAGE)
        .render(
            title=f"{name}: taggram",
            name=name,
            style=_STYLE,
            script=_SCRIPT,
            policy=content_policy(_STYLE, _SCRIPT),
            data=json.dumps(data).replace("<", "\\u003c"),
            png=base64.b64encode(picture.png).decode(),
            mp3=base64.b64encode(sound.getvalue()).decode(),
        )
    )


def content_policy(style: str, script: str, more: str = "") -> str:
    """The Content-Security-Policy of a page that runs one script and nothing else."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    return (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; img-src data:; "
        f"media-src data:; base-uri 'none'; form-action 'none'{more}"
    )


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #2b2b2b; background: #fff; max-width: 75rem; margin: 1.5rem auto; padding: 0 1rem }
audio { width: 100% }
#picture { position: relative; cursor: pointer; margin: 1rem 0 }
#picture img { width: 100%; display: block }
#here { position: absolute; top: 0; bottom: 0; width: 2px; margin-left: -1px; background: #d9822b; pointer-events: none }
#now { display: grid; grid-template-columns: max-content 3rem 1fr; gap: .2rem .8rem; margin: 0; padding: 0; list-style: none }
#now li { display: contents }
#now meter { width: 100%; max-width: 24rem }
"""  # noqa: E501

_SCRIPT = """
"use strict";
const { span, seconds, times, tags, scores } = JSON.parse(document.getElementById("data").textContent);
const song = document.querySelector("audio"), picture = document.getElementById("picture");
const here = document.getElementById("here"), now = document.getElementById("now");
const rows = Array.from({ length: Math.min(5, tags.length) }, () => {
  const row = document.createElement("li"), name = document.createElement("span");
  const score = document.createElement("span"), meter = document.createElement("meter");
  row.append(name, score, meter);
  now.append(row);
  return { name, score, meter };
});
function show() {
  const at = Math.min(song.currentTime, seconds);
  here.style.left = `${100 * (span[0] + (span[1] - span[0]) * at / seconds)}%`;
  let patch = times.findIndex(time => time > at) - 1;
  if (patch < -1) patch = times.length - 1;
  const order = tags.map((_, k) => k).sort((a, b) => scores[patch][b] - scores[patch][a]);
  rows.forEach(({ name, score, meter }, place) => {
    const k = order[place];
    name.textContent = tags[k];
    score.textContent = scores[patch][k].toFixed(2);
    meter.value = scores[patch][k];
  });
  if (!song.paused) requestAnimationFrame(show);
}
for (const event of ["play", "seeking", "seeked", "timeupdate"]) song.addEventListener(event, show);
picture.addEventListener("click", event => {
  const share = event.offsetX / picture.clientWidth;
  song.currentTime = seconds * Math.min(1, Math.max(0, (share - span[0]) / (span[1] - span[0])));
});
show();
"""

PAGE_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{{ title }}</title>
<style>{{ style | safe }}</style>
</head>
"""

_PAGE = """<body>
<h1>{{ name }}</h1>
<audio controls src="data:audio/mpeg;base64,{{ mp3 }}"></audio>
<div id="picture"><img alt="Spectrogram, and the scores of {{ name }} over time" src="data:image/png;base64,{{ png }}"><div id="here"></div></div>
<ul id="now" aria-label="Tags at this moment"></ul>
<script type="application/json" id="data">{{ data | safe }}</script>
<script>{{ script | safe }}</script>
</body>
</html>
"""  # noqa: E501
