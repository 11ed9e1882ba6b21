"""Composes the configuration that train.py runs, for other programs and from the same overrides."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import MissingMandatoryValue, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from musictag.common.errors import MusictagError
from musictag.common.paths import expanded
from musictag.experiment.overrides import explain, plain_config, readable

#: The shipped configuration, next to the package in a clone of the repository.
CONF = Path(__file__).resolve().parents[2] / "conf"


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration that `python train.py OVERRIDES` runs, as plain containers.

    Raises MusictagError for overrides that cannot be composed, for missing keys, and if musictag is installed without
    its configuration.
    """
    if not (CONF / "train.yaml").is_file():
        raise MusictagError(
            f"there is no configuration at {CONF}: this command works in a clone of the repository, "
            "installed with `pip install --editable .`"
        )
    os.environ.setdefault("MUSICTAG_HOME", str(CONF.parent))
    before, outer = HydraConfig.instance().cfg, GlobalHydra.instance().hydra
    # within a sweep Hydra is already initialized, and refuses to be initialized twice
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = hydra_compose("train", readable(overrides), return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)  # resolves the names of the chosen files
            with open_dict(cfg):
                cfg.names = OmegaConf.to_container(cfg.names, resolve=True)
                del cfg["hydra"]
            return plain_config(cfg)
    except MissingMandatoryValue as error:
        raise MusictagError(f"{error.full_key} is needed; use {error.full_key}=...") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise MusictagError(explain(error)) from error
    finally:
        HydraConfig.instance().cfg = before
        GlobalHydra.instance().hydra = outer


def presets() -> list[str]:
    """Names of the files in conf/model that describe a network; the others choose a baseline or nothing."""
    files = (CONF / "model").glob("*.yaml")
    return sorted(path.stem for path in files if "override /frontend" in path.read_text(encoding="utf-8"))


def configuration(arguments: Sequence[str]) -> dict[str, Any]:
    """The configuration of overrides, one of which may be the path of the user's own table.

    Raises MusictagError as ``compose`` does, and for more than one table.
    """
    tables = [given for given in arguments if "=" not in given or os.path.isfile(os.path.expanduser(given))]
    overrides = [given for given in arguments if given not in tables]
    if len(tables) > 1:
        raise MusictagError(f"one table at a time is supported, not {' and '.join(tables)}")
    if not tables:
        return compose(overrides)
    # set afterwards: file names may contain what Hydra's grammar cannot express
    config = compose(["data=catalogue", *overrides, "data.path=table"])
    config["data"]["path"] = expanded(tables[0], "the table's path")
    return config
