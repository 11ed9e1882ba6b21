"""Fault injection: processes killed at a chosen step, disks that fill up, weights that become NaN.

``Lab`` keeps a process with the libraries loaded and forks a new one for every command, so that a run that is started
twenty times does not load them twenty times. The command is the real one: train.py with its usual overrides. With
``Lab(mounts=True)`` it has private mounts that end with it. All tests that need none use ``shared_lab()``.
"""

from __future__ import annotations

import atexit
import importlib
import io
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from tests.helpers.experiments import ROOT
from tests.helpers.mounts import own_mounts

#: Modules that runs need, loaded once.
LOADED = (
    "matplotlib.pyplot", "torch", "torchaudio", "pytorch_lightning", "hydra", "musictag.experiment.run",
    "musictag.experiment.sweeps.jobs", "musictag.experiment.results.console", "musictag.inference.feature_tagger",
)  # fmt: skip
#: Steps of writing a file, in order, at which a failure can be injected (musictag/common/files.py).
STEPS = ("opening", "half written", "written", "renamed")
GIVE_UP_SECONDS = 300.0


class Started:
    """A running command, the leader of a process group. ``said`` contains its output; after ``start(apart=True)``
    without ``stderr``."""

    def __init__(self, lab: Lab, pid: int, logs: tuple[Path, Path]) -> None:
        self._lab, self.pid, self._logs = lab, pid, logs
        self._status: int | None = None

    @property
    def stdout(self) -> str:
        return self._logs[0].read_text(encoding="utf-8", errors="replace")

    @property
    def stderr(self) -> str:
        return self._logs[1].read_text(encoding="utf-8", errors="replace")

    said = stdout

    def kill(self) -> int:
        """kill -9 for all its processes; returns its status, as it may have ended by itself just before."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self) -> int:
        """The exit status, negative for a signal."""
        if self._status is None:
            self._status = int(self._lab._answer())
        return self._status

    def children(self) -> list[int]:
        """The other processes of its group."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:  # has ended
                continue
            if int(fields[2]) == self.pid != int(stat.parent.name) and fields[0] != "Z":
                found.append(int(stat.parent.name))
        return found


class Lab:
    """Starts commands one after the other; two labs run theirs in parallel."""

    def __init__(self, folder: Path, *, mounts: bool = False, environment: dict[str, str | None] | None = None) -> None:
        """``environment``: variables to set, or to unset (None)."""
        changed = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "140", **(environment or {})}
        self._environment = {name: value for name, value in changed.items() if value is not None}
        self._folder, self._numbers, self._started = folder, count(), None
        command = [sys.executable, "-m", "tests.helpers.failures"]
        self._process = subprocess.Popen(
            [*(own_mounts() if mounts else []), *command],
            cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=self._environment,
        )  # fmt: skip
        assert self._answer() == "ready"

    def start(
        self,
        *words: str,
        failure: dict[str, Any] | None = None,
        program: str = "train.py",
        environment: Mapping[str, str] | None = None,
        whole_environment: bool = False,
        apart: bool = False,
        folder: Path = ROOT,
        stdin: str = "",
    ) -> Started:
        """`python train.py WORDS`, or another ``program``: a file, or a module. ``failure``: see ``plan``.

        ``environment`` comes on top of the lab's own, or is the ``whole_environment``.
        """
        if self._started is not None:  # by a test that failed
            self._started.kill()
        number = next(self._numbers)
        logs = [self._folder / f"log-{number}.txt", self._folder / f"{'errors' if apart else 'log'}-{number}.txt"]
        given = self._folder / f"input-{number}.txt"
        given.write_text(stdin)
        pid = self._ask(
            program=program, words=words, failure=failure, files=list(map(str, (given, *logs))), folder=str(folder),
            environment={**({} if whole_environment else self._environment), **(environment or {})},
        )  # fmt: skip
        self._started = Started(self, int(pid), tuple(logs))
        return self._started

    def run(self, *words: str, **settings: Any) -> tuple[int, str]:
        """The exit status of a command, and its output."""
        started = self.start(*words, **settings)
        return started.wait(), started.said

    def mount(self, folder: Path, megabytes: float) -> Disk:
        """A small disk at ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        disk = Disk(self, folder, Path(f"/proc/{self._process.pid}/root{folder}"))
        self.shell("mount", "-t", "tmpfs", "-o", f"size={round(megabytes * 1024)}k", "small", str(folder))
        return disk

    def shell(self, *words: str) -> None:
        """Run a command in the lab's mount namespace."""
        said = self._ask(shell=words)
        assert said == "done", said

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _ask(self, **order: Any) -> str:
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        return self._process.stdout.readline().strip()


class Disk:
    """A disk of a few megabytes. ``folder`` is its path for commands, ``seen`` its path for the test."""

    def __init__(self, lab: Lab, folder: Path, seen: Path) -> None:
        self._lab, self.folder, self.seen = lab, folder, seen

    def resize(self, megabytes: float) -> None:
        self._lab.shell("mount", "-o", f"remount,size={round(megabytes * 1024)}k", str(self.folder))

    def protect(self, read_only: bool) -> None:
        self._lab.shell("mount", "-o", f"remount,{'ro' if read_only else 'rw'}", str(self.folder))


# the code below runs in the process that starts the others


