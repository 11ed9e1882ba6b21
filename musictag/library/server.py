"""A page on this machine: drop a song or record one, and see and hear what taggers make of it."""

from __future__ import annotations

import json
import secrets
import socket
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np

from musictag.common.errors import MusictagError, SongError
from musictag.common.text import printable
from musictag.data.audio.decode import source_blocks
from musictag.inference.tagger import Tagger
from musictag.library.taggram import hear, render_page, taggram_page

if TYPE_CHECKING:
    from musictag.library.truth import Truth

_AT_ONCE, _KEPT = 2, 8  # songs that are worked on, and whose pages are kept
_TOP, _HOP_SECONDS = 10, 1.0
_SOCKET_SECONDS, _UPLOAD_SECONDS = 30, 300  # without a byte from the browser, and for all of a song
_BLOCK = 2**16


class TooLong(Exception):
    """A song has more seconds than allowed."""


class Demo(ThreadingHTTPServer):
    """Serves ``taggers``, by name, at ``address`` (host, port; port 0: a free one).

    Songs of more than ``megabytes`` or ``minutes`` are refused. They are kept in a temporary file while they are read;
    the pages of the last ones are in memory, under names that cannot be guessed. Only requests that name this host are
    answered, so that no other web page can reach it through the browser. With ``truth``, what is known about a song is
    shown, too. Raises OSError if the address is taken.
    """

    daemon_threads = True

    def __init__(
        self,
        taggers: Mapping[str, Tagger],
        address: tuple[str, int],
        megabytes: float = 100,
        minutes: float = 15,
        truth: Truth | None = None,
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)
        self.taggers, self.minutes, self.max_bytes, self.truth = taggers, minutes, int(megabytes * 1e6), truth
        self.free = BoundedSemaphore(_AT_ONCE)
        self._pages: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    def analyse(self, path: Path, name: str) -> str:
        """Make the page of a song; returns its path. Raises TooLong, and SongError or MusictagError for no song."""
        audio: dict[float, np.ndarray] = {}
        models = {}
        for model, tagger in self.taggers.items():
            if tagger.sample_rate not in audio:
                audio[tagger.sample_rate] = self._read(path, int(tagger.sample_rate))
            models[model] = hear(tagger, audio[tagger.sample_rate], _TOP, _HOP_SECONDS)
        page = taggram_page(name, models, self.truth and self.truth.of(str(path), name), home="/")
        key = f"/song/{secrets.token_urlsafe(16)}"
        with self._lock:
            self._pages[key] = page
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
        if path == "/":
            limits = f"at most {self.max_bytes / 1e6:g} MB and {self.minutes:g} minutes"
            return render_page(_START, _SCRIPT, "musictag", True, models=list(self.taggers), limits=limits)
        with self._lock:
            return self._pages.get(path)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser may hang up at any time, which is no error here."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Demo
    timeout = _SOCKET_SECONDS
    server_version, sys_version = "musictag", ""

    def parse_request(self) -> bool:
        """Whether there is more to do: only if the page was opened by an address of this machine; where others may come
        in, by any."""
        if not super().parse_request():
            return False
        mine, port = self.server.server_address[:2]
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        local = [f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")]
        from_here = mine not in ("127.0.0.1", "::1") or host in local
        if from_here and (origin is None or urlsplit(origin).netloc == host):
            return True
        self._answer(HTTPStatus.FORBIDDEN, "Open this page by the address that was printed.")
        return False

    def do_GET(self) -> None:
        page = self.server.page(urlsplit(self.path).path)
        if page is None:
            self._answer(HTTPStatus.NOT_FOUND, "There is no such page; pages of earlier songs are not kept.")
        else:
            self._answer(HTTPStatus.OK, page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
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
        """What to answer; None if the browser has gone, or sends too slowly."""
        end = time.monotonic() + _UPLOAD_SECONDS
        with tempfile.TemporaryDirectory(prefix="musictag-") as folder:
            path = Path(folder, "song")  # never a name from outside
            try:
                with path.open("wb") as file:
                    while length and time.monotonic() < end and (block := self.rfile.read1(min(length, _BLOCK))):
                        file.write(block)
                        length -= len(block)
                if length:
                    return None
                page = self.server.analyse(path, name)
            except ConnectionError:
                return None
            except OSError as error:  # such as a full disk
                return HTTPStatus.INSUFFICIENT_STORAGE, f"The song cannot be kept here: {error.strerror or error}."
            except TooLong:
                return HTTPStatus.UNPROCESSABLE_ENTITY, f"Longer than {self.server.minutes:g} minutes."
            except (MusictagError, SongError) as error:
                return HTTPStatus.UNPROCESSABLE_ENTITY, printable(error).replace(str(path), name)
        return HTTPStatus.CREATED, json.dumps({"page": page}), "application/json"

    def _answer(self, status: HTTPStatus, text: str, kind: str = "text/plain; charset=utf-8") -> None:
        content = text.encode()
        self.send_response(status)
        for header, value in (
            ("Content-Type", kind), ("Content-Length", str(len(content))), ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"),
        ):  # fmt: skip
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Names of songs are nobody's business."""


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

_START = """
<h1>musictag</h1>
<p>{{ models | join(", ") }}</p>
<div id="drop">
<p><label>Drop a song here, or choose one: <input id="file" type="file" accept="audio/*,video/*"></label></p>
<p><button id="record" type="button">Record</button></p>
<p><small>{{ limits }}; no file is kept.</small></p>
</div>
<p id="said" role="status"></p>
"""
