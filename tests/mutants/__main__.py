"""`python -m tests.mutants [WORDS ...]`: put in every fault, one after the other, and see whether a test fails.

Each worker has a copy of the tree in a temporary folder, in which it puts a fault in, runs the fault's tests, and takes
it out again; the working tree is never touched. The exit status is 1 where a fault survives, or cannot be tried.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from py_compile import PycInvalidationMode
from queue import Queue
from typing import NamedTuple

from tests.mutants.faults import Fault, all_faults, mutated, problems

ROOT = Path(__file__).resolve().parents[2]
#: What tests need of the repository.
COPIED = ("musictag", "conf", "sweep", "tests", "docs", "train.py", "pyproject.toml", "README.md", "Makefile")
#: What nearly all tests import, in the order of what it takes.
SLOW = (
    "torch", "torchaudio", "torchmetrics", "pytorch_lightning", "pytorch_lightning.loggers", "scipy.signal", "pytest",
    "matplotlib.figure", "hydra", "rich.console", "jinja2", "pyarrow.parquet", "pyarrow.compute", "pyarrow.csv",
)  # fmt: skip
KILLED, SURVIVED, ERROR = "killed", "SURVIVED", "error"
_SHOWN = 8_000  # characters of what pytest says of a survivor


class Result(NamedTuple):
    """``status``: KILLED, SURVIVED or ERROR (the tests could not say); ``words``: what pytest said."""

    fault: Fault
    status: str
    seconds: float
    words: str


class Tree:
    """A copy of what tests need of the repository at ``root``, in ``folder``/tree, and a process that runs tests in it.

    A context. Byte code is compiled here, and goes by the source's hash: by time and size, as it usually does, a fault
    of the same length that was put in and taken out within a second would stay.
    """

    def __init__(self, root: Path, folder: Path, imported: Sequence[str] = SLOW) -> None:
        self.folder = folder / "tree"
        self._imported = imported
        self._words, self._temporary = folder / "words.txt", folder / "tmp"
        self.folder.mkdir(parents=True)
        for name in COPIED:
            if (root / name).is_dir():
                shutil.copytree(root / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif (root / name).exists():
                shutil.copy2(root / name, self.folder / name)
        compileall.compile_dir(self.folder, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)

    def __enter__(self) -> Tree:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("COV_", "COVERAGE", "PYTEST"))}
        # wherever this musictag is installed, the copy's is imported, and so it is by the runs that tests start
        own = {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        own["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        command = [sys.executable, str(Path(__file__).with_name("forks.py")), *self._imported]
        self._process = subprocess.Popen(
            command, cwd=self.folder, env=kept | own, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def run(self, tests: Sequence[str], seconds: float, *more: str) -> tuple[int | None, str]:
        """pytest's exit status (None: it took longer than ``seconds``) and its words."""
        # asserts as they are compiled: what they would say more takes longer than most tests
        arguments = ["-q", "--no-header", "--assert=plain", "-p", "no:cacheprovider", f"--basetemp={self._temporary}"]
        arguments += [*more, *tests]
        request = {"arguments": arguments, "words": str(self._words), "seconds": seconds}
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            while (answer := self._process.stdout.readline()) == "ready\n":
                pass
            return json.loads(answer), self._words.read_text(encoding="utf-8", errors="replace")
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def attempt(self, fault: Fault, seconds: float) -> Result:
        """Puts ``fault`` in, runs its tests, and takes it out again."""
        path = self.folder / fault.file
        text = path.read_text(encoding="utf-8")
        began = time.monotonic()
        path.write_text(mutated(text, fault), encoding="utf-8")
        try:
            status, words = self.run(fault.test_ids, seconds, "-x")
        finally:
            path.write_text(text, encoding="utf-8")
        took = time.monotonic() - began
        if status == 1:  # tests have run, and one has failed
            return Result(fault, KILLED, took, words)
        if status == 0:
            return Result(fault, SURVIVED, took, words)
        why = f"longer than {seconds:.0f} s" if status is None else f"pytest ended with status {status}"
        return Result(fault, ERROR, took, f"{words}\n{why}")

    def useless(self, tests: Sequence[str], seconds: float) -> list[str]:
        """The tests that fail, or are skipped, while the code is as it is: they can notice nothing."""
        report = self._words.with_suffix(".xml")
        status, words = self.run(tests, seconds, f"--junitxml={report}")
        if status not in (0, 1):
            return [words[-_SHOWN:]]
        found = []
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            wrong = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
            if wrong:
                found.append(f"{case.get('classname')}::{case.get('name')}: {wrong[0]} without any fault")
        return found


