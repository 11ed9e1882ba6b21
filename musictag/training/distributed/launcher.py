"""DDP on one machine with a process monitor: if one process dies, the others end soon after it.

A process that waits in a collective operation for a dead one may wait until its timeout. torchrun and Slurm (with
SLURM_KILL_BAD_EXIT) take care of that. Lightning's own process monitor kills all processes silently, also rank 0, which
may still be saving, and it does not notice the death of rank 0.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from musictag.common.processes import KILL

_POLL_SECONDS = 0.5
#: For rank 0, which usually notices the death of another process by itself and then ends properly.
_GRACE_SECONDS = 10.0


class WatchedDDP(DDPStrategy):
    """Lightning's DDP, in which no process survives the death of another one by more than some seconds.

    ``on_death`` is called with the reason before this process ends itself. The settings are those of Lightning's
    DDPStrategy and of torch's DistributedDataParallel.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.on_death: Callable[[str], None] = lambda reason: None

    def _configure_launcher(self) -> None:  # Lightning has no public way to choose the launcher
        self._launcher = _WatchingLauncher(self, self.cluster_environment, self.num_processes, self.num_nodes)


class _WatchingLauncher(_SubprocessScriptLauncher):
    def __init__(self, strategy: WatchedDDP, *settings: Any) -> None:
        super().__init__(*settings)
        self._strategy = strategy
        self._is_watched = self._has_killed = False
        #: The processes that this one has started. Not in ``procs``, where Lightning's monitor would watch them.
        self.children: list[subprocess.Popen] = []

    def kill(self, signum: int) -> None:
        """Send ``signum`` to the other processes, whose deaths no longer end this one."""
        self._has_killed = True
        for child in self.children:
            child.send_signal(signum)

    def launch(self, function: Callable, *args: Any, **kwargs: Any) -> Any:
        if "MUSICTAG_PARENT" in os.environ and not self._is_watched:
            parent = int(os.environ["MUSICTAG_PARENT"])
            gone = "rank 0 of this run, which started the others, has died"
            self._watch(lambda: None if os.getppid() == parent else gone, 1.0)
        return super().launch(function, *args, **kwargs)

    def _call_children_scripts(self) -> None:
        os.environ["MUSICTAG_PARENT"] = str(os.getpid())
        try:
            super()._call_children_scripts()
        finally:
            del os.environ["MUSICTAG_PARENT"]
        self.children, self.procs = self.procs, []
        self._watch(lambda: dead_process(self.children), _GRACE_SECONDS)

    def _watch(self, trouble: Callable[[], str | None], grace_seconds: float) -> None:
        """End this process ``grace_seconds`` after ``trouble`` returns a reason, even in a collective operation."""
        self._is_watched = True

        def watch() -> None:
            while (reason := trouble()) is None:
                time.sleep(_POLL_SECONDS)
            time.sleep(grace_seconds)
            if self._has_killed:
                return
            self._strategy.on_death(f"{reason}; rerun the command to resume from the last checkpoint")
            print(f"musictag: {reason}: this process ends, too", file=sys.__stderr__, flush=True)
            self.kill(KILL)
            os._exit(1)

        threading.Thread(target=watch, name="watch-processes", daemon=True).start()


def dead_process(processes: list[subprocess.Popen], within_seconds: float = 0.0) -> str | None:
    """How the first failed process ended; None if none has failed ``within_seconds``."""
    give_up = time.monotonic() + within_seconds
    while True:
        for number, process in enumerate(processes, start=1):
            status = process.poll()
            if status:
                how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
                memory = " (perhaps the machine ran out of memory)" if status == -KILL else ""
                return f"rank {number} of this run's {len(processes) + 1} processes {how}{memory}"
        if not processes or time.monotonic() >= give_up:
            return None
        time.sleep(0.05)
