"""File writes are atomic."""

from __future__ import annotations

import json
import multiprocessing
import resource
from pathlib import Path

import pytest

from musictag.common.errors import MusictagError
from musictag.common.files import atomic_write, write_json


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with atomic_write(path, "w") as file:
        file.write("old")
    with pytest.raises(TypeError), atomic_write(path, "w") as file:
        file.write("new" + file)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def _write_beyond_the_limit(path: Path, queue: multiprocessing.Queue) -> None:
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        with atomic_write(path) as file:
            file.write(b"x" * 200_000)
    except MusictagError as error:
        queue.put(str(error))


def test_a_full_disk_is_a_clear_message_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_write_beyond_the_limit, args=(path, queue))
    process.start()
    message = queue.get(timeout=60)
    process.join()
    assert "no room to write" in message
    assert str(path) in message
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, None]}
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()
