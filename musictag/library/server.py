"""A page on this machine: drop a song or record one, and see and hear what taggers make of it."""

from __future__ import annotations

import json
import secrets
import socket
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import BoundedSemaphore, Lock
from urllib.parse import unquote, urlsplit

import numpy as np
from jinja2 import Environment

from musictag.common.errors import MusictagError, SongError
from musictag.common.text import printable
from musictag.data.audio.read import source_blocks
from musictag.inference.tagger import Tagger
from musictag.library.taggram import PAGE_HEAD, content_policy, draw_taggram, taggram_page

_AT_ONCE, _KEPT = 2, 8  # songs that are worked on, and whose pages are kept
_TOP, _HOP_SECONDS = 10, 1.0
_SOCKET_SECONDS = 30  # without a byte from the browser
_BLOCK = 2**16


class TooLong(Exception):
    """A song has more seconds than allowed."""


class Demo(ThreadingHTTPServer):
    """Serves ``taggers``, by name, at ``address`` (host, port; port 0: a free one).

    Songs of more than ``megabytes`` or ``minutes`` are refused. They are kept in a temporary file while they are read;
    the pages of the last ones are in memory, under names that cannot be guessed. Only requests that name this host are
    answered, so that no other web page can reach it through the browser. Raises OSError if the address is taken.
    """

    daemon_threads = True

    def __init__(
        self, taggers: Mapping[str, Tagger], address: tuple[str, int], megabytes: float = 100, minutes: float = 15
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)
        self.taggers, self.minutes, self.max_bytes = taggers, minutes, int(megabytes * 1e6)
        self.free = BoundedSemaphore(_AT_ONCE)
        self._pages: OrderedDict[str, list[str]] = OrderedDict()
        self._lock = Lock()

    @property
    def hosts(self) -> set[str]:
        """What the header Host may say; empty: anything, where others may come in."""
        host, port = self.server_address[:2]
        if host not in ("127.0.0.1", "::1"):
            return set()
        return {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}

    def analyse(self, path: Path, name: str) -> str:
        """Make the pages of a song; returns their name. Raises TooLong, and SongError or MusictagError for no song."""
        heard: dict[float, np.ndarray] = {}
        pages = []
        for tagger in self.taggers.values():
            if tagger.sample_rate not in heard:
                heard[tagger.sample_rate] = self._read(path, int(tagger.sample_rate))
            picture = draw_taggram(tagger, name, heard[tagger.sample_rate], _TOP, _HOP_SECONDS)
            pages.append(taggram_page(picture, name))
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._pages[key] = pages
            while len(self._pages) > _KEPT:
                self._pages.popitem(last=False)
        return key

    def _read(self, path: Path, rate: int) -> np.ndarray:
        parts: list[np.ndarray] = []

        def take(block: np.ndarray) -> None:
            parts.append(block)
            if sum(map(len, parts)) > self.minutes * 60 * rate:
                raise TooLong

        source_blocks(path, rate, take, parts.clear)
        return np.concatenate(parts)

    def page(self, path: str) -> str | None:
        """The page at a path of a URL, if there is one."""
        words = path.strip("/").split("/")
        if words == [""]:
            limits = f"at most {self.max_bytes / 1e6:g} MB and {self.minutes:g} minutes"
            return _rendered(_START, script=_SCRIPT, models=list(self.taggers), limits=limits)
        with self._lock:
            pages = self._pages.get(words[1], []) if words[0] == "song" and len(words) in (2, 3) else []
        if len(words) == 2 and pages:
            return pages[0] if len(pages) == 1 else _rendered(_SEVERAL, models=list(self.taggers), key=words[1])
        return next((page for k, page in enumerate(pages) if words[2:] == [str(k)]), None)


