"""Several processes on one machine, started by Lightning: none of them survives the death of another by long.

A process that waits in a collective operation for a dead one may wait until its timeout. torchrun and Slurm (with
SLURM_KILL_BAD_EXIT) see to that themselves. Lightning's own process monitor kills all processes without a reason, the
first one too, which may still be saving; and it does not notice when the first one dies.
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

_LOOK_SECONDS = 0.5
#: For the first process, which mostly notices by itself that another one is gone, and then ends in good order.
_GRACE_SECONDS = 10.0


class WatchedDDP(DDPStrategy):
    """Lightning's DDP, of which no process survives another one's death by more than some seconds.

    ``on_death`` is told the reason before this process ends itself because of it. The settings are those of Lightning's
    DDPStrategy and of torch's DistributedDataParallel.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.on_death: Callable[[str], None] = lambda reason: None

    def _configure_launcher(self) -> None:  # Lightning offers no public way to choose the launcher
        self._launcher = _WatchingLauncher(self, self.cluster_environment, self.num_processes, self.num_nodes)


class _WatchingLauncher(_SubprocessScriptLauncher):
    def __init__(self, strategy: WatchedDDP, *settings: Any) -> None:
        super().__init__(*settings)
        self._strategy = strategy
        self._is_watched = self._has_killed = False
        #: What this process has started. Not in ``procs``, where Lightning's monitor would look after them.
        self.children: list[subprocess.Popen] = []

    def kill(self, signum: int) -> None:
        """Ends the other processes; their deaths are no reason to end this one any more."""
        self._has_killed = True
        for child in self.children:
            child.send_signal(signum)

    def launch(self, function: Callable, *args: Any, **kwargs: Any) -> Any:
        if "MUSICTAG_PARENT" in os.environ and not self._is_watched:
            parent = int(os.environ["MUSICTAG_PARENT"])
            gone = "rank 0 of this run, which started the others, is gone"
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
        """Ends this process some time after there is ``trouble``; a collective operation may never let it go."""
        self._is_watched = True

        def look() -> None:
            while (reason := trouble()) is None:
                time.sleep(_LOOK_SECONDS)
            time.sleep(grace_seconds)
            if self._has_killed:
                return
            self._strategy.on_death(f"{reason}; the same command goes on from the last checkpoint")
            print(f"musictag: {reason}: so this one ends, too", file=sys.__stderr__, flush=True)
            self.kill(KILL)
            os._exit(1)

        threading.Thread(target=look, name="watch-processes", daemon=True).start()


def dead_process(processes: list[subprocess.Popen], within_seconds: float = 0.0) -> str | None:
    """What became of the first of the processes that ended badly; None while all are well, looked at for so long."""
    give_up = time.monotonic() + within_seconds
    while True:
        for number, process in enumerate(processes, start=1):
            status = process.poll()
            if status:
                how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
                memory = " (perhaps the machine ran out of memory)" if status == -KILL else ""
                return f"rank {number} of this run's {len(processes) + 1} processes {how}{memory}"
        if not processes or time.monotonic() >= give_up:
            return None
        time.sleep(0.05)
