"""`musictag serve`: songs become pages, and nothing else gets in or stays."""

from __future__ import annotations

import errno
import http.client
import json
import re
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import soundfile

from musictag import cli, load
from musictag.library.server import Demo
from tests.helpers.embeddings import make_network, save, write_song


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Demo]:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    tagger = load(save(tmp_path / "tagger.safetensors", make_network()))
    demo = Demo({"one": tagger, "<two>": tagger}, ("127.0.0.1", 0), megabytes=0.2, minutes=0.05)
    thread = Thread(target=demo.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield demo
    demo.shutdown()
    thread.join()
    demo.server_close()
    assert not list((tmp_path / "temporary").iterdir())


def ask(demo: Demo, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(*demo.server_address[:2], timeout=30)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_a_song_becomes_a_page_for_each_model(demo: Demo, tmp_path: Path) -> None:
    status, start = ask(demo, "GET", "/")
    assert status == 200
    assert "one, &lt;two&gt;" in start
    assert "at most 0.2 MB and 0.05 minutes" in start
    song = Path(write_song(tmp_path / "x.wav", 1.5)).read_bytes()
    status, text = ask(demo, "POST", "/song", song, X_Name="%3Cb%3E%2F..%2Fsong.wav")
    assert status == 201
    page = json.loads(text)["page"]
    status, text = ask(demo, "GET", page)
    assert status == 200
    assert "<h1>&lt;b&gt;/../song.wav</h1>" in text
    assert re.findall("<h2>(.*?)</h2>", text) == ["one", "&lt;two&gt;"]
    assert text.count(">violin</th>") == 2
    assert 'id="truth"' not in text
    for _ in range(8):  # the pages of the last songs are kept
        assert ask(demo, "POST", "/song", song)[0] == 201
    assert ask(demo, "GET", page)[0] == 404


@pytest.mark.parametrize("path", ["/../../etc/passwd", "/song/x", "/song/..%2f..%2fetc/0", "//etc/passwd", "/song"])
def test_no_other_page(demo: Demo, path: str) -> None:
    assert ask(demo, "GET", path)[0] == 404


def test_what_is_refused(demo: Demo, tmp_path: Path) -> None:
    assert ask(demo, "POST", "/song", b"no song")[0] == 422
    assert ask(demo, "POST", "/song", b"") == (400, "A song is the body of a request to /song.")
    assert ask(demo, "POST", "/other", b"x")[0] == 400
    status, told = ask(demo, "POST", "/song", Content_Length="300000")
    assert (status, told) == (413, "More than 0.2 MB.")
    long = Path(write_song(tmp_path / "long.wav", 4.0)).read_bytes()
    assert ask(demo, "POST", "/song", long) == (422, "Longer than 0.05 minutes.")
    status, told = ask(demo, "POST", "/song", b"RIFF" + bytes(1000), X_Name="x.wav")
    assert status == 422
    assert str(tmp_path) not in told


def test_a_disk_without_room_is_told(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(Demo, "analyse", full)
        assert ask(demo, "POST", "/song", b"x") == (507, "The song cannot be kept here: No space left on device.")
    assert ask(demo, "POST", "/song", b"x")[0] == 422


@pytest.mark.parametrize(
    "content",
    [
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"<svg onload=alert(1)>",
        b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\1\0\xff\xff\xff\xff\xff\xff" + bytes(64),
        b"fLaC" + b"\xff" * 500,
        b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(500),
    ],
    ids=["concat", "hls", "svg", "riff", "flac", "id3"],
)
def test_hostile_files(demo: Demo, content: bytes) -> None:
    status, told = ask(demo, "POST", "/song", content, X_Name="..%2F..%2F%00x.wav")
    assert status == 422
    assert "root:" not in told


def test_an_hour_of_silence_in_a_small_file(demo: Demo, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.flac", np.zeros((4_000_000, 1), np.int16), 1000)
    content = (tmp_path / "x.flac").read_bytes()
    assert len(content) < 200_000
    assert ask(demo, "POST", "/song", content) == (422, "Longer than 0.05 minutes.")


def test_a_browser_that_hangs_up_or_dawdles(
    demo: Demo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("musictag.library.server._UPLOAD_SECONDS", 0.2)
    for wait, sent in ((False, b""), (True, b"x" * 10)):
        with socket.create_connection(demo.server_address[:2]) as connection:
            head = f"POST /song HTTP/1.0\r\nHost: localhost:{demo.server_address[1]}\r\nContent-Length: 1000\r\n\r\n"
            connection.sendall(head.encode())
            for byte in sent:
                with suppress(OSError):
                    connection.sendall(bytes([byte]))
                time.sleep(0.05)
            if wait:  # the server has closed it, though there is more to come
                connection.settimeout(5)
                with suppress(ConnectionResetError):
                    assert connection.recv(100) == b""
            else:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    for _ in range(2):  # nobody occupies a place
        assert demo.free.acquire(timeout=10)
    demo.free.release(2)
    assert "Traceback" not in capsys.readouterr().err


def test_other_pages_cannot_reach_it_through_the_browser(demo: Demo) -> None:
    port = demo.server_address[1]
    for headers in ({"Host": "evil.example"}, {"Host": f"127.0.0.1:{port}", "Origin": "http://evil.example"}):
        assert ask(demo, "GET", "/", **headers)[0] == 403
        assert ask(demo, "POST", "/song", b"x", **headers)[0] == 403
    assert ask(demo, "GET", "/", Host=f"localhost:{port}")[0] == 200


def test_more_songs_at_once_than_it_can_take(demo: Demo) -> None:
    while demo.free.acquire(blocking=False):
        pass
    assert ask(demo, "POST", "/song", b"x")[0] == 503
    demo.free.release()
    assert ask(demo, "POST", "/song", b"x")[0] == 422  # and it is free again afterwards
    assert ask(demo, "POST", "/song", b"x")[0] == 422


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--port", "70000"], "cannot be used"),
        (["--host", "203.0.113.1", "--port", "0"], "cannot be used"),
        (["--megabytes", "nan"], "--megabytes nan must be positive"),
        (["--beside", "{model}"], "two models are called"),
        (["--beside", "{folder}"], "a baseline hears whole songs"),
    ],
)
def test_what_cannot_be_served(words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model = save(tmp_path / "a" / "x.safetensors", make_network())
    (tmp_path / "gbt-1").mkdir()
    (tmp_path / "gbt-1" / "model.json").write_text("{}")
    words = [word.format(model=model, folder=tmp_path / "gbt-1") for word in words]
    assert cli.main(["serve", "--model", model, *words]) == 1
    assert told in capsys.readouterr().err
