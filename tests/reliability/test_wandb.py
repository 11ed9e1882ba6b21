"""Weights & Biases in all its failures: the scores are those without it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.failures import wait_until
from tests.helpers.reliability import Bench, bench, epochs_done, only, outcome

pytestmark = pytest.mark.slow

LONG = "trainer.max_epochs=40"
#: What the environment says, and what the run says of it.
STATES = {
    "offline": ({"WANDB_MODE": "offline"}, "recording offline in"),
    "a mistyped key": ({"WANDB_API_KEY": "mistyped"}, "does not work online"),
    "no answer": (
        {"WANDB_MODE": "online", "WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"},
        "does not work online",
    ),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("wandb")
    own = dict.fromkeys(("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"))
    with bench(folder, environment={**own, "NETRC": str(folder / "netrc")}) as made:
        yield made


@pytest.mark.parametrize("state", STATES)
def test_scores_do_not_depend_on_weights_and_biases(run: Bench, state: str) -> None:
    environment, said_of_it = STATES[state]
    words = run.words(state, "logger=wandb", "logger.wandb.start_seconds=1")
    status, said = run.lab.run(*words, environment=environment)
    assert status == 0, said
    assert said_of_it in said
    assert outcome(only(run.folder / state)) == outcome(run.whole)


def test_a_recording_process_that_is_killed_changes_no_score(run: Bench) -> None:
    started = run.lab.start(*run.words("killed", "logger=wandb", LONG))
    wait_until(lambda: epochs_done(run.folder / "killed") >= 3)
    os.kill(recorder(started.pid), signal.SIGKILL)
    assert started.wait() == 0, started.said
    assert "Weights & Biases failed" in started.said
    folder = only(run.folder / "killed")
    assert run.lab.run(*run.words("not recorded", LONG))[0] == 0
    assert outcome(folder) == outcome(only(run.folder / "not recorded"))


def recorder(pid: int) -> int:
    """The process that ``pid`` has started to record for it."""
    for status in Path("/proc").glob("[0-9]*/status"):
        text = status.read_text()
        if "Name:\twandb-core" in text and f"PPid:\t{pid}\n" in text:
            return int(status.parent.name)
    raise AssertionError("there is no wandb-core")
