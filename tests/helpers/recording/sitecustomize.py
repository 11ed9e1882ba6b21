"""On the PYTHONPATH of test subprocesses: records what each one trains on and evaluates, and sends signals on request.

RECORD_FOLDER: one file per process, one JSON line per batch. RECORD_HURT: ``SIGNAL:STAGE:RANK:EPOCH:BATCH`` sends a
signal to the process itself just before it computes that batch (EPOCH is ignored for an evaluation), once, which a
file in the folder records. The code under test is the real one, observed from outside.
"""

import importlib.util
import json
import os
import signal
import sys
import zlib
from pathlib import Path

_FOLDER = os.environ.get("RECORD_FOLDER")


class _Watch:
    """Imports musictag.training.module as usual, then wraps the steps of its module."""

    def find_spec(self, name, path=None, target=None):
        if name != "musictag.training.module":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            _wrap(module.TaggingModule)

        spec.loader.exec_module = exec_module
        return spec


def _wrap(kind):
    train, evaluate = kind.training_step, kind._evaluate

    def training_step(self, batch, batch_idx):
        _note(self, "train", batch, batch_idx)
        return train(self, batch, batch_idx)

    def _evaluate(self, batch):
        stage = "test" if self.trainer.testing else "validation"
        number = self.__dict__.setdefault("_evaluated", {}).get(stage, -1) + 1
        self._evaluated[stage] = number
        _note(self, stage, batch, number)
        return evaluate(self, batch)

    kind.training_step, kind._evaluate = training_step, _evaluate


def _note(module, stage, batch, number):
    split = "trained" if stage == "train" else stage
    row = {
        "stage": stage,
        "rank": module.global_rank,
        "world": module.trainer.world_size,
        "run": Path(module.trainer.default_root_dir).name,
        "epoch": module.current_epoch,
        "batch": number,
        "songs": module.trainer.datamodule.song_ids(split)[batch["song"].cpu().numpy()].tolist(),
        "audio": [zlib.crc32(patch.cpu().numpy().tobytes()) for patch in batch["audio"]],
    }
    with open(os.path.join(_FOLDER, f"{os.getpid()}.jsonl"), "a") as file:
        file.write(json.dumps(row) + "\n")
    hurt = os.environ.get("RECORD_HURT")
    if hurt:
        name, *where = hurt.split(":")
        here = [
            stage,
            str(module.global_rank),
            str(module.current_epoch) if stage == "train" else where[2],
            str(number),
        ]
        done = os.path.join(_FOLDER, "hurt")
        if where == here and not os.path.exists(done):
            open(done, "w").close()
            os.kill(os.getpid(), getattr(signal, name))


if _FOLDER and "musictag.training.module" in sys.modules:  # of a process that was forked
    _wrap(sys.modules["musictag.training.module"].TaggingModule)
elif _FOLDER:
    sys.meta_path.insert(0, _Watch())
