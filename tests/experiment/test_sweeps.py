"""Sweeps: the jobs are written down, each runs in a process of its own, and what is finished is not run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, read_write

from musictag.common.errors import MusictagError
from musictag.common.processes import available_cores
from musictag.experiment import identity
from musictag.experiment import run as experiment
from musictag.experiment.run import make_run
from musictag.experiment.run_folder import lock_run
from musictag.experiment.sweeps import jobs as sweeping
from musictag.experiment.sweeps import status, study
from musictag.experiment.sweeps.lists import read_jobs
from tests.conf.test_conf import NEEDED
from tests.experiment.test_baseline_identity import FixedSongs
from tests.helpers.experiments import ROOT, TINY, compose_config, folders
from tests.helpers.sweeps import FEW, finished, sweep, sweep_config

SWEEPS = sorted(path.stem for path in (ROOT / "sweep").glob("[!_]*.yaml"))
DATA = sorted(path.stem for path in (ROOT / "conf" / "data").glob("[!_]*.yaml"))
#: A study of the parts that the command line names, in place of the models that it would go through.
WITHOUT_MODELS = "~hydra.sweeper.params.model"


@pytest.fixture
def tiny(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *FEW, *folders(tmp_path)]


def with_task(*words: str) -> DictConfig:
    """The configuration of ``train.py -m WORDS``."""
    cfg = sweep_config()
    with read_write(cfg.hydra):
        cfg.hydra.sweeper.params = {"seed": "0,1"}
        cfg.hydra.overrides.task = list(words)
    return cfg


def test_the_jobs_of_a_grid_are_those_that_hydra_runs() -> None:
    words = ["data.train_songs=range(2,5)", "seed=7,8,9", "+a={x:1,y:2}", "frontend.channels=[1,2],[3,4]"]
    parsed = OverridesParser.create().parse_overrides(["seed=0,1", *words])
    jobs = study.job_overrides(with_task(*words))
    assert jobs == BasicSweeper.split_arguments(parsed, None)[0]
    assert len(jobs) == 3 * 3 * 2


def test_a_grid_of_an_interval_is_refused() -> None:
    with pytest.raises(MusictagError, match=r"learning_rate=interval\(0,1\): a grid needs the values themselves"):
        study.job_overrides(with_task("trainer.learning_rate=interval(0,1)"))


def has_sizes(name: str, data: str) -> bool:
    """Whether the study has a file of its own for the data set."""
    return (ROOT / "sweep" / "data" / f"{name}_{data}.yaml").exists()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        # each study with one data set, and where the two have a file of their own
        pytest.param(*pair, marks=[] if has_sizes(*pair) or i % len(DATA) == j else pytest.mark.slow)
        for i, name in enumerate(SWEEPS)
        for j, pair in enumerate((name, data) for data in DATA)
    ],
)
def test_every_job_of_every_study_composes(name: str, data: str) -> None:
    chosen = [f"sweep={name}", f"data={data}", *NEEDED.get(data, [])]
    cfg = sweep_config(*chosen)
    if "optuna" in cfg.hydra.sweeper._target_:
        assert study.job_overrides(cfg) is None
        return
    with read_write(cfg.hydra):
        cfg.hydra.overrides.task = [*chosen, *([] if has_sizes(name, data) else ["data.train_songs=7,8"])]
    jobs = study.job_overrides(cfg)
    assert jobs is not None
    assert len({tuple(job) for job in jobs}) == len(jobs) > 1
    # a student's run is named after that of its teacher, which needs the songs
    for job in [job for job in jobs if not any("model=distilled" in word for word in job)][-1:]:
        config = compose_config(*job)
        assert config["study"] == name
        experiment.check_keys(config)


@pytest.mark.parametrize("name", SWEEPS)
def test_every_study_keeps_to_the_protocol(name: str) -> None:
    """Songs, and nothing that goes with them, are what differs between sizes."""
    config = compose_config(f"sweep={name}")
    assert config["data"]["patches_per_epoch"] % config["data"]["batch_size"] == 0
    assert (config["monitor"], config["monitor_smoothing"]) == ("val_pr_auc", 3)
    assert config["evaluation"]["compare_choices"] == (name != "hyperparameters")
    stopping = config["callbacks"]["early_stopping"]
    assert stopping is None or (stopping["monitor"], stopping["smoothing"]) == ("val_pr_auc", 3)
    for way_back in ("data.patches_per_epoch=null", "trainer.max_epochs=5"):
        identity.check_keys(compose_config(f"sweep={name}", way_back))


def test_the_seeds_are_crossed() -> None:
    cfg = sweep_config("sweep=seeds")
    jobs = [compose_config(*job) for job in study.job_overrides(cfg) or ()]
    assert len({tuple(job["seeds"].values()) for job in jobs}) == len(jobs) == 18
    assert [len({job["seeds"][name] for job in jobs}) for name in ("subset", "initialisation", "order")] == [3, 3, 2]
    folders = {make_run(job).folder(FixedSongs()) for job in jobs}
    assert len(folders) == 18


def test_the_files_of_data_sets_belong_to_studies() -> None:
    for path in (ROOT / "sweep" / "data").glob("*.yaml"):
        name, _, data = path.stem.rpartition("_")
        assert name in SWEEPS
        assert data in DATA


def test_the_study_of_architectures_has_every_published_model() -> None:
    models = sweep_config("sweep=architectures").hydra.sweeper.params.model.split(",")
    published = {path.stem for path in (ROOT / "conf/model").glob("*.yaml") if "paper:" in path.read_text()}
    assert set(models) == published | {"baseline_gbt", "baseline_logistic"}


def test_a_study_without_sizes_for_a_data_set_asks_for_them(tiny: list[str], tmp_path: Path) -> None:
    done = sweep("sweep=dataset_size", *tiny, WITHOUT_MODELS)
    assert done.returncode == 1
    assert "data.train_songs is needed: this study has none for data=catalogue; use for example" in done.stderr
    assert not list(tmp_path.glob("runs/*/*"))


def test_a_sweep_is_written_down_runs_each_job_and_skips_what_is_finished(tiny: list[str], tmp_path: Path) -> None:
    words = [*tiny, "sweep=input_length", WITHOUT_MODELS, "seed=3", "data.patch_seconds=0.01,0.5"]
    done = sweep(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    (metrics,) = finished(tmp_path)
    assert (metrics["study"], metrics["seed"], metrics["config"]["data"]["patch_seconds"]) == ("input_length", 3, 0.5)
    (listed,) = (tmp_path / "runs").glob("*/study-input_length.json")
    jobs = study.read_jobs(listed)
    assert [job["job"] for job in jobs] == ["data.patch_seconds=0.01", "data.patch_seconds=0.5"]
    assert jobs[1]["run"] == metrics["run"]
    # one job fails, says why, and the other one has run after it
    assert "is too short" in done.stderr
    assert "its process ended with status 1" in (listed.parent / jobs[0]["run"] / "error.txt").read_text()
    assert not (listed.parent / jobs[1]["run"] / "error.txt").exists()

    written = (listed.parent / jobs[1]["run"] / "metrics.json").stat().st_mtime_ns
    again = sweep(*words[:-1], "data.patch_seconds=0.5,0.6")
    assert "2 jobs, 1 of them finished before" in again.stdout + again.stderr
    assert (listed.parent / jobs[1]["run"] / "metrics.json").stat().st_mtime_ns == written
    assert [m["config"]["data"]["patch_seconds"] for m in finished(tmp_path)].count(0.6) == 1
    # what was to be run before stays on the list
    names = [job["job"] for job in study.read_jobs(listed)]
    assert names == ["data.patch_seconds=0.01", "data.patch_seconds=0.5", "data.patch_seconds=0.6"]


def test_a_job_that_cannot_be_stops_the_sweep_before_any_work(tiny: list[str], tmp_path: Path) -> None:
    done = sweep("sweep=input_length", WITHOUT_MODELS, *tiny, f"data.path={tmp_path / 'nowhere.csv'}")
    assert done.returncode == 1
    assert "nowhere.csv" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("runs/**/error.txt"))


def test_jobs_that_run_at_once_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("LOCAL_RANK", "3")
    cores = available_cores()
    assert "OMP_NUM_THREADS" not in sweeping._environment({})
    assert sweeping._environment({"n_jobs": cores})["OMP_NUM_THREADS"] == "1"
    assert sweeping._environment({"n_jobs": -1})["OMP_NUM_THREADS"] == "1"
    assert "LOCAL_RANK" not in sweeping._environment({})
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert sweeping._environment({"n_jobs": 2})["OMP_NUM_THREADS"] == "7"


def test_a_run_that_another_process_makes_is_left_to_it(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    config = compose_config(*tiny)
    folder = experiment.results_folder(config)
    with lock_run(folder):
        assert sweeping.run_job(config, tiny, {}) is None
        assert "another process is working" in capsys.readouterr().err
        assert not folder.exists()
        with pytest.raises(MusictagError, match="another process is working"):
            experiment.run(config)
    assert not folder.exists()


def test_the_patches_of_a_job_are_those_of_all_its_epochs() -> None:
    words = ["data.train_songs=10", "data.patches_per_song=3", "trainer.max_epochs=7"]
    assert make_run(compose_config(*words)).patches_to_train() == 210
    assert make_run(compose_config(*words[1:])).patches_to_train() is None  # nobody has counted the songs yet
    assert make_run(compose_config(*words, "baseline=gbt")).patches_to_train() is None
    steps = ["data.patches_per_epoch=64", "trainer.max_epochs=7"]
    assert make_run(compose_config(*steps)).patches_to_train() == 7 * 64


def test_the_objective_is_of_the_validation_songs() -> None:
    assert sweeping.objective({"validation": {"val_pr_auc": 0.4, "val_rmse": 0.1}}) == 0.4
    assert sweeping.objective({"validation": {"val_pr_auc": None, "val_rmse": 0.1}}) == -0.1
    assert sweeping.objective(None) is None


def test_a_damaged_list_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study-x.json"
    assert study.read_jobs(path) == []
    for content in ("{", '{"jobs": [{}]}', "[]"):
        path.write_text(content)
        with pytest.raises(MusictagError, match=r"study-x.json is damaged"):
            study.read_jobs(path)


@pytest.mark.slow
def test_a_killed_study_goes_on(tiny: list[str], tmp_path: Path) -> None:
    """Killed with its job at the first checkpoint, started again: the same scores as without a kill."""
    words = ["-m", "seed=0,1", *tiny, "trainer.max_epochs=20"]
    command = [sys.executable, str(ROOT / "train.py"), *words]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=env, start_new_session=True, stdout=subprocess.DEVNULL)
    give_up = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/*/last.ckpt")) and time.monotonic() < give_up:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    killed = finished(tmp_path)
    assert len(killed) < 2
    assert sweep(*words).returncode == 0
    resumed = {metrics["seed"]: metrics["test"] for metrics in finished(tmp_path)}
    fresh = sweep(*(word.replace(f"{tmp_path}/runs", f"{tmp_path}/other") for word in words))
    assert fresh.returncode == 0
    others = [json.loads(path.read_text()) for path in (tmp_path / "other").glob("*/*/metrics.json")]
    assert resumed == {metrics["seed"]: metrics["test"] for metrics in others}


def test_other_intervals_start_no_job_again(tiny: list[str], tmp_path: Path) -> None:
    metrics = experiment.run(compose_config(*tiny))
    asked = compose_config(*tiny, "evaluation.confidence=0.5")
    # the process of such a job could not even begin
    again = sweeping.run_job(asked, [*tiny, "there.is.no.such.key=1"], {})
    assert again is not None
    assert again["test"]["confidence"] == 0.5
    assert again["test"]["rmse"]["value"] == metrics["test"]["rmse"]["value"]
    assert again["test"]["rmse"]["low"] > metrics["test"]["rmse"]["low"]
    (listed,) = study.write_down([[*tiny, "study=again", "evaluation.confidence=0.9"]])
    (job,) = status.read_study_status(listed)
    assert (job.state, job.folder.name) == ("done", metrics["run"])


def test_the_same_job_with_other_songs_takes_its_place(tiny: list[str]) -> None:
    """Else the study would wait for a run that no command makes."""
    words = [*tiny, "study=again"]
    (listed,) = study.write_down([words])
    ((job,), before) = (read_jobs(listed), listed.read_text())
    listed.write_text(before.replace(job["run"], "waveform-residual-00000000"))
    study.write_down([words])
    assert read_jobs(listed) == [job]