class _Handler(BaseHTTPRequestHandler):
    server: Demo
    timeout = _SOCKET_SECONDS
    server_version, sys_version = "musictag", ""

    def do_GET(self) -> None:
        if not self._is_for_us():
            return
        page = self.server.page(urlsplit(self.path).path)
        if page is None:
            self._answer(HTTPStatus.NOT_FOUND, "There is no such page; pages of earlier songs are not kept.")
        else:
            self._answer(HTTPStatus.OK, page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        if not self._is_for_us():
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/song" or not length.isdecimal() or not int(length):
            self._answer(HTTPStatus.BAD_REQUEST, "A song is the body of a request to /song.")
        elif int(length) > self.server.max_bytes:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"More than {self.server.max_bytes / 1e6:g} MB.")
        elif not self.server.free.acquire(blocking=False):
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "Other songs are being tagged; try again in a moment.")
        else:
            try:
                answer = self._analyse(int(length), printable(unquote(self.headers.get("X-Name", "song")))[:200])
            finally:
                self.server.free.release()
            if answer is not None:
                self._answer(*answer)

    def _analyse(self, length: int, name: str) -> tuple[HTTPStatus, str] | tuple[HTTPStatus, str, str] | None:
        """What to answer; None if the browser has gone."""
        with tempfile.TemporaryDirectory(prefix="musictag-") as folder:
            path = Path(folder, "song")  # never a name from outside
            with path.open("wb") as file:
                while length and (block := self.rfile.read(min(length, _BLOCK))):
                    file.write(block)
                    length -= len(block)
            if length:
                self.close_connection = True
                return None
            try:
                key = self.server.analyse(path, name)
            except TooLong:
                return HTTPStatus.UNPROCESSABLE_ENTITY, f"Longer than {self.server.minutes:g} minutes."
            except (MusictagError, SongError) as error:
                return HTTPStatus.UNPROCESSABLE_ENTITY, printable(error).replace(str(path), name)
        return HTTPStatus.CREATED, json.dumps({"page": f"/song/{key}"}), "application/json"

    def _is_for_us(self) -> bool:
        hosts, origin = self.server.hosts, self.headers.get("Origin")
        host = self.headers.get("Host", "")
        if (hosts and host not in hosts) or (origin is not None and urlsplit(origin).netloc != host):
            self._answer(HTTPStatus.FORBIDDEN, "Open this page by the address that was printed.")
            return False
        return True

    def _answer(self, status: HTTPStatus, text: str, kind: str = "text/plain; charset=utf-8") -> None:
        content = text.encode()
        self.send_response(status)
        for header, value in (
            ("Content-Type", kind), ("Content-Length", str(len(content))), ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"),
        ):  # fmt: skip
            self.send_header(header, value)
        if status >= HTTPStatus.BAD_REQUEST:
            self.close_connection = True  # what is left of a body is not read
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Names of songs are nobody's business."""


def _rendered(page: str, script: str = "", **values: object) -> str:
    policy = content_policy(_STYLE, script, "; connect-src 'self'; frame-src 'self'")
    values |= {"policy": policy, "style": _STYLE, "script": script, "title": "musictag"}
    return Environment(autoescape=True).from_string(page).render(values)


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #2b2b2b; max-width: 75rem; margin: 1.5rem auto; padding: 0 1rem }
#drop { border: 2px dashed #9ab; border-radius: .6rem; padding: 3rem 1rem; text-align: center }
#drop.over { background: #eef4f9 }
button, input { font: inherit }
.models { display: flex; flex-wrap: wrap; gap: 1rem }
.models section { flex: 1 1 30rem }
iframe { width: 100%; height: 60rem; border: 0 }
"""

_SCRIPT = """
"use strict";
const drop = document.getElementById("drop"), file = document.getElementById("file");
const record = document.getElementById("record"), said = document.getElementById("said");
async function send(song, name) {
  said.textContent = `${name}: listening ...`;
  try {
    const headers = { "X-Name": encodeURIComponent(name) };
    const answer = await fetch("/song", { method: "POST", body: song, headers });
    if (answer.status === 201) location.href = (await answer.json()).page;
    else said.textContent = `${name}: ${await answer.text()}`;
  } catch (error) {
    said.textContent = `${name}: too large, or the server has ended`;
  }
}
file.addEventListener("change", () => file.files.length && send(file.files[0], file.files[0].name));
drop.addEventListener("dragover", event => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", event => {
  event.preventDefault();
  drop.classList.remove("over");
  const song = event.dataTransfer.files[0];
  if (song) send(song, song.name);
});
let recorder = null;
record.addEventListener("click", async () => {
  if (recorder) return recorder.stop();
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true }), parts = [];
    recorder = new MediaRecorder(stream);
    recorder.ondataavailable = event => parts.push(event.data);
    recorder.onstop = () => {
      stream.getTracks().forEach(track => track.stop());
      recorder = null;
      record.textContent = "Record";
      send(new Blob(parts), "recording");
    };
    recorder.start();
    record.textContent = "Stop";
  } catch (error) {
    said.textContent = `No microphone: ${error.message}`;
  }
});
"""

_START = (
    PAGE_HEAD
    + """<body>
<h1>musictag</h1>
<p>{{ models | join(", ") }}</p>
<div id="drop">
<p><label>Drop a song here, or choose one: <input id="file" type="file" accept="audio/*,video/*"></label></p>
<p><button id="record" type="button">Record</button></p>
<p><small>{{ limits }}; no file is kept.</small></p>
</div>
<p id="said" role="status"></p>
<script>{{ script | safe }}</script>
</body>
</html>
"""
)

_SEVERAL = (
    PAGE_HEAD
    + """<body>
<div class="models">
{%- for model in models %}
<section><h2>{{ model }}</h2><iframe title="{{ model }}" src="/song/{{ key }}/{{ loop.index0 }}"></iframe></section>
{%- endfor %}
</div>
</body>
</html>
"""
)
