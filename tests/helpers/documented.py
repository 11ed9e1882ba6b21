"""Runs the commands of a documentation page in a copy of the repository, one after another.

`python -m tests.helpers.documented` reads a JSON list of commands (lists of words) from standard input, and writes what
became of each as a JSON list: exit status and output. The heavy modules are imported once, and every command runs in a
fork of this process.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import tempfile
import traceback
from pathlib import Path


def run(words: list[str]) -> None:
    """What `python FILE`, `python -m MODULE` or `musictag` does with the other words, within this process."""
    if words[0] == "musictag":
        words = ["python", "-m", "musictag.cli", *words[1:]]
    assert words[0] == "python", words
    if words[1] == "-m":
        sys.argv = words[2:]
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words[1:]
        runpy.run_path(words[1], run_name="__main__")


def in_fork(words: list[str]) -> dict[str, object]:
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                run(words)
                status = 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
                if isinstance(end.code, str):
                    print(end.code, file=sys.stderr)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, waited = os.waitpid(child, 0)
        output.seek(0)
        return {"status": os.waitstatus_to_exitcode(waited), "output": output.read().decode(errors="replace")}


if __name__ == "__main__":
    import pytorch_lightning  # noqa: F401

    import musictag.experiment.network_run
    import musictag.experiment.run

    assert Path(musictag.experiment.run.__file__).is_relative_to(Path.cwd())
    json.dump([in_fork(words) for words in json.load(sys.stdin)], sys.stdout)