def serve() -> None:
    """Reads requests, one per line; starts the command, prints its process id and, when it ends, its status."""
    for name in LOADED:
        importlib.import_module(name)
    _warm_up()
    print("ready", flush=True)
    while line := sys.stdin.readline():
        order = json.loads(line)
        if "shell" in order:
            done = subprocess.run(order["shell"], capture_output=True, text=True)
            print("done" if done.returncode == 0 else repr(done.stderr), flush=True)
            continue
        pid = os.fork()
        if not pid:
            _become(**order)
            return
        os.setpgid(pid, pid)  # here, too: the group may be killed as soon as its id is known
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _warm_up() -> None:
    """One-off work that every command would repeat: Hydra's search for plugins, matplotlib's for fonts."""
    from hydra.core.plugins import Plugins
    from matplotlib.figure import Figure

    Plugins.instance()
    figure = Figure(layout="constrained")
    figure.add_subplot(title="0.5", xlabel="epoch", ylabel="bold")
    figure.savefig(io.BytesIO())


def _become(
    program: str,
    words: list[str],
    failure: dict[str, Any] | None,
    files: list[str],
    folder: str,
    environment: dict[str, str],
) -> None:
    os.setpgid(0, 0)
    os.chdir(folder)
    began_with = os.environ.get("PYTHONPATH")
    os.environ.clear()
    os.environ.update(environment)
    for number, (file, way) in enumerate(zip(files, ("rb", "ab", "ab"), strict=True)):
        with open(file, way) as opened:
            os.dup2(opened.fileno(), number)
    signal.alarm(round(GIVE_UP_SECONDS))  # ends a process that hangs, which its status shows
    path = environment.get("PYTHONPATH")
    if path != began_with and path and Path(path, "sitecustomize.py").is_file():
        runpy.run_path(str(Path(path, "sitecustomize.py")))  # as Python does at its start
    if failure:
        plan(**failure)
    sys.argv = [str(ROOT / program) if program.endswith(".py") else program, *words]
    if program.endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def plan(do: str, **where: Any) -> None:
    """Plan a failure in this process. ``do``: kill | poison (the weights) | fill or protect (a disk).

    At a step of writing: ``file`` (its name), ``step`` (of STEPS), ``nth`` (the first is 1). At a step of training:
    ``call`` (a method of TaggingModule), ``nth``. From the beginning: limit (the number of open ``files``).
    """
    if do == "limit":
        import resource  # which Windows does not have

        resource.setrlimit(resource.RLIMIT_NOFILE, (where["files"], where["files"]))
        return
    protect = ("mount", "-o", "remount,ro", where.get("folder", ""))
    acts = {
        "kill": _kill,
        "poison": _poison,
        "fill": lambda *_: _fill(Path(where["folder"])),
        "protect": lambda *_: subprocess.run(protect, check=True),
    }
    if "call" in where:
        _at_call(where["call"], where["nth"], acts[do])
    else:
        _at_writing(where["file"], where["step"], where["nth"], acts[do])


def _kill(*_: Any) -> None:
    os.killpg(0, signal.SIGKILL)


def _poison(module: Any, *_: Any) -> None:
    next(module.parameters()).data.fill_(float("nan"))


def _fill(folder: Path) -> None:
    """Fills the disk completely."""
    with open(folder / "filler", "ab", buffering=0) as file:
        for size in (2**16, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def _at_call(name: str, nth: int, act: Callable[..., None]) -> None:
    from musictag.training.module import TaggingModule

    numbers, method = count(1), getattr(TaggingModule, name)

    def step(*args: Any, **settings: Any) -> Any:
        if next(numbers) == nth:
            act(*args)
        return method(*args, **settings)

    setattr(TaggingModule, name, step)


def _at_writing(name: str, step: str, nth: int, act: Callable[..., None]) -> None:
    """The steps are those of atomic writes: a temporary file is opened next to the target, flushed, renamed."""
    numbers, sync, replace = count(1), os.fsync, os.replace

    def arrived(path: str) -> bool:
        found = Path(path).name
        return (found == name or (found.startswith(f".{name}.") and found.endswith(".part"))) and next(numbers) == nth

    def audit(event: str, args: tuple) -> None:
        if event == "open" and isinstance(args[0], str) and args[0].endswith(".part") and arrived(args[0]):
            act()

    def fsync(descriptor: int) -> None:
        if arrived(os.readlink(f"/proc/self/fd/{descriptor}")):
            if step == "half written":
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            act()
        sync(descriptor)

    def rename(source: Any, target: Any) -> None:
        replace(source, target)
        if arrived(os.fspath(target)):
            act()

    if step == "opening":
        sys.addaudithook(audit)
    elif step == "renamed":
        os.replace = rename
    else:
        os.fsync = fsync


@contextmanager
def labs(folder: Path, number: int = 1, **settings: Any) -> Iterator[list[Lab]]:
    """``number`` labs at once, closed afterwards."""
    opened = [Lab(folder / f"lab-{i}", **settings) for i in range(number) if not (folder / f"lab-{i}").mkdir()]
    try:
        yield opened
    finally:
        for lab in opened:
            lab.close()


@cache
def shared_lab() -> Lab:
    """One for all tests of this process, for as long as that lives."""
    folder = Path(tempfile.mkdtemp(prefix="musictag-lab-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Lab(folder)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.002)


if __name__ == "__main__":
    serve()
