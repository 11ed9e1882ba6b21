"""Several processes on one machine: what Lightning starts, and what happens when one of them dies.

A process that waits in a collective operation for one that is dead may wait for ever. Whoever launched the processes
must see it: torchrun and Slurm (with SLURM_KILL_BAD_EXIT) do; here is the same for those that Lightning starts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from musictag.running import note_reason

_LOOK_SECONDS = 0.5
#: For the first process, which mostly notices by itself that another one is gone: it ends in good order.
_GRACE_SECONDS = 10.0


class WatchedDDP(DDPStrategy):
    """Lightning's DDP, of which no process survives another one's death by more than some seconds.

    Its settings are those of Lightning's DDPStrategy and of torch's DistributedDataParallel.
    """

    def _configure_launcher(self) -> None:
        self._launcher = _WatchingLauncher(self.cluster_environment, self.num_processes, self.num_nodes)


class _WatchingLauncher(_SubprocessScriptLauncher):
    """Lightning's launcher with another watchman: its own one kills all without a word, the first process included."""

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self._run_dir = Path()
        self._is_watched = self._has_killed = False

    def kill(self, signum: int) -> None:
        """Ends the processes, of which no more notice is taken."""
        self._has_killed = True
        super().kill(signum)

    def launch(self, function: Callable, *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        self._run_dir = Path(trainer.default_root_dir)
        environment = self.cluster_environment
        environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not environment.creates_processes_externally:
            self._call_children_scripts()
            self._watch(self._dead_child, _GRACE_SECONDS)
        elif "MUSICTAG_PARENT" in os.environ and not self._is_watched:
            parent = int(os.environ["MUSICTAG_PARENT"])
            gone = "rank 0 of this run, which started the others, is gone"
            self._watch(lambda: None if os.getppid() == parent else gone, 1.0)
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)

    def _call_children_scripts(self) -> None:
        os.environ["MUSICTAG_PARENT"] = str(os.getpid())
        try:
            super()._call_children_scripts()
        finally:
            del os.environ["MUSICTAG_PARENT"]

    def _dead_child(self) -> str | None:
        return dead_process(self.procs)

    def _watch(self, trouble: Callable[[], str | None], grace_seconds: float) -> None:
        """Ends this process some time after there is ``trouble``; a collective operation may never let it go."""
        self._is_watched = True

        def look() -> None:
            while (reason := trouble()) is None:
                time.sleep(_LOOK_SECONDS)
            time.sleep(grace_seconds)
            if self._has_killed:
                return
            note_reason(self._run_dir, f"{reason}; the same command goes on from the last checkpoint")
            print(f"musictag: {reason}: so this one ends, too", file=sys.__stderr__, flush=True)
            super(_WatchingLauncher, self).kill(signal.SIGKILL)
            os._exit(1)

        threading.Thread(target=look, name="watch-processes", daemon=True).start()


def dead_process(processes: list[subprocess.Popen]) -> str | None:
    """What became of the first of the processes that ended badly; None while all are well."""
    for number, process in enumerate(processes, start=1):
        status = process.poll()
        if status:
            how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            memory = " (perhaps the machine ran out of memory)" if status == -signal.SIGKILL else ""
            return f"rank {number} of this run's {len(processes) + 1} processes {how}{memory}"
    return None
