"""The shipped configuration: every file composes, every key is explained, and every key is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from pytorch_lightning.callbacks import Callback

from musictag.data.datasets import Source
from musictag.data.loading.samplers import TrainBatches
from musictag.experiment import identity
from musictag.experiment.builders import make_sampler
from musictag.experiment.search_path import CONF
from musictag.experiment.tracking.tracker import make_tracker
from musictag.models.factory import find_class, settings
from musictag.training.augmentations import Augmentation
from musictag.training.instantiate import make, make_partial
from musictag.training.schedulers import make_scheduler
from tests.helpers.experiments import ROOT, compose_config
from tests.helpers.wandb_files import recorded

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


@pytest.mark.parametrize("chosen", ["trainer=default", "recipe=quick", "trainer=ddp", "recipe=modern"])
def test_the_keys_are_those_that_are_read(chosen: str) -> None:
    config = compose_config(chosen)
    identity.check_keys(config)
    assert set(config["evaluation"]) == set(identity.KEYS["evaluation"])
    assert set(config) == set(identity.KEYS[""]) - (
        {"probe", "baseline", "augmentation"} - set(config)
    )  # only there if chosen


@pytest.mark.parametrize("data", [path.stem for path in FILES if path.parent.name == "data" and path.stem != "_loader"])
def test_the_keys_of_a_data_set_are_its_settings(data: str, tmp_path: Path) -> None:
    config = compose_config(f"data={data}", *NEEDED.get(data, []))
    accepted = set(settings(find_class(config["data"]["_target_"], Source)))
    own = set(config["data"]) - {"_target_"} - set(identity.PIPELINE_KEYS)
    assert own <= accepted
    assert accepted - own <= {"data_dir", "workers", "sample_rate"}
    assert set(identity.PIPELINE_KEYS) <= set(config["data"])


@pytest.mark.parametrize("group", ["loss", "optimizer", "scheduler", "trainer"])
def test_every_part_can_be_made(group: str) -> None:
    """Whatever Lightning and PyTorch call their arguments in the versions that are installed."""
    for path in FILES:
        if path.parent.name == group:
            config = compose_config(f"{group}={path.stem}")
            identity.check_keys(config)
            made = make_partial(group, config[group])
            if group == "optimizer":
                optimizer = made([torch.nn.Parameter(torch.ones(2))])
                assert {"lr", "weight_decay"} <= set(optimizer.param_groups[0])
            if group == "scheduler":
                scheduler = make_scheduler(made, torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], 0.1), 10, "max")
                assert scheduler["interval"] == ("step" if path.stem in ("one_cycle", "cosine") else "epoch")


def test_a_recipe_changes_what_it_says() -> None:
    plain, quick = compose_config(), compose_config("recipe=quick")
    assert quick["scheduler"]["_target_"].endswith("one_cycle")
    assert (quick["trainer"]["max_epochs"], quick["optimizer"]["lr"]) == (30, 0.004)
    assert quick["callbacks"]["early_stopping"] is None
    assert quick["callbacks"]["checkpoint"] == plain["callbacks"]["checkpoint"]
    assert compose_config("recipe=quick", "scheduler=cosine", "trainer.max_epochs=3")["trainer"]["max_epochs"] == 3


PARTS = [path.stem for path in FILES if path.parent.name == "recipe" and path.stem not in ("quick", "modern")]


def differing(config: dict, other: dict, prefix: str = "") -> set[str]:
    """Dotted keys, of groups and parts, that differ."""
    keys = {key for key in config.keys() | other.keys() if config.get(key) != other.get(key)}
    deeper = {"callbacks", "augmentation", "data"}
    return set().union(*(
        differing(config.get(key) or {}, other.get(key) or {}, f"{key}.") if key in deeper else {f"{prefix}{key}"}
        for key in keys
    ))  # fmt: skip


def test_modern_is_the_sum_of_its_parts_each_of_which_changes_one_thing() -> None:
    paper, modern = compose_config(), compose_config("recipe=modern")
    alone = {part: differing(paper, compose_config(f"recipe={part}")) for part in PARTS}
    for part, keys in alone.items():
        assert len(keys) == (3 if part == "adamw_cosine" else 1), part
    assert alone["adamw_cosine"] == {"optimizer", "scheduler", "callbacks.early_stopping"}
    used = re.findall(r"^  - (\w+)", (CONF / "recipe" / "modern.yaml").read_text(), re.M)
    assert differing(paper, modern) == set().union(*(alone[part] for part in used))
    assert compose_config(f"recipe=[{','.join(used)}]") == modern
    assert compose_config("recipe=[]") == paper
    assert set(PARTS) - set(used) == {"swa", "focal_bce", "asymmetric", "late_dropout", "mixup_log_mel"}


def test_parts_of_a_recipe_can_be_made_and_left_out() -> None:
    for part in PARTS:
        config = compose_config(f"recipe={part}")
        identity.check_keys(config)
        for group, contract in (("callbacks", Callback), ("augmentation", Augmentation)):
            for name, spec in (config.get(group) or {}).items():
                if name not in ("early_stopping", "checkpoint"):
                    make(f"{group}.{name}", spec, contract)
        assert issubclass(make_sampler(config["data"]["sampler"]).func, TrainBatches)
    left = compose_config("recipe=modern", "augmentation.mixup=null", "callbacks.averaging=null", "loss=bce")
    assert left["augmentation"]["mixup"] is left["callbacks"]["averaging"] is None
    assert left["loss"] == compose_config()["loss"]


def test_the_ablation_has_each_part_alone_and_each_removed() -> None:
    text = (ROOT / "sweep" / "recipe.yaml").read_text()
    lists = re.findall(r"\[([\w,]*)\]", text.partition("recipe: >-")[2])
    used = re.findall(r"^  - (\w+)", (CONF / "recipe" / "modern.yaml").read_text(), re.M)
    alone = [names for names in lists if "," not in names]
    # all but the loss that data with regression tags, such as songbook, would refuse
    assert sorted([*alone, "asymmetric"]) == sorted(["", *PARTS])
    removed = [set(used) - set(names.split(",")) for names in lists if "," in names]
    assert sorted(map(sorted, removed)) == sorted([name] for name in used)


def test_studies_fit_any_data_set() -> None:
    """What only one data set understands stands in its file of sweep/data."""
    for path in sorted((ROOT / "sweep").glob("[!_]*.yaml")):
        config = compose_config(f"sweep={path.stem}", "data=catalogue", "data.path=x.csv")
        accepted = set(settings(find_class(config["data"]["_target_"], Source))) | {"_target_"}
        assert set(config["data"]) <= accepted | set(identity.PIPELINE_KEYS), path.stem


@pytest.mark.usefixtures("nobody_is_logged_in")
def test_two_loggers_side_by_side(tmp_path: Path) -> None:
    """What each of them is told: test_tracking.py and test_loggers.py."""
    pytest.importorskip("tensorboard")
    assert make_tracker(compose_config(), tmp_path).loggers == []
    config = compose_config("logger=[wandb,tensorboard]")
    tracker = make_tracker(config, tmp_path / "run-0123abcd")
    for logger in tracker.loggers:
        logger.log_metrics({"epoch": 3, "val_loss": 0.25})
    tracker.close(exit_code=0)
    _, record = recorded(tmp_path / "run-0123abcd")
    assert [(row["epoch"], row["val_loss"]) for row in record.history] == [(3, 0.25)]
    assert record.exit_code == 0
    assert list((tmp_path / "run-0123abcd" / "tensorboard").glob("events.*"))


def test_the_groups_are_the_folders_of_conf_and_the_studies() -> None:
    """Not what else lies in the clone, such as a virtual environment: --help would walk through all of it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        groups = GlobalHydra.instance().config_loader().list_groups("")
    folders = [path.name for path in CONF.iterdir() if path.is_dir()]
    assert [group for group in groups if group != "hydra"] == sorted([*set(folders) - {"hydra"}, "sweep"])
