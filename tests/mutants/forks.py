"""pytest again and again without importing torch and Lightning each time: this program has them, and forks.

Run as a program, with a copy of the tree as its working folder; its arguments are the modules that it imports first. It
says "ready", and then for each line of JSON on its standard input, {"arguments": pytest's, "words": a file for what it
prints, "seconds": at most}, one line: pytest's exit status, or null where it took longer. Nothing of musictag or its
tests is imported before a fork.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import time
from contextlib import suppress


def run(arguments: list[str], words: str) -> int:
    """In the fork: pytest, with its words in a file."""
    import pytest

    os.setsid()
    sink = os.open(words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (sink, 1), (sink, 2)):
        os.dup2(descriptor, target)
    return int(pytest.main(arguments))


def wait(process: int, seconds: float) -> int | None:
    """The status of the fork. It and all that it has started end with it, after ``seconds``, and with this program or
    the one that started it."""
    deadline, parent = time.monotonic() + seconds, os.getppid()
    done, status = 0, 0
    try:
        while not done and time.monotonic() < deadline and os.getppid() == parent:
            time.sleep(0.02)
            done, status = os.waitpid(process, os.WNOHANG)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
    if not done:
        os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status) if done else None


def main() -> int:
    for name in sys.argv[1:]:
        importlib.import_module(name)
    gc.freeze()  # pytest collects garbage several times, of which there is none in these
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        process = os.fork()
        if not process:
            status = run(request["arguments"], request["words"])
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(status)  # some libraries abort at the end because threads of before the fork are not there
        print(json.dumps(wait(process, request["seconds"])), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
