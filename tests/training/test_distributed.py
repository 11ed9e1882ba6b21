"""Several processes make the run that one makes: the same songs, patches, gradients and scores, and no doubles.

On CPUs, where batch norm cannot be synchronised: so the network that two processes train as one has none that learns.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from musictag.common.errors import MusictagError
from musictag.experiment import run as experiment
from musictag.experiment.builders import scaled_optimizer
from musictag.training.callbacks.history import History
from musictag.training.signals import SignalHandler
from musictag.training.trainer import build_trainer
from tests.helpers.experiments import ROOT, TINY, compose_config, folders
from tests.helpers.plain_training import write_beginning
from tests.helpers.processes import TRAIN, TWO_PROCESSES, batches, only_run, run, scores

#: 12 songs, 3 batches of 32 patches an epoch; what dropout draws depends on the process.
BATCH_OF_32 = (
    "data.batch_size=32", "data.patches_per_song=8", "scheduler=constant", "backend.dropout=0",
)  # fmt: skip

#: As many, whatever the number of songs; and every choice of the best epoch is tested.
EQUAL_STEPS = [
    "data.patches_per_song=1", "data.patches_per_epoch=96", "monitor_smoothing=2", "evaluation.compare_choices=true",
]  # fmt: skip


@pytest.fixture
def tiny(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *folders(tmp_path)]


def launched(launcher: str, words: list[str]) -> list[str]:
    """The command that runs train.py with two processes."""
    if launcher == "torchrun":
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", TRAIN[1], *words]
    return [*TRAIN, *words]


@pytest.fixture
def no_batch_norms(tiny: list[str], tmp_path: Path) -> list[str]:
    """A network of which a back-end without batch norms is trained, behind a front-end that stays as it is."""
    words = [word for word in tiny if not word.startswith("backend")]
    words += [*BATCH_OF_32, "backend=recurrent", "backend.units=8"]
    return [*words, write_beginning(tmp_path / "beginning.safetensors", compose_config(*words)), "freeze=frontend"]


@pytest.mark.parametrize(
    ("launcher", "more"),
    [
        ("lightning", []),
        pytest.param("torchrun", [], marks=pytest.mark.slow),
        pytest.param("lightning", EQUAL_STEPS, marks=pytest.mark.slow),
    ],
)
def test_two_processes_train_as_one(no_batch_norms: list[str], tmp_path: Path, launcher: str, more: list[str]) -> None:
    no_batch_norms += more
    run([*TRAIN, *no_batch_norms], tmp_path / "alone")
    runs = tmp_path / "together"
    two = [*TWO_PROCESSES, *no_batch_norms, f"runs_dir={runs}"]
    run(launched(launcher, two), tmp_path / "records")

    alone, together = batches(tmp_path / "alone", "train"), batches(tmp_path / "records", "train")
    assert len(alone) == 6
    for one in alone:
        halves = [row for row in together if (row["epoch"], row["batch"]) == (one["epoch"], one["batch"])]
        assert [(row["rank"], row["world"], len(row["songs"])) for row in halves] == [(0, 2, 16), (1, 2, 16)]
        patches = [Counter(zip(row["songs"], row["audio"], strict=True)) for row in (one, *halves)]
        assert patches[0] == patches[1] + patches[2]

    # one folder, with the files that a run of one process has; each test song scored once
    first, second = only_run(tmp_path / "runs"), only_run(runs)
    assert {path.name for path in first.iterdir()} == {path.name for path in second.iterdir()}
    for stage in ("validation", "test"):
        shares = [Counter(r["audio"][i] for r in rows for i in range(len(r["audio"])))
                  for rows in (batches(tmp_path / "alone", stage), batches(tmp_path / "records", stage))]  # fmt: skip
        assert shares[0] == shares[1]
        by_rank = [{song for r in batches(tmp_path / "records", stage) if r["rank"] == rank for song in r["songs"]}
                   for rank in (0, 1)]  # fmt: skip
        assert by_rank[0]
        assert by_rank[1]
        assert not by_rank[0] & by_rank[1]

    # the same sums in another order
    weights = [torch.load(folder / "last.ckpt", weights_only=True)["state_dict"] for folder in (first, second)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")
    predictions = [np.load(folder / "predictions.npz") for folder in (first, second)]
    np.testing.assert_array_equal(predictions[0]["song_ids"], predictions[1]["song_ids"])
    np.testing.assert_allclose(predictions[0]["scores"], predictions[1]["scores"], atol=1e-4)
    validation = [scores(folder)["validation"] for folder in (first, second)]
    assert validation[1]["train_loss"] == pytest.approx(validation[0]["train_loss"], rel=1e-4)
    assert validation[1]["patches"] == validation[0]["patches"] == 96
    choices = [json.loads((folder / "metrics.json").read_text())["choices"] for folder in (first, second)]
    assert [c["epoch"] for c in choices[0].values()] == [c["epoch"] for c in choices[1].values()]
    for name, choice in choices[0].items():
        assert choice["test"] == pytest.approx(choices[1][name]["test"], abs=1e-3)
        assert choice["test"] or not more


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs, whose batch norms are synchronised")
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_stopped_run_goes_on_with_another_number_of_processes(
    tiny: list[str], tmp_path: Path, before: int, after: int
) -> None:
    """In the middle of an epoch: every patch of every batch is trained on once, by however many there are."""
    words = [*tiny, *BATCH_OF_32, "data.batch_size=8", "trainer=ddp"]  # 12 batches an epoch
    run([*TRAIN, *words, "trainer.devices=1"], tmp_path / "alone")
    moved = [*TRAIN, *words, f"runs_dir={tmp_path / 'moved'}"]
    records = tmp_path / "records"
    run([*moved, f"trainer.devices={before}"], records, hurt=f"SIGTERM:train:{before - 1}:1:5", status=143)
    assert 5 <= batches(records, "train")[-1]["batch"] < 11
    run([*moved, f"trainer.devices={after}"], records)

    def trained(folder: Path) -> Counter:
        return Counter((row["epoch"], row["batch"], song, audio) for row in batches(folder, "train")
                       for song, audio in zip(row["songs"], row["audio"], strict=True))  # fmt: skip

    assert trained(records) == trained(tmp_path / "alone")
    assert {row["world"] for row in batches(records, "train")} == {1, 2}
    one, other = only_run(tmp_path / "runs"), only_run(tmp_path / "moved")
    # (not the weights: those of which the loss does not depend follow rounding, and these are 24 steps)
    predictions = [np.load(folder / "predictions.npz")["scores"] for folder in (one, other)]
    np.testing.assert_allclose(predictions[0], predictions[1], atol=1e-3)
    validation = [scores(folder)["validation"] for folder in (one, other)]
    assert validation[1]["train_loss"] == pytest.approx(validation[0]["train_loss"], rel=1e-4)
    assert validation[1]["patches"] == validation[0]["patches"] == 96


@pytest.mark.slow
def test_without_synchronised_batch_norm_two_processes_train_another_model(tiny: list[str], tmp_path: Path) -> None:
    """Therefore it is another run, and what ``test_two_processes_train_as_one`` leaves out matters."""
    run([*TRAIN, *tiny, *BATCH_OF_32], tmp_path / "alone")
    two = [*TWO_PROCESSES, *tiny, *BATCH_OF_32, f"runs_dir={tmp_path / 'together'}", "trainer.sync_batchnorm=false"]
    run([*TRAIN, *two], tmp_path / "records")
    states = [
        torch.load(only_run(runs) / "last.ckpt", weights_only=True)["state_dict"]
        for runs in (tmp_path / "runs", tmp_path / "together")
    ]
    assert any(not torch.allclose(states[0][name], states[1][name], rtol=1e-3, atol=2e-5) for name in states[0])
    assert only_run(tmp_path / "runs").name != only_run(tmp_path / "together").name


@pytest.mark.slow
def test_a_study_trains_every_job_on_both_processes(tiny: list[str], tmp_path: Path) -> None:
    sizes = [
        "~hydra.sweeper.params.model",
        "data.train_songs=6,12",
        "seed=0",
        "trainer.accelerator=cpu",
        "data.patches_per_epoch=null",
    ]
    run([*TRAIN, "sweep=dataset_size", *TWO_PROCESSES, *tiny, *sizes], tmp_path / "records")
    finished = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/*/metrics.json")]
    assert sorted(metrics["songs"]["train"] for metrics in finished) == [6, 12]
    rows = batches(tmp_path / "records", "train")
    for metrics in finished:
        for epoch in range(metrics["epochs"]):
            of_ranks = [
                [song for r in rows if (r["run"], r["epoch"], r["rank"]) == (metrics["run"], epoch, rank)
                 for song in r["songs"]]
                for rank in (0, 1)
            ]  # fmt: skip
            assert len(of_ranks[0]) == len(of_ranks[1]) > 0
            assert not set(of_ranks[0]) & set(of_ranks[1])
            # batches are of 4: of 6 songs 4 are heard in an epoch, others in the next one
            assert len(of_ranks[0] + of_ranks[1]) == metrics["songs"]["train"] // 4 * 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.devices=3", "data.batch_size=32"], r"3 devices x 1 machines = 3 processes, and 32 / 3 = 10\.67 .*"
         r"use data.batch_size=30 or data.batch_size=33"),
        (["trainer.devices=4", "trainer.num_nodes=2", "data.batch_size=4"], r"4 devices x 2 machines = 8 processes"),
        (["trainer.devices=2", "data.batch_size=2", "trainer.sync_batchnorm=false"], r"a\s+single patch.*use "
         r"data.batch_size=4"),
        (["trainer.devices=6", "data.batch_size=12"], r"6 processes .* cannot share the 5 validation songs.*use "
         r"trainer.devices=5 or fewer"),
        (["trainer.devices=2", "trainer.strategy=auto"], r"2 processes need a strategy; use trainer=ddp"),
        (["trainer.devices=2", "trainer.strategy=fsdp"], r"use auto or trainer=ddp"),
        (["trainer.strategy.static_graph=true", "trainer.accumulate_grad_batches=2"], r"=2 exchanges them less often"),
        (["trainer.devices=2", "trainer.strategy.bucket_cap_mb=0"], r"bucket_cap_mb=0: must be above 0"),
        (["trainer.devices=1", "lr_scaling.rule=quadratic"], r"choose one of none, linear, sqrt"),
        (["trainer.devices=1", "callbacks.checkpoint.minutes=0"], r"checkpoint.minutes=0 must be above 0, or null"),
        (["trainer.devices=1", "lr_scaling.reference_batch_size=0"], r"reference_batch_size=0 must be at least 1"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)  # fmt: skip
def test_wrong_combinations_are_refused_with_the_arithmetic(
    tiny: list[str], tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(MusictagError, match="(?s)" + message):
        experiment.run(compose_config(*TWO_PROCESSES, *tiny, *overrides))
    assert not list(tmp_path.glob("runs/*/*/*"))


@pytest.mark.parametrize(("rule", "factor"), [("none", 1.0), ("linear", 4.0), ("sqrt", 2.0)])
def test_the_learning_rate_follows_the_batch(tiny: list[str], rule: str, factor: float) -> None:
    batch = ["data.batch_size=8", "trainer.accumulate_grad_batches=2", "lr_scaling.reference_batch_size=4"]
    config = compose_config(*tiny, *batch, "optimizer.lr=0.001", f"lr_scaling.rule={rule}")
    assert scaled_optimizer(config)["lr"] == pytest.approx(0.001 * factor)


def test_a_scaled_learning_rate_is_trained_with_and_makes_another_run(tiny: list[str]) -> None:
    scaling = ["lr_scaling.rule=linear", "lr_scaling.reference_batch_size=1", "scheduler=constant"]
    config = compose_config(*tiny, *scaling, "trainer.max_epochs=1")
    assert experiment.run(config)["validation"]["learning_rate"] == pytest.approx(0.004)
    unscaled = [compose_config(*tiny, f"lr_scaling.reference_batch_size={size}") for size in (32, 64)]
    folder = experiment.results_folder(unscaled[0])
    assert folder == experiment.results_folder(unscaled[1])
    assert folder != experiment.results_folder(compose_config(*tiny, "lr_scaling.rule=linear"))


def test_what_ddp_is_told_reaches_it(tiny: list[str], tmp_path: Path) -> None:
    settings = [
        "trainer.strategy.bucket_cap_mb=3",
        "trainer.strategy.static_graph=true",
        "trainer.strategy.timeout.minutes=7",
        "trainer.devices=2",
        "trainer.sync_batchnorm=false",
    ]
    config = compose_config("trainer=ddp", *tiny, *settings)
    history = History(tmp_path / "history.csv", announce=False)
    trainer = build_trainer(config, tmp_path, history, [], SignalHandler())
    assert trainer.strategy._ddp_kwargs["bucket_cap_mb"] == 3
    assert trainer.strategy._ddp_kwargs["static_graph"] is True
    assert trainer.strategy._timeout.total_seconds() == 420


@pytest.mark.slow
def test_a_static_graph_in_small_buckets_learns_the_same(tiny: list[str], tmp_path: Path) -> None:
    states = []
    for name, more in (
        ("plain", []),
        ("other", ["trainer.strategy.static_graph=true", "trainer.strategy.bucket_cap_mb=0.001"]),
    ):
        words = [*TWO_PROCESSES, *tiny, *BATCH_OF_32, f"runs_dir={tmp_path / name}"]
        run([*TRAIN, *words, *more], tmp_path / f"records-{name}")
        states.append(torch.load(only_run(tmp_path / name) / "last.ckpt", weights_only=True)["state_dict"])
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=1e-4, atol=1e-6)


def test_ranks_that_do_not_fit_the_launcher_are_named(tiny: list[str], tmp_path: Path) -> None:
    told = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29555",
            "TORCHELASTIC_RUN_ID": "x", "GROUP_RANK": "0"}  # fmt: skip
    done = run([*TRAIN, *TWO_PROCESSES, *tiny], tmp_path / "records", status=1, **told)
    assert "started 3 processes, but trainer.devices=2 x trainer.num_nodes=1 = 2; make them equal" in done.stderr
    assert "Traceback" not in done.stderr
    assert str(ROOT) not in done.stderr
