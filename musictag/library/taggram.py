"""A song's taggram as a picture, and as a page that plays the song along with it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import soundfile
import torch
from jinja2 import Environment
from matplotlib.image import imsave
from torchaudio.transforms import MelSpectrogram

from musictag.common.errors import SongError
from musictag.common.plotting import STYLE, new_figure, shortened
from musictag.common.text import printable
from musictag.inference.tagger import Tagger, Taggram

if TYPE_CHECKING:
    from musictag.library.truth import Known

_WINDOW, _BANDS, _COLUMNS = 1024, 96, 2000
_DRAWING = Lock()  # the style of figures is one for all threads
#: A page contains the song, and a browser has to hold it: about 15 MB for an hour.
LONGEST_PAGE_SECONDS = 2 * 3600


@dataclass(frozen=True)
class Heard:
    """What a tagger makes of a song: the ``taggram`` of its highest tags, and what it hears, ``audio``: mono int16
    samples (N) at ``sample_rate``."""

    taggram: Taggram
    audio: np.ndarray
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Length of the song."""
        return len(self.audio) / self.sample_rate


def hear(tagger: Tagger, audio: np.ndarray, top: int, hop_seconds: float) -> Heard:
    """The ``top`` tags with the highest mean score in ``audio``, mono int16 samples (N) at the tagger's rate, every
    ``hop_seconds``. Raises as ``Tagger.taggram`` does."""
    rate = int(tagger.sample_rate)
    whole = tagger.taggram((audio, rate), hop_seconds)
    labels = [k for k, kind in enumerate(tagger.tag_kinds) if kind == "classification"]
    chosen = sorted(labels or range(len(whole.tags)), key=lambda k: -whole.scores[:, k].mean())[:top]
    return Heard(Taggram(whole.times, tuple(whole.tags[k] for k in chosen), whole.scores[:, chosen]), audio, rate)


