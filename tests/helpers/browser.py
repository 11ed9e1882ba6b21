"""A headless Chromium, told what to do over a pipe (the Chrome DevTools protocol); it needs no package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

#: Seconds after which the browser counts as hung; machines may be slow.
HANGS = 60
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio",
    "--autoplay-policy=no-user-gesture-required", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream", "--remote-debugging-pipe",
)  # fmt: skip
#: Chromium reads commands from file 3 and answers on file 4.
_WITH_PIPES = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3), os.dup2(write, 4), os.execv(sys.argv[3], sys.argv[3:])
"""


class Page:
    """One tab. ``problems`` are exceptions in the page and what its Content-Security-Policy has blocked."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._left, self._number = to, back, b"", 0
        self._session: str | None = None
        self.problems: list[str] = []
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **values: Any) -> dict[str, Any]:
        """The result of a command of the protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": values}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            if answer.get("method") == "Runtime.exceptionThrown":
                self.problems.append(str(answer["params"]["exceptionDetails"]))
            if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
                self.problems.append(answer["params"]["entry"]["text"])
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            if not select.select([self._back], [], [], HANGS)[0] or not (block := os.read(self._back, 2**20)):
                raise RuntimeError("the browser does not answer")
            self._left += block
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)

    def open(self, address: str) -> None:
        """Go to an address."""
        self.command("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript is in the page."""
        answer = self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description", str(answer)))
        return answer["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait until an expression is true; returns it."""
        end = time.monotonic() + HANGS
        while not (found := self.value(expression)):
            assert time.monotonic() < end, f"{expression} stays {found}; the page says: {self.text()}"
            time.sleep(0.05)
        return found

    def text(self) -> str:
        """What can be read in the page."""
        return self.value("document.body.innerText")

    def choose(self, selector: str, path: str) -> None:
        """Give a file to an input."""
        root = self.command("DOM.getDocument")["root"]["nodeId"]
        node = self.command("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.command("DOM.setFileInputFiles", nodeId=node, files=[path])

    def drop(self, selector: str, path: str) -> None:
        """Drop a file onto an element."""
        place = self.middle(selector)
        data = {"items": [], "files": [path], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.command("Input.dispatchDragEvent", type=kind, data=data, **place)

    def click(self, selector: str) -> None:
        """Click into the middle of an element."""
        for kind in ("mousePressed", "mouseReleased"):
            self.command("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **self.middle(selector))

    def middle(self, selector: str) -> dict[str, float]:
        """Where an element is, which is scrolled to."""
        return self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect(); "
            "return {x: b.x + b.width / 2, y: b.y + b.height / 2}; })()"
        )

    def picture(self, path: Path, width: int, height: int) -> None:
        """Save the page as a PNG, laid out for a screen of this size (pixels)."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        shot = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser() -> Iterator[Page]:
    """A tab of a new headless Chromium, without memory of others; skips the test where there is none."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip(f"no {', '.join(_NAMES)} on the PATH (Debian: apt-get install chromium)")
    (their_in, to), (back, their_out) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        words = [sys.executable, "-c", _WITH_PIPES, str(their_in), str(their_out), program, *_OPTIONS]
        running = subprocess.Popen(
            [*words, f"--user-data-dir={folder}"], pass_fds=(their_in, their_out), stderr=subprocess.DEVNULL
        )
        try:
            os.close(their_in)
            os.close(their_out)
            yield Page(to, back)
        finally:
            running.kill()
            running.wait()
            os.close(to)
            os.close(back)
