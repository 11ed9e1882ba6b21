"""Composes the configuration that train.py runs, for other programs and from the same overrides."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
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
from musictag.experiment.search_path import CONF, plugin_folders, search_overrides


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
            return with_teacher(plain_config(cfg))
    except MissingMandatoryValue as error:
        raise MusictagError(f"{error.full_key} is needed; use {error.full_key}=...") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise MusictagError(explain(error)) from error
    finally:
        HydraConfig.instance().cfg = before
        GlobalHydra.instance().hydra = outer


def with_teacher(config: dict[str, Any]) -> dict[str, Any]:
    """``config`` with the folder of the teacher's run, if ``distillation.model`` says which: the run of the same
    overrides with that model instead, and without a teacher. Call this while Hydra is initialized.

    Raises MusictagError if ``teacher`` is given, too, and for a model that does not exist.
    """
    if (model := config["distillation"]["model"]) is None:
        return config
    if config["teacher"] is not None or model == config["names"]["model"]:
        other = f"teacher={config['teacher']} names one, too" if config["teacher"] else "it is the student's own model"
        raise MusictagError(f"distillation.model={model} names a teacher, and {other}: leave out one of them")
    # imported here, as it imports Lightning
    from musictag.experiment.builders import shared_source
    from musictag.experiment.run import make_run

    hydra = HydraConfig.get()
    own = re.compile(r"[+~]*(model|label|distillation\.\w+|data\.unlabelled\w*)=")
    kept = [word for word in hydra.overrides.task if not own.match(word)]
    teacher = compose([*search_overrides(hydra), *kept, f"model={model}"])
    return config | {"teacher": str(make_run(teacher).folder(shared_source(teacher)))}


def presets() -> list[str]:
    """Names of the files in conf/model, also of plug-ins, that describe a network by its parts, not by another file."""
    return sorted(name for name, content in _models() if "override /frontend" in content)


def networks() -> list[str]:
    """Names of all files there but those that choose a baseline or a probe."""
    chosen = ("override /baseline", "override /probe")
    return sorted(name for name, content in _models() if not any(choice in content for choice in chosen))


def _models() -> Iterator[tuple[str, str]]:
    for folder in (CONF, *plugin_folders().values()):
        for path in (folder / "model").glob("*.yaml"):
            yield path.stem, path.read_text(encoding="utf-8")


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
