"""Helpers for tests of failures: a small undisturbed run, and comparisons with it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from musictag.models.checkpoint import read_tagger
from tests.helpers.catalogues import write_catalogue
from tests.helpers.experiments import TINY, compose_config
from tests.helpers.failures import Lab, labs
from tests.helpers.plain_training import assert_is, train, write_beginning

EPOCHS = 5
#: Covers what a resumed run could get wrong: the schedule steps, dropout draws, the best epoch is not the last.
SETTINGS = (
    *TINY, f"trainer.max_epochs={EPOCHS}", "optimizer.lr=0.03", "scheduler.patience=0",
    "frontend.norm_momentum=0.2", "backend.norm_momentum=0.2",
)  # fmt: skip


class Bench:
    """A prepared catalogue of 24 songs and an undisturbed run in the folder ``whole``.

    Errors that also affect the undisturbed run would go unnoticed in comparisons with it, so it is compared with the
    same training in plain PyTorch.
    """

    def __init__(self, folder: Path, lab: Lab, settings: tuple[str, ...]) -> None:
        self.folder, self.lab = folder, lab
        settings = ("data=catalogue", f"data.path={write_catalogue(folder / 'music')}", *settings)
        self.settings = (*settings, write_beginning(folder / "beginning.safetensors", compose_config(*settings)))
        status, said = lab.run(*self.words("undisturbed"))
        assert status == 0, said
        self.whole = only(folder / "undisturbed")
        assert_is(self.whole, train(compose_config(*self.words("undisturbed"))))

    def in_lab(self, lab: Lab) -> Bench:
        """The same run, for commands that another lab starts."""
        other = copy.copy(self)
        other.lab = lab
        return other

    def words(self, runs: str | Path, *more: str, data: str | Path = "data") -> list[str]:
        """The command line of the run, with its results below ``runs``, which is not part of the run's identity."""
        return [*self.settings, f"runs_dir={self.folder / runs}", f"data_dir={self.folder / data}", *more]


@contextmanager
def bench(folder: Path, *settings: str, **how: Any) -> Iterator[Bench]:
    """``settings`` follow SETTINGS; ``how`` are those of a Lab of its own."""
    with labs(folder, **how) as (lab,):
        yield Bench(folder, lab, (*SETTINGS, *settings))


def only(runs: Path) -> Path:
    """The folder of the only run below a ``runs_dir``."""
    (found,) = (path.parent for path in runs.glob("*/*/config.json"))
    return found


def outcome(run_dir: Path) -> dict[str, Any]:
    """What must not depend on failures: metrics without times and names, the bytes of the predictions."""
    metrics = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    for part in (metrics, metrics["validation"]):
        for key in ("seconds", "speed", "git"):
            part.pop(key, None)
    metrics["compute"].pop("train_seconds")
    for key in ("runs_dir", "data_dir", "logger", "study"):
        del metrics["config"][key]
    del metrics["study"]
    for key in ("num_workers", "prepare_workers"):
        metrics["config"]["data"].pop(key, None)
    return metrics | {"predictions": (run_dir / "predictions.npz").read_bytes()}


def weights(run_dir: Path, name: str = "tagger.safetensors") -> dict[str, np.ndarray]:
    if name.endswith(".ckpt"):
        state = torch.load(run_dir / name, weights_only=True)["state_dict"]
    else:
        state = read_tagger(run_dir / name).state
    return {key.removeprefix("tagger."): tensor.numpy() for key, tensor in state.items()}


def check_whole(run_dir: Path, expected: Path) -> None:
    """The run has ended like the undisturbed one, without traces of the failure."""
    assert outcome(run_dir) == outcome(expected)
    for name, weight in weights(expected).items():
        np.testing.assert_array_equal(weights(run_dir)[name], weight, err_msg=name)
    assert curves(run_dir) == curves(expected)
    assert {path.name for path in run_dir.iterdir()} == {path.name for path in expected.iterdir()}
    assert not list(run_dir.parent.rglob("*.part"))


def curves(run_dir: Path) -> list[str]:
    """history.csv without its last column (time): every epoch once."""
    rows = (run_dir / "history.csv").read_text().splitlines()
    assert rows[0].endswith(",seconds")
    assert [int(row.split(",")[0]) for row in rows[1:]] == list(range(len(rows) - 1))
    return [row.rpartition(",")[0] for row in rows]


def epochs_done(runs: Path) -> int:
    """Rows in the history of the only run, 0 before there are any."""
    return max((len(path.read_text().splitlines()) - 1 for path in runs.glob("*/*/history.csv")), default=0)
