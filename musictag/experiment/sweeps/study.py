"""Studies: many jobs under one name.

``<runs_dir>/<data>/study-<name>.json`` lists the jobs of every sweep that was started under the name: their overrides,
the folders of their runs, and how much there is to train. ``musictag status`` compares it with the results.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from musictag.common.errors import MusictagError
from musictag.common.files import write_json
from musictag.common.progress import say
from musictag.experiment.overrides import readable_params
from musictag.experiment.search_path import search_overrides
from musictag.experiment.sweeps.lists import KEYS, list_path, read_jobs


def find_studies(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and file of every study's list below ``folder``."""
    for path in sorted(folder.glob("**/study-*.json")):
        yield path.stem.removeprefix("study-"), path


class WriteDownStudy(Callback):
    """Callback of Hydra for the start of a sweep: checks the configuration of every job and writes the list of jobs.

    A sweeper that chooses its jobs one after the other (Optuna) has no list. ``needs``: an override that each job must
    have.
    """

    def __init__(self, needs: str | None = None) -> None:
        self.needs = needs

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        try:
            readable_params(config)
            jobs = job_overrides(config)
            if jobs is not None:
                self._check(jobs, config.hydra.runtime.choices.data)
                write_down(jobs)
        except MusictagError as error:
            sys.exit(f"musictag: {error}")
        except Exception:
            # Hydra would turn it into a warning and start the sweep
            sys.exit(traceback.format_exc())

    def _check(self, jobs: Sequence[Sequence[str]], data: str) -> None:
        if self.needs and not all(any(override.startswith(f"{self.needs}=") for override in job) for job in jobs):
            raise MusictagError(
                f"{self.needs} is needed: this study has none for data={data}; use for example "
                f"{self.needs}=1000,2000,4000"
            )


def job_overrides(config: DictConfig) -> list[list[str]] | None:
    """The overrides of each job of a grid, in the order in which Hydra's basic sweeper runs them; None if another
    sweeper chooses them one after the other. Raises MusictagError for an interval, which no grid can have."""
    if config.hydra.runtime.choices["hydra/sweeper"] != "basic":
        return None
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    # unresolved, as Hydra passes them on
    given = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    choices: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides([*params, *given]):
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise MusictagError(
                f"{override.input_line}: a grid needs the values themselves, such as 0.001,0.01; an interval can only "
                "be searched (sweep=hyperparameters)"
            )
        key = override.get_key_element()
        if override.is_sweep_override():
            choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            choices[key] = [f"{key}={override.get_value_element_as_str()}"]
    return [[*search_overrides(config.hydra), *job] for job in product(*choices.values())]


def write_down(jobs: Sequence[Sequence[str]]) -> list[Path]:
    """Add the jobs to the lists of their studies, and print how many are done; returns the files of the lists.

    Raises MusictagError for a job whose configuration or data set is wrong.
    """
    # imported here: Hydra makes the callback at the start of every run, and with it torch and Lightning would be loaded
    from musictag.experiment.builders import shared_source
    from musictag.experiment.compose import compose
    from musictag.experiment.identity import check_keys
    from musictag.experiment.results.files import read_results
    from musictag.experiment.run import make_run

    lists: dict[Path, list[dict[str, Any]]] = {}
    for overrides in jobs:
        config = compose(overrides)
        check_keys(config)
        run = make_run(config)
        folder = run.folder(shared_source(config))
        lists.setdefault(list_path(folder.parent, config["study"]), []).append(
            {
                "overrides": list(overrides),
                "run": folder.name,
                "max_epochs": run.max_epochs,
                "patches": run.patches_to_train(),
            }
        )
    for path, listed in lists.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            # the same overrides are another run once the songs have changed, and no command makes the former one
            new = [job[key] for job in listed for key in ("run", "overrides")]
            jobs = [{key: job[key] for key in KEYS} for job in read_jobs(path)]
            before = [job for job in jobs if job["run"] not in new and job["overrides"] not in new]
            write_json(path, {"jobs": before + listed})
        done = sum(read_results(path.parent / job["run"]) is not None for job in listed)
        finished = f", {done} of them finished before" if done else ""
        say(f"{len(listed)} jobs{finished}; to watch them: musictag status {path.parent}")
    return list(lists)
