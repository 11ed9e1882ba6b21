"""Train a tagger: `python train.py frontend=waveform data=songbook trainer.max_epochs=3`. All keys: conf/train.yaml.

A whole study, each job in a process of its own: `python train.py sweep=dataset_size` (the files of sweep/).
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from musictag.cli.streams import write_out_what_cannot_be_encoded
from musictag.errors import MusictagError
from musictag.overrides import plain_config, readable

# conf/hydra/launcher/submitit_slurm.yaml names everything that its plugin knows; Hydra would rather it had another name
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/submitit_slurm' is validated against ConfigStore schema")
os.environ["MUSICTAG_HOME"] = str(Path(__file__).resolve().parent)  # where Hydra finds sweep/


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Run the experiment of ``cfg``; returns what a sweeper may maximise (None: the job failed)."""
    # imported here, so that --help and mistyped options are answered at once
    from musictag import experiment, sweeping
    from musictag.interruption import Stopped
    from musictag.terminal import explain, print_results
    from musictag.untrusted import printable

    try:
        config = plain_config(cfg)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            launcher = OmegaConf.to_container(HydraConfig.get().launcher)
            # not resolved: they are read once more, by the job's own process
            overrides = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
            metrics = sweeping.run_job(config, overrides, launcher)
            return sweeping.objective(metrics)
        metrics = experiment.run(config)
        if "hydra.mode=RUN" not in sys.argv:  # of a job, its sweep speaks
            print_results(metrics, config["runs_dir"])
    except MissingMandatoryValue as error:
        sys.exit(f"musictag: {error.full_key} is needed; type {error.full_key}=...")
    except MusictagError as error:
        sys.exit(f"musictag: {printable(error)}")
    except OmegaConfBaseException as error:
        sys.exit(f"musictag: {printable(explain(error))}")
    except Stopped as stopped:
        sys.exit(stopped.status)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra lets the error through
    write_out_what_cannot_be_encoded()
    words = sys.argv[1:] = readable(sys.argv[1:])
    # a job of the sweep says hydra.mode=RUN
    if any(word.startswith("sweep=") for word in words) and not any(
        word.startswith(("-", "hydra.mode")) for word in words
    ):
        sys.argv.insert(1, "--multirun")
    try:
        main()
    except (HydraException, OmegaConfBaseException) as error:
        from musictag.terminal import explain

        sys.exit(f"musictag: {explain(error)}")
