"""Train a tagger: `python train.py frontend=waveform data=songbook trainer.max_epochs=3`. All keys: conf/train.yaml.

A whole study, each job in its own process: `python train.py sweep=dataset_size` (see the files in sweep/).
"""

from __future__ import annotations

import sys
import warnings

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from musictag.common.processes import importing, let_threads_sleep
from musictag.experiment.compose import with_teacher
from musictag.experiment.overrides import command_line, in_one_message, plain_config
from musictag.experiment.search_path import search_overrides

# conf/hydra/launcher/submitit_slurm.yaml lists every key of its plugin; Hydra warns because both have the same name
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/submitit_slurm' is validated against ConfigStore schema")


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Run the experiment of ``cfg``; returns the value for a sweeper to maximise (None if the job failed)."""
    with in_one_message():  # not a decorator, which launchers could not pickle
        return run(cfg)


def run(cfg: DictConfig) -> float | None:
    # imported here so that --help and mistyped options respond at once
    let_threads_sleep()
    with importing():
        from musictag.experiment import run as experiment
        from musictag.experiment.results.console import print_results
        from musictag.experiment.sweeps import jobs as sweeping

    config, chosen = with_teacher(plain_config(cfg)), HydraConfig.get()
    if chosen.mode == RunMode.MULTIRUN:
        # not resolved: the job's own process parses them again
        overrides = [*search_overrides(chosen), *OmegaConf.to_container(chosen.overrides.task, resolve=False)]
        return sweeping.objective(sweeping.run_job(config, overrides, OmegaConf.to_container(chosen.launcher)))
    metrics = experiment.run(config)
    if "hydra.mode=RUN" not in sys.argv:  # the results of a job are printed by its sweep
        print_results(metrics, config["runs_dir"])
    return None


if __name__ == "__main__":
    with command_line():
        main()
