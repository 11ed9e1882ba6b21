"""Bad input stops a run before work starts, says what to do, and loses nothing. A bad song costs that song only."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

import musictag
from musictag.common.errors import MusictagError
from musictag.experiment import run as experiment
from musictag.models.checkpoint import read_tagger, store_tagger
from tests.experiment.test_run import ENVIRONMENT, TRAIN, train
from tests.helpers.experiments import TINY, compose_config, folders
from tests.helpers.processes import program


@pytest.fixture
def tiny(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *folders(tmp_path)]


def edit(catalogue: Path, change) -> None:
    """Rewrite the catalogue's rows: ``change`` gets each row as a dictionary."""
    with catalogue.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        change(row)
    with catalogue.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def tag_columns(catalogue: Path) -> list[str]:
    with catalogue.open(newline="") as file:
        (header, *_) = csv.reader(file)
    return [name for name in header if name not in ("song_id", "path", "split", "group", "duration")]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("frontend=wavefrm", ["'frontend/wavefrm'", "waveform", "spectrogram"]),
        *(
            pytest.param(override, said, marks=pytest.mark.slow)
            for override, said in (
                ("trainer.max_epoch=3", ["trainer has no key max_epoch; it has", "max_epochs"]),
                ("speed=3", ["there is no key speed; the keys are", "seed"]),
                ("data=catalogue", ["data.path is needed; use data.path="]),
                ("trainer.max_epochs=[3", ["input '[3'"]),
            )
        ),
    ],
)
def test_a_mistyped_command_line_is_told_what_exists(override: str, said: list[str]) -> None:
    done = train(override, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for word in ("musictag: ", *said):
        assert word in done.stderr


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+frontend.layers=3"], r"has no setting layers; allowed: channels"),
        (["+data.genre=rock"], r"data has no key genre; it has path, root, tags"),
        (["+trainer.epochs=3"], r"trainer has no key epochs; did you mean min_epochs or max_epochs"),
        (["+speed=3"], r"there is no key speed; did you mean seed"),
        (["+logger.project=x"], r"logger.project has no _target_"),
        (["logger=wandb", "+logger.wandb.projct=x"], r"logger.wandb has no key projct; did you mean project\?"),
        (
            ["loss._target_=torch.nn.HingeEmbeddingLoss"],
            r"makes a HingeEmbeddingLoss, not a musictag.training.losses.Loss",
        ),
        (["data.sampler._target_=torch.nn.ReLU"], r"data.sampler._target_=torch.nn.ReLU is not a subclass of .*TrainB"),
        (["+data.sampler.power=1"], r"data.sampler has no key power; it has songs"),
        (["data.sampler=null"], r"data.sampler has no _target_"),
        (["+scheduler.warmup=0.1"], r"scheduler has no key warmup; it has optimizer, mode, factor"),
        (["scheduler=null"], r"scheduler=null: choose one of constant, .*, or leave scheduler out"),
        (["backend=5"], r"backend=5: choose one of convolutional, .*, or leave backend out"),
        (["seeds=1"], r"seeds is a group of keys, which are set one by one, and cannot be 1"),
        (["distillation=null"], r"distillation is a group of keys, .* cannot be None"),
        (["study=2024"], r"study=2024 must be a name"),
        (["data.train_songs=all"], r"data.train_songs=all must be a whole number or null"),
        (["data.batch_size=1e2"], r"data.batch_size=100.0 must be a whole number"),
        (["data.unlabelled_share=1"], r"data.unlabelled_share=1 must be between 0 and 1"),
        (["evaluation.batch_size=null"], r"evaluation.batch_size=None must be a whole number"),
        (["study=a/b"], r"study='a/b' must be a name .* without /"),
        (["monitor=loss"], r"choose one of val_loss"),
        (["trainer.strategy=fsdp"], r"use auto or trainer=ddp"),
        (["evaluation.mode=middle"], r"choose one of patches, whole"),
        (["trainer.precision=12"], r"choose one of 32-true"),
        (["trainer.accelerator=quantum"], r"see the trainer\.\* keys"),
        (
            [
                "trainer=ddp",
                "trainer.devices=2",
                "trainer.accelerator=cpu",
                "data.batch_size=5",
                "trainer.sync_batchnorm=false",
            ],
            r"5 / 2 = 2\.5 is not a whole number of patches each; use data.batch_size=4 or data.batch_size=6",
        ),
        (["trainer.devices=2"], r"2 processes need a strategy; use trainer=ddp"),
        (["frontend.sample_rate=44100"], r"frontend.sample_rate=44100, but the audio is prepared at 16000 Hz"),
        (["+data.sample_rate=8000"], r"data.sample_rate=8000, but"),
        (["data.patch_seconds=0.05"], r"data.patch_seconds=0.05 is too short: 800 samples .* use data.patch_seconds="),
        (["data.train_songs=1000"], r"there are \d+ training songs"),
        (["data.path=nowhere.csv"], r"nowhere.csv"),
        (["data.batch_size=1"], r"data.batch_size=1 with .* steps of a single patch, .* use data.batch_size=2 or more"),
        (
            ["data.train_songs=1"],
            r"=4 with 1 patches in an epoch .* or more, with as many patches \(data.train_songs, ",
        ),
        (["trainer.max_epochs=-1"], r"trainer.max_epochs=-1 must be a whole number from 0 on"),
        (["trainer.max_epochs=null"], r"trainer.max_epochs=None must be a whole number from 0 on"),
        (["+trainer.max_time=00:00:00:01"], r"trainer.max_time=00:00:00:01 is not possible here: training ends with"),
        (["trainer.precision=16-mixed"], r"trainer.precision=16-mixed needs a GPU; on a CPU use .*bf16-mixed or 32-tr"),
        (["callbacks.early_stopping.patience=0"], r"patience=0 must be at least 1; .* callbacks.early_stopping=null"),
        (["loss=asymmetric"], r"Asymmetric is a loss for classification tags alone, .*: brightness; .*loss=focal_bce"),
        (
            ["recipe=early_dropout", "compile=true"],
            r"callbacks.dropout cannot be compiled; use compile=false, or callbacks",
        ),
        (["optimizer.lr=null"], r"optimizer.lr=None must be a number"),
        (["optimizer.lr=-1"], r"optimizer cannot be created with these settings: Invalid learning rate: -1"),
        (["distillation.weight=3"], r"distillation.weight=3: only a teacher is learned from; use teacher=..., or omit"),
        (["data.unlabelled_share=0.2"], r"data.unlabelled_share=0.2: only a teacher"),
        (["frontend._target_=os.system"], r"os.system is not a FrontEnd"),
        (["data._target_=subprocess.Popen"], r"data has no key .*path"),
    ],
    ids=lambda value: value[0].split("=")[0] if isinstance(value, list) else "",
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    tiny: list[str], tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(MusictagError, match="(?is)" + message):
        experiment.run(compose_config(*tiny, *overrides))
    assert not list(tmp_path.glob("runs/**/*.ckpt"))


