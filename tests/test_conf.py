"""The shipped configuration: every file composes, every key is explained, and every key is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from musictag import identity
from musictag.build import find_class, settings
from musictag.data.sources import Source
from musictag.tracking import make_tracker

from .experiments import ROOT, compose_config
from .wandb_files import recorded

FILES = sorted((ROOT / "conf").glob("**/*.yaml"))
#: What has no default: where the music lies.
NEEDED = {"catalogue": ["data.path=x.csv"]} | {data: ["data.root=x"] for data in ("magnatagatune", "msd", "jamendo")}
STRUCTURE = re.compile(r"\s*(#.*|- .*|_target_: .*|\w+:|\w+: \$\{hydra.*)?$")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_key_is_explained(path: Path) -> None:
    own = path.read_text().partition("\nhydra:")[0]
    unexplained = [line for line in own.splitlines() if "#" not in line and not STRUCTURE.match(line)]
    assert not unexplained
    assert "  # " in own


@pytest.mark.parametrize("trainer", ["default", "quick", "ddp"])
def test_the_keys_are_those_that_are_read(trainer: str) -> None:
    config = compose_config(f"trainer={trainer}")
    identity.check_keys(config)
    assert set(config["trainer"]) == set(identity.KEYS["trainer"])
    assert set(config["evaluation"]) == set(identity.KEYS["evaluation"])
    assert set(config) == set(identity.KEYS[""]) - {"probe", "baseline"}  # groups that are only there if chosen


@pytest.mark.parametrize("data", [path.stem for path in FILES if path.parent.name == "data"])
def test_the_keys_of_a_data_set_are_its_settings(data: str, tmp_path: Path) -> None:
    config = compose_config(f"data={data}", *NEEDED.get(data, []))
    accepted = set(settings(find_class(config["data"]["_target_"], Source)))
    own = set(config["data"]) - {"_target_"} - set(identity.PIPELINE_KEYS)
    assert own <= accepted
    assert accepted - own <= {"data_dir", "workers", "sample_rate"}
    assert set(identity.PIPELINE_KEYS) <= set(config["data"])


@pytest.mark.usefixtures("nobody_is_logged_in")
@pytest.mark.parametrize("logger", [path.stem for path in FILES if path.parent.name == "logger"])
def test_the_loggers_log(logger: str, tmp_path: Path) -> None:
    """What of a real run they hold: test_options.py and test_tracking.py."""
    tracker = make_tracker(compose_config(f"logger={logger}"), tmp_path / "run-0123abcd")
    if logger == "csv":  # history.csv is written by the run itself
        assert tracker.lightning is False
        tracker.close(exit_code=0)
        assert not (tmp_path / "run-0123abcd").exists()
        return
    tracker.lightning.log_metrics({"epoch": 3, "val_loss": 0.25})
    tracker.close(exit_code=0)
    _, record = recorded(tmp_path / "run-0123abcd")
    assert [(row["epoch"], row["val_loss"]) for row in record.history] == [(3, 0.25)]
    assert record.exit_code == 0