def taggram_picture(heard: Heard, name: str) -> bytes:
    """A PNG: the tags over time below the mel spectrogram."""
    taggram = heard.taggram
    with _DRAWING, matplotlib.rc_context(STYLE):
        figure = new_figure(9, 3.0 + 0.24 * len(taggram.tags))
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.6, 0.24 * len(taggram.tags) + 0.2))
        above.imshow(
            _mel_decibels(heard), origin="lower", aspect="auto", cmap="magma", extent=(0, heard.seconds, 0, _BANDS)
        )
        above.set(title=shortened(printable(name), 90), yticks=[], ylabel="mel")
        # a row of the taggram holds from its start to the next
        edges = np.append(taggram.times, heard.seconds)
        image = below.pcolormesh(
            edges, np.arange(len(taggram.tags) + 1), taggram.scores.T, cmap="Blues", vmin=0, vmax=1, rasterized=True
        )
        names = [shortened(tag) for tag in taggram.tags]
        below.set_yticks(np.arange(len(names)) + 0.5, names)
        below.invert_yaxis()
        below.set_xlim(0, heard.seconds)
        below.xaxis.set_major_formatter(lambda value, _: f"{int(value // 60)}:{int(value % 60):02d}")
        figure.colorbar(image, ax=below, label="score", pad=0.01, aspect=12)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _mel_decibels(heard: Heard) -> np.ndarray:
    """Bands × columns, at most _COLUMNS of them, in dB below the loudest."""
    audio = np.pad(heard.audio, (0, max(0, _WINDOW - len(heard.audio))))
    hop = max(_WINDOW // 4, len(audio) // _COLUMNS)
    # one window for each column: of a long song, most samples are in none
    windows = np.lib.stride_tricks.sliding_window_view(audio, _WINDOW)[::hop].astype(np.float32) / 32768
    mel = MelSpectrogram(heard.sample_rate, n_fft=_WINDOW, hop_length=_WINDOW, n_mels=_BANDS, center=False)
    decibels = 10 * torch.log10(mel(torch.from_numpy(windows))[:, :, 0].T.clamp(min=1e-10))
    return decibels.clamp(min=decibels.max() - 80).numpy()


def taggram_page(name: str, models: Mapping[str, Heard], known: Known | None = None, home: str = "") -> str:
    """One HTML file with the song and what each model makes of it: what is heard is marked, a click goes there, and
    scores of the moment are shown; beside them the truth, if it is ``known``. ``home``: the page before this one.

    Raises SongError for a song that is too long for a page.
    """
    first, *_ = models.values()
    if first.seconds > LONGEST_PAGE_SECONDS:
        raise SongError(f"is longer than {LONGEST_PAGE_SECONDS // 3600} hours, too long for a page: use a .png")
    sound = io.BytesIO()
    soundfile.write(sound, first.audio, first.sample_rate, format="MP3")
    grams = {model: heard.taggram for model, heard in models.items()}
    numbers = [{"times": g.times.tolist(), "scores": g.scores.astype(float).round(3).tolist()} for g in grams.values()]
    tags = {model: zip(g.tags, g.scores.mean(axis=0), strict=True) for model, g in grams.items()}
    return render_page(
        _PAGE, _SCRIPT, f"{name}: taggram", name=name, home=home, known=known,
        models=[(model, _mel_png(heard), tags[model]) for model, heard in models.items()],
        data=json.dumps({"seconds": first.seconds, "models": numbers}).replace("<", "\\u003c"),
        mp3=base64.b64encode(sound.getvalue()).decode(),
    )  # fmt: skip


def _mel_png(heard: Heard) -> str:
    buffer = io.BytesIO()
    imsave(buffer, _mel_decibels(heard), cmap="magma", origin="lower", format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def render_page(body: str, script: str, title: str, connects: bool = False, **values: object) -> str:
    """A page of HTML: ``body`` is a template for ``values``. Its Content-Security-Policy allows ``script`` alone, which
    may send requests to where it comes from if it ``connects``."""
    own, style = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, _STYLE))
    policy = (
        f"default-src 'none'; script-src 'sha256-{own}'; style-src 'sha256-{style}'; img-src data:; media-src data:; "
        f"connect-src '{'self' if connects else 'none'}'; base-uri 'none'; form-action 'none'"
    )
    values |= {"policy": policy, "style": _STYLE, "script": script, "title": title}
    return Environment(autoescape=True).from_string(_HEAD + body + _FOOT).render(values)


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #2b2b2b; background: #fff; max-width: 80rem; margin: 1.5rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: .5rem 0; overflow-wrap: anywhere }
h2 { font-size: 1.1rem; margin: 1rem 0 .3rem; overflow-wrap: anywhere }
a { color: #08519c }
button, input { font: inherit; max-width: 100% }
audio { width: 100% }
#drop { border: 2px dashed #9ab; border-radius: .6rem; padding: 3rem 1rem; text-align: center }
#drop.over { background: #eef4f9 }
#truth b { background: #e3f1e3; border-radius: .3rem; padding: .1rem .4rem; margin-right: .3rem; font-weight: 500; white-space: nowrap }
.models { display: flex; flex-wrap: wrap; gap: 0 2rem }
.models section { flex: 1 1 22rem; min-width: 0 }
table { width: 100%; border-collapse: collapse; line-height: 1.7 }
thead { font-size: .8rem; color: #666; vertical-align: bottom }
td, th { padding: 0 .5rem 0 0; white-space: nowrap }
tbody th { width: 9rem; min-width: 9rem; max-width: 9rem; box-sizing: border-box; overflow: hidden; text-overflow: ellipsis; text-align: left; font-weight: 400; padding-left: .3rem; background: linear-gradient(90deg, #d5e5f2 calc(100% * var(--now, 0)), transparent 0) }
.true { color: #1a7f37; font-weight: 700 }
.false { color: #aaa }
.time { position: relative; width: 100%; padding: 0; cursor: pointer; border-bottom: 1px solid #fff }
.time::after { content: ""; position: absolute; top: 0; bottom: -1px; left: calc(100% * var(--at, 0)); width: 2px; margin-left: -1px; background: #d9822b }
.time img, .time canvas { display: block; width: 100%; height: 1.6rem; background: #f4f7fa; image-rendering: pixelated }
.time img { height: 6rem; image-rendering: auto }
@media (max-width: 30rem) { tbody th { width: 6.5rem; min-width: 6.5rem; max-width: 6.5rem } }
"""  # noqa: E501

_SCRIPT = """
"use strict";
const { seconds, models } = JSON.parse(document.getElementById("data").textContent);
const song = document.querySelector("audio"), tables = [...document.querySelectorAll("table")];
function show() {
  const at = Math.min(song.currentTime, seconds);
  tables.forEach((table, k) => {
    const { times, scores } = models[k];
    let patch = times.findIndex(time => time > at) - 1;
    if (patch < 0) patch = times.length - 1;
    table.style.setProperty("--at", at / seconds);
    [...table.tBodies[0].rows].forEach((row, tag) => {
      row.querySelector(".now").textContent = scores[patch][tag].toFixed(2);
      row.style.setProperty("--now", scores[patch][tag]);
    });
  });
  if (!song.paused) requestAnimationFrame(show);
}
tables.forEach((table, k) => {
  const { times, scores } = models[k];
  table.querySelectorAll("canvas").forEach((canvas, tag) => {
    canvas.width = 2000;
    canvas.height = 1;
    const strip = canvas.getContext("2d"), edge = row => Math.round(2000 * (times[row] ?? seconds) / seconds);
    scores.forEach((of, row) => {
      strip.fillStyle = `rgb(8 81 156 / ${of[tag]})`;
      strip.fillRect(edge(row), 0, edge(row + 1) - edge(row), 1);
    });
  });
  table.addEventListener("click", event => {
    const strip = event.target.closest(".time")?.getBoundingClientRect();
    if (strip) song.currentTime = seconds * Math.min(1, Math.max(0, (event.clientX - strip.left) / strip.width));
  });
});
for (const event of ["play", "seeking", "seeked", "timeupdate"]) song.addEventListener(event, show);
show();
"""

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{{ title }}</title>
<style>{{ style | safe }}</style>
</head>
<body>
"""

_FOOT = """
<script>{{ script | safe }}</script>
</body>
</html>
"""

_PAGE = """{% if home %}<a href="{{ home }}">another song</a>{% endif %}
<h1>{{ name }}</h1>
<audio controls src="data:audio/mpeg;base64,{{ mp3 }}"></audio>
{% if known %}
<p id="truth">{{ known.about }}{% for tag, mark in known.marks.items() if mark != "✗" %} <b>{{ "✓ " + tag if mark == "✓" else tag + " " + mark }}</b>{% endfor %}</p>
{% endif %}
<p><small>Rows by mean score; the bar behind a name is the score now; darker: higher. A click goes there.</small></p>
<div class="models">
{% for model, mel, tags in models %}
<section>
{% if model %}<h2>{{ model }}</h2>{% endif %}
<table>
<thead><tr><td></td><td></td><td>mean</td><td>now</td><td class="time"><img alt="Mel spectrogram" src="data:image/png;base64,{{ mel }}"></td></tr></thead>
<tbody>
{% for tag, score in tags %}
{% set mark = known.marks.get(tag, "") if known else "" %}
<tr><th scope="row" title="{{ tag }}">{{ tag }}</th><td class="{{ "false" if mark == "✗" else "true" }}">{{ mark }}</td><td>{{ "%.2f" | format(score) }}</td><td class="now"></td><td class="time"><canvas></canvas></td></tr>
{% endfor %}
</tbody>
</table>
</section>
{% endfor %}
</div>
<script type="application/json" id="data">{{ data | safe }}</script>
"""  # noqa: E501