def test_the_command_line_prints_the_message_alone(tiny: list[str]) -> None:
    done = train(*tiny, "data.patch_seconds=0.05", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("musictag: data.patch_seconds=0.05 is too short")
    assert "Traceback" not in done.stderr


def test_bad_songs_cost_only_themselves(tiny: list[str], tiny_catalogue: Path) -> None:
    with tiny_catalogue.open(newline="") as file:
        paths = [tiny_catalogue.parent / row["path"] for row in csv.DictReader(file) if row["split"] == "train"]
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:2000])
    paths[2].write_text("this is no audio")
    soundfile.write(paths[3], np.zeros(32000, np.int16), 16000)
    config = compose_config(*tiny, "data.max_bad_fraction=0.5")
    metrics = experiment.run(config)
    assert metrics["songs_unusable"] == 4
    (report,) = Path(config["data_dir"]).glob("*/problems.csv")
    reasons = " / ".join(row["reason"] for row in csv.DictReader(report.open(newline="")))
    for word in ("not found", "cut short", "cannot be read", "silent"):
        assert word in reasons
    with pytest.raises(MusictagError, match=r"max_bad_fraction"):
        experiment.run(compose_config(*tiny, "data.max_bad_fraction=0.01", "seed=1"))


def test_an_empty_split_is_named(tiny: list[str], tiny_catalogue: Path) -> None:
    edit(tiny_catalogue, lambda row: row.update(split="train" if row["split"] == "test" else row["split"]))
    with pytest.raises(MusictagError, match=r"test: 0"):
        experiment.run(compose_config(*tiny))


def test_a_tag_without_positives_is_named_where_it_is_asked_for(tiny: list[str], tiny_catalogue: Path) -> None:
    tag, other = tag_columns(tiny_catalogue)[:2]
    edit(tiny_catalogue, lambda row: row.update({tag: "0"} if row["split"] == "train" else {}))
    with pytest.raises(MusictagError, match=rf"{tag} \(no positive song\)"):
        experiment.run(compose_config(*tiny, f"data.tags=[{other},{tag}]"))


def test_a_loss_that_is_no_number_stops_with_the_songs(tiny: list[str], tmp_path: Path) -> None:
    # a learning rate that no float can follow
    config = compose_config(*tiny, "optimizer.lr=1e30", "trainer.gradient_clip_val=null", "trainer.max_epochs=5")
    with pytest.raises(
        MusictagError, match=r"the loss became (nan|inf) in epoch \d, in the batch with the songs \w+"
    ) as caught:
        experiment.run(config)
    run_dir = experiment.results_folder(config)
    assert (run_dir / "error.txt").read_text().strip() == str(caught.value)
    assert not (run_dir / "metrics.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.99])
def test_a_full_disk_loses_no_finished_epoch(tiny: list[str], tmp_path: Path, share: float) -> None:
    config = compose_config(*tiny, "trainer.max_epochs=4")
    never_full = experiment.run(config)
    room = int(share * (experiment.results_folder(config) / "tagger.safetensors").stat().st_size)
    settings = [*tiny, "trainer.max_epochs=4", f"runs_dir={tmp_path / 'full'}"]

    def small_disk() -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    done = subprocess.run([*TRAIN, *settings], capture_output=True, text=True, env=ENVIRONMENT, preexec_fn=small_disk)
    assert done.returncode == 1
    assert "no room to write" in done.stderr
    run_dir = experiment.results_folder(compose_config(*settings))
    assert not list(run_dir.glob("*.ckpt"))
    assert not list(run_dir.glob(".*.part"))
    train(*settings)
    assert json.loads((run_dir / "metrics.json").read_text())["epochs"] == never_full["epochs"]
    assert not (run_dir / "error.txt").exists()


def test_a_checkpoint_that_would_build_anything_else_is_refused(tiny: list[str], tmp_path: Path) -> None:
    config = compose_config(*tiny, "trainer.max_epochs=1")
    experiment.run(config)
    stored = read_tagger(experiment.results_folder(config) / "tagger.safetensors")
    stored.description["frontend"]["_target_"] = "os.system"
    store_tagger(tmp_path / "evil.safetensors", stored.description, stored.state)
    with pytest.raises(MusictagError, match="classes of musictag"):
        musictag.load(tmp_path / "evil.safetensors")
    done = program("musictag.cli", "tag", "x.wav", "--model", str(tmp_path / "evil.safetensors"))
    assert done.returncode == 1
    assert "classes of musictag" in done.stderr
    assert "Traceback" not in done.stderr
