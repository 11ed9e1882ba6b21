"""Train a tagger: `python train.py frontend=waveform data=songbook trainer.max_epochs=3`. All keys: conf/train.yaml."""

from __future__ import annotations

import os
import subprocess
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float:
    """Run the experiment of ``cfg``; returns its test PR-AUC for sweepers that maximise it (NaN: the job failed)."""
    # imported here, so that --help and mistyped options are answered at once
    from musictag import experiment
    from musictag.errors import MusictagError
    from musictag.terminal import print_results

    try:
        config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            if run_job_in_fresh_process(HydraConfig.get().overrides.task) != 0:
                return float("nan")  # the other jobs go on; error.txt in the run folder says why this one did not
            metrics = experiment.results(config)
        else:
            metrics = experiment.run(config)
            print_results(metrics, config["runs_dir"])
    except MissingMandatoryValue as error:
        sys.exit(f"musictag: {error.full_key} is needed; type {error.full_key}=...")
    except MusictagError as error:
        sys.exit(f"musictag: {error}")
    return metrics["test"]["pr_auc"]["value"] if metrics["test"]["pr_auc"] else float("nan")


def run_job_in_fresh_process(overrides: list[str]) -> int:
    """One job of a multirun, alone: Lightning's launcher re-executes sys.argv, and leaves its rank behind."""
    ranks = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {key: value for key, value in os.environ.items() if key not in ranks}
    return subprocess.run([sys.executable, __file__, *overrides], env=environment).returncode


if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra lets the error through
    try:
        main()
    except HydraException as error:
        from musictag.terminal import explain

        sys.exit(f"musictag: {explain(error)}")