def chosen(faults: Sequence[Fault], words: Sequence[str]) -> list[Fault]:
    """The faults whose description, file or tests hold one of the words; all without words."""
    if not words:
        return list(faults)
    return [fault for fault in faults if any(word.lower() in " ".join(fault).lower() for word in words)]


def try_all(
    root: Path, faults: Sequence[Fault], jobs: int, seconds: float, check_first: bool = True,
    imported: Sequence[str] = SLOW,
) -> list[Result]:  # fmt: skip
    """Every fault in a copy of ``root``, ``jobs`` at a time; says how each one went. ``imported``: what is imported
    once for all of them.

    Raises SystemExit where the tests do not pass without any fault.
    """
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants-"))
        trees = [stack.enter_context(Tree(root, Path(place, str(number)), imported)) for number in range(jobs)]
        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        if check_first:
            began = time.monotonic()
            tests = sorted({test for fault in faults for test in fault.test_ids})
            # neighbours often share what takes long
            shares = [tests[len(tests) * i // jobs : len(tests) * (i + 1) // jobs] for i in range(jobs)]
            checks = [
                pool.submit(tree.useless, share, 3600) for tree, share in zip(trees, shares, strict=True) if share
            ]
            if wrong := [line for check in checks for line in check.result()]:
                raise SystemExit("\n".join(["these tests can notice nothing:", *wrong]))
            print(f"all {len(tests)} tests pass without faults ({time.monotonic() - began:.0f} s)", flush=True)
        free: Queue[Tree] = Queue()
        for tree in trees:
            free.put(tree)

        def work(fault: Fault) -> Result:
            tree = free.get()
            try:
                return tree.attempt(fault, seconds)
            finally:
                free.put(tree)

        results = []
        for future in as_completed([pool.submit(work, fault) for fault in faults]):
            result = future.result()
            results.append(result)
            print(f"{result.status:8}  {result.seconds:5.1f} s  {result.fault.file}: {result.fault.what}", flush=True)
        return results


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").partition("\n")[2])
    parser.add_argument("words", nargs="*", help="only faults whose description, file or tests hold one of these")
    parser.add_argument("--jobs", type=int, default=min(8, os.cpu_count() or 1), help="faults at a time")
    parser.add_argument("--seconds", type=float, default=180, help="time that the tests of a fault may take")
    parser.add_argument("--list", action="store_true", help="print the faults and stop")
    parser.add_argument("--unchecked", action="store_true", help="do not run the tests without faults first")
    options = parser.parse_args(words)
    faults = all_faults()
    if wrong := problems(ROOT, faults):
        print("\n".join(wrong), file=sys.stderr)
        return 1
    faults = chosen(faults, options.words)
    if options.list or not faults:
        print("\n".join(f"{fault.file}: {fault.what}" for fault in faults) or "no fault is like that")
        return 0 if faults else 1
    began = time.monotonic()
    results = try_all(ROOT, faults, options.jobs, options.seconds, not options.unchecked)
    for result in results:
        if result.status != KILLED:
            print(f"\n--- {result.status}: {result.fault.what}\n{result.words[-_SHOWN:]}")
    counts = Counter(result.status for result in results)
    print(
        f"\n{len(results)} faults: {counts[KILLED]} killed, {counts[SURVIVED]} survived, {counts[ERROR]} could not be "
        f"tried ({time.monotonic() - began:.0f} s)"
    )
    return 0 if counts[KILLED] == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
