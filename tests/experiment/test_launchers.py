"""Sweeps with other launchers and sweepers than Hydra's own: joblib, submitit, Slurm, Optuna."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.helpers.experiments import TINY, folders
from tests.helpers.processes import TWO_PROCESSES, batches, environment
from tests.helpers.sweeps import FEW, finished, sweep, sweep_config


@pytest.fixture
def tiny(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *FEW, *folders(tmp_path)]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_the_launchers_run_jobs(tiny: list[str], tmp_path: Path, launcher: str) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    done = sweep("-m", "seed=0,1", *tiny, f"hydra/launcher={launcher}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(metrics["seed"] for metrics in finished(tmp_path)) == [0, 1]


@pytest.mark.slow
def test_optuna_proposes_and_a_second_start_finds_its_trials(tiny: list[str], tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    words = ["sweep=hyperparameters", "hydra.sweeper.n_trials=2", *tiny]
    done = sweep(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = finished(tmp_path)
    rates = {metrics["config"]["optimizer"]["lr"] for metrics in runs}
    assert len(rates) == 2
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    best = (tmp_path / "runs" / "multirun" / "optimization_results.yaml").read_text()
    # the validation songs decide, not the test songs
    assert f"best_value: {max(metrics['validation']['val_pr_auc'] for metrics in runs)}" in best
    sweep(*words)
    assert [metrics["run"] for metrics in finished(tmp_path)] == [metrics["run"] for metrics in runs]


@pytest.mark.skipif(os.name != "posix", reason="Slurm's programs are shell scripts here")
def test_slurm_gets_a_task_and_a_gpu_a_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    submitit = pytest.importorskip("submitit")
    cfg = sweep_config(
        "trainer=ddp", "trainer.devices=4", "trainer.num_nodes=2", "hydra/launcher=submitit_slurm",
        "hydra.launcher.partition=gpu",
    )  # fmt: skip
    launcher = OmegaConf.to_container(cfg.hydra.launcher, resolve=True)
    del launcher["_target_"], launcher["submitit_folder"]
    for name in ("srun", "sbatch"):  # submitit looks whether they are there
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    executor = submitit.AutoExecutor(
        folder=tmp_path, cluster="slurm", slurm_max_num_timeout=launcher.pop("max_num_timeout")
    )
    common = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name")
    executor.update_parameters(
        **{key if key in (*common, "stderr_to_stdout") else f"slurm_{key}": value for key, value in launcher.items()}
    )
    script = executor._executor._make_submission_file_text("command", "uid")
    for line in ("--ntasks-per-node=4", "--gpus-per-node=4", "--nodes=2", "--partition=gpu", "--signal=USR2@120"):
        assert f"#SBATCH {line}\n" in script


#: What of Slurm the launcher talks to: a job runs at once, and each of its two tasks is told its rank. Lightning makes
#: its port of the job's number, as clusters have it: two jobs of one number at once would meet.
SLURM = {
    "sbatch": """for script; do :; done
export SLURM_JOB_ID=$STAND_IN_JOB SLURM_JOB_NAME=musictag SLURM_NODELIST=localhost SLURM_JOB_NODELIST=localhost
export SLURM_NODEID=0 SLURM_NTASKS=2 SLURM_NTASKS_PER_NODE=2 SLURM_JOB_NUM_NODES=1 SLURM_NNODES=1
(sh "$script"; touch "$0.ended") > /dev/null 2>&1 &
echo "Submitted batch job $STAND_IN_JOB"
""",
    "srun": """while [ "${1#--}" != "$1" ]; do case "$1" in --output|--error) shift 2;; *) shift;; esac; done
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" &
SLURM_PROCID=0 SLURM_LOCALID=0 "$@"
wait
""",
    "sacct": """[ -e "$(dirname "$0")/sbatch.ended" ] && state=COMPLETED || state=RUNNING
echo "JobID|State|NodeList"; echo "$STAND_IN_JOB|$state|localhost"
""",
    "scontrol": "echo localhost\n",
}


@pytest.mark.slow
def test_a_slurm_job_trains_on_all_of_its_tasks(tiny: list[str], tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    (tmp_path / "bin").mkdir()
    for name, script in SLURM.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}")
        (tmp_path / "bin" / name).chmod(0o755)
    job = str(1000 + os.getpid() % 9000)
    done = sweep(
        "-m", "study=slurm", "seed=0", *tiny, *TWO_PROCESSES,
        "data.patches_per_epoch=12", "data.batch_size=4",  # each song once
        "hydra/launcher=submitit_slurm", "hydra.launcher.gpus_per_node=null",
        **environment(tmp_path / "records", PATH=f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"),
        STAND_IN_JOB=job,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (metrics,) = finished(tmp_path)
    assert metrics["config"]["trainer"]["devices"] == 2
    history = (tmp_path / "runs" / metrics["data"] / metrics["run"] / "history.csv").read_text().splitlines()
    patches = dict(zip(history[0].split(","), history[1].split(","), strict=True))["patches"]
    assert int(patches) == metrics["songs"]["train"]  # of both tasks together: each song once
    log = (tmp_path / f"runs/multirun/.submitit/{job}/{job}_submission.sh").read_text()
    assert "#SBATCH --ntasks-per-node=2" in log
    assert "export SLURM_KILL_BAD_EXIT=1" in log  # a task that dies ends the others
    heard = [{song for row in batches(tmp_path / "records", "train") if row["rank"] == rank for song in row["songs"]}
             for rank in (0, 1)]  # fmt: skip
    assert len(heard[0]) == len(heard[1]) == metrics["songs"]["train"] // 2
    assert not heard[0] & heard[1]
