"""Runs that learn from another tagger: what identifies them, what they leave, how they resume, what they refuse."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import musictag
from musictag.common.errors import MusictagError
from musictag.data.store.store import Store
from musictag.experiment import run as experiment
from musictag.experiment.compose import compose
from musictag.experiment.identity import system_label
from musictag.inference.embedding import BeforeHead
from musictag.inference.ensemble import write_members
from musictag.models.checkpoint import read_tagger
from musictag.models.network import TaggingNetwork
from musictag.report.settings import read_settings
from musictag.training.distillation import Teacher
from musictag.training.module import TaggingModule
from tests.helpers.catalogues import read_rows, write_table
from tests.helpers.embeddings import save
from tests.helpers.encoders import make
from tests.helpers.experiments import TINY, compose_config, folders, run
from tests.helpers.plain_training import write_beginning
from tests.helpers.processes import TRAIN, TWO_PROCESSES, only_run, without_seconds
from tests.helpers.processes import run as run_program
from tests.helpers.teachers import make_teacher, network
from tests.training.test_signals import assert_the_same


@pytest.fixture
def teacher(tmp_path: Path) -> tuple[TaggingNetwork, str]:
    return make_teacher(tmp_path)


@pytest.fixture
def tiny(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *folders(tmp_path)]


@pytest.fixture
def taught(tiny: list[str], teacher: tuple[TaggingNetwork, str]) -> list[str]:
    return [*tiny, f"teacher={teacher[1]}"]


def places(*overrides: str) -> Path:
    return experiment.results_folder(compose_config(*overrides))


def test_a_teacher_counts_by_its_content_alone(
    taught: list[str], tiny: list[str], teacher: tuple[TaggingNetwork, str], tmp_path: Path
) -> None:
    own = places(*taught)
    elsewhere = shutil.copy(teacher[1], tmp_path / "copy.safetensors")
    assert places(*tiny, f"teacher={elsewhere}") == own
    assert places(*taught, "data.unlabelled_share=0.5") == own
    other = save(tmp_path / "other.safetensors", network(0, seed=9))
    changes = ("distillation.weight=2", "distillation.signal=embeddings", "data.unlabelled_share=0.25")
    different = [places(*tiny), places(*tiny, f"teacher={other}"), *(places(*taught, change) for change in changes)]
    assert len({own, *different}) == 6
    # without a teacher the same run as ever
    assert places(*tiny, *changes) == places(*tiny)
    # an ensemble is that of its members
    both = [Path(teacher[1]), Path(other)]
    write_members(tmp_path / "both", both)
    before = places(*tiny, f"teacher={tmp_path / 'both'}")
    save(tmp_path / "both" / "member-1.safetensors", network(0, seed=10))
    assert places(*tiny, f"teacher={tmp_path / 'both'}") != before


def test_unlabelled_songs_concern_a_taught_run_alone(taught: list[str], tiny: list[str], tiny_catalogue: Path) -> None:
    before = places(*tiny), places(*taught)
    rows = read_rows(tiny_catalogue)
    shutil.copy(tiny_catalogue.parent / "audio" / "train-00.wav", tiny_catalogue.parent / "audio" / "more.wav")
    write_table(tiny_catalogue, [*rows, rows[0] | {"song_id": "more", "path": "audio/more.wav", "split": "unlabelled"}])
    assert places(*tiny) == before[0]
    assert places(*taught) != before[1]


def test_the_teacher_hears_what_augmentations_made_of_the_patch(
    taught: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their gain leaves no sample where 16 bits had it."""
    heard, own = [], []
    teach, learn = Teacher.__call__, TaggingNetwork.forward
    monkeypatch.setattr(Teacher, "__call__", lambda self, waveform: heard.append(waveform) or teach(self, waveform))

    def learning(network: TaggingNetwork, waveform: Tensor) -> Tensor:
        if waveform.device.type != "meta":
            own.append(waveform)
        return learn(network, waveform)

    monkeypatch.setattr(TaggingNetwork, "forward", learning)
    run(*taught, "trainer.max_epochs=1", "recipe=gain")
    assert len(heard) == 3
    for waveform in heard:
        assert any(waveform is given for given in own)
        assert not torch.equal(waveform * 32768, (waveform * 32768).round())


def test_a_stored_teacher_hears_each_song_once(
    taught: list[str], teacher: tuple[TaggingNetwork, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*taught, "distillation.stored=true", "data.patches_per_song=2"]
    assert places(*words) != places(*taught, "data.patches_per_song=2")
    batches = []
    teach, train = Teacher.of_features, TaggingModule.training_step

    def training(module: TaggingModule, batch: dict[str, Tensor], number: int) -> Tensor:
        batches.append(batch)
        return train(module, batch, number)

    monkeypatch.setattr(TaggingModule, "training_step", training)
    monkeypatch.setattr(Teacher, "__call__", None)  # hears no patch
    told = []
    monkeypatch.setattr(Teacher, "of_features", lambda self, given: told.append(given) or teach(self, given))
    run(*words, "trainer.max_epochs=1")
    assert [batch["taught"] is given for batch, given in zip(batches, told, strict=True)] == [True] * 6
    # its patch in which the middle of the student's is, found again by what the student hears
    embedder, (store,) = BeforeHead(teacher[0]), (tmp_path / "data").glob("catalogue*")
    songs = Store(store)
    whole = [songs.read(row) for row in range(len(songs))]
    features = [embedder.embed_patches(audio)[1] for audio in whole]
    places_seen = set()
    for batch in batches:
        for audio, own in zip(batch["audio"].numpy(), batch["taught"].float().numpy(), strict=True):
            song, start = next((n, at) for n, one in enumerate(whole) if (at := found_at(one, audio)) >= 0)
            place = min((start + 4000) // 8000, len(features[song]) - 1)
            np.testing.assert_allclose(own, features[song][place], rtol=0.01, atol=0.001)
            places_seen.add(place)
    assert len(places_seen) > 2
    with pytest.raises(MusictagError, match=r"augmentation.mixup mixes songs, .* use distillation.stored=false"):
        experiment.run(compose_config(*words, "recipe=mixup"))


def found_at(song: np.ndarray, audio: np.ndarray) -> int:
    """Where in ``song`` these samples are; -1: nowhere."""
    return song.tobytes().find(audio.tobytes()) // 2


def test_a_run_with_a_teacher_says_so_and_leaves_the_student_alone(
    taught: list[str], teacher: tuple[TaggingNetwork, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, metrics = run(*taught, "trainer.max_epochs=1", "distillation.signal=embeddings")
    assert f"Teacher {teacher[1]}: its 6 features" in capsys.readouterr().out
    assert system_label(metrics["config"]) == "waveform+residual taught by teacher"
    assert all(name.startswith(("frontend.", "backend.")) for name in read_tagger(folder / "tagger.safetensors").state)
    settings = read_settings(metrics["config"], metrics["locations"], 12)
    assert settings["distillation.signal"] == "embeddings"
    assert "teacher" not in settings


@pytest.mark.parametrize("signal", ["embeddings", pytest.param("probabilities", marks=pytest.mark.slow)])
def test_an_interrupted_run_ends_as_one_never_interrupted(
    taught: list[str], tiny_catalogue: Path, tmp_path: Path, signal: str
) -> None:
    rows = read_rows(tiny_catalogue)
    for row in rows[8:12]:
        row["split"] = "unlabelled"
    write_table(tiny_catalogue, rows)
    words = [*TRAIN, *taught, f"distillation.signal={signal}", "data.patches_per_song=2", "recipe=[gain,ema,mixup]"]
    run_program([*words, f"runs_dir={tmp_path / 'whole'}"], tmp_path / "record")
    stopped = [*words, f"runs_dir={tmp_path / 'stopped'}"]
    run_program(stopped, tmp_path / "records", hurt="SIGTERM:train:0:1:3", status=143)
    run_program(stopped, tmp_path / "records")
    runs = [only_run(tmp_path / name) for name in ("whole", "stopped")]
    assert_the_same(*runs)
    last = torch.load(runs[0] / "last.ckpt", weights_only=True)
    state = last["state_dict"]
    (optimizer,), learning = last["optimizer_states"], musictag.load(runs[0]).network.parameters()
    extra = {name for name in state if not name.startswith("tagger.")}
    assert extra == (
        {"distillation.projection.weight", "distillation.projection.bias"} if signal == "embeddings" else set()
    )
    assert len(optimizer["param_groups"][0]["params"]) == len(list(learning)) + len(extra)


@pytest.mark.slow
def test_two_processes_learn_as_one(tiny_catalogue: Path, tmp_path: Path) -> None:
    """From labels that are unknown for half of the patches, and from a teacher for all of them."""
    rows = read_rows(tiny_catalogue)
    for row in rows[6:12]:
        row["split"] = "unlabelled"
    write_table(tiny_catalogue, rows)
    words = [word for word in TINY if not word.startswith("backend")]
    words += ["backend=recurrent", "backend.units=8", "backend.dropout=0", "scheduler=constant", "data.batch_size=16"]
    words += ["data=catalogue", f"data.path={tiny_catalogue}", *folders(tmp_path), "data.patches_per_song=8"]
    words += [write_beginning(tmp_path / "beginning.safetensors", compose_config(*words)), "freeze=frontend"]
    words.append(f"teacher={save(tmp_path / 'teacher.safetensors', network(1, 0))}")
    run_program([*TRAIN, *words], tmp_path / "alone")
    runs = tmp_path / "together"
    run_program([*TRAIN, *TWO_PROCESSES, *words, f"runs_dir={runs}"], tmp_path / "records")
    folders_of = only_run(tmp_path / "runs"), only_run(runs)
    one, two = (torch.load(folder / "last.ckpt", weights_only=True)["state_dict"] for folder in folders_of)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")
    losses = [without_seconds(folder)[1].split(",")[1] for folder in folders_of]
    assert float(losses[1]) == pytest.approx(float(losses[0]), rel=1e-4)


def test_the_run_of_another_model_can_be_the_teacher(tiny: list[str], tmp_path: Path) -> None:
    words = [word for word in tiny if not word.startswith(("frontend", "backend"))]
    student = [*words, "model=waveform_small", "distillation.model=spectrogram_small"]
    expected = experiment.results_folder(compose([*words, "model=spectrogram_small"]))
    with pytest.raises(MusictagError, match=r"spectrogram_small: the teacher's run .* is not finished"):
        experiment.run(compose(student))
    config = compose([*student, "data.train_songs=6", "distillation.weight=2", "data.unlabelled=rest"])
    assert config["teacher"] == str(
        experiment.results_folder(compose([*words, "model=spectrogram_small", "data.train_songs=6"]))
    )
    assert config["teacher"] != str(expected)
    assert system_label(config) == "waveform_small taught by spectrogram_small"
    # it has an identity before it is trained, as a study lists its runs
    assert places_of(student) != places_of([*words, "model=waveform_small"])
    assert places_of(student) != places_of([*student, "seed=1"])
    for more, message in (
        (["teacher=musicnn-msd"], "teacher=musicnn-msd names one, too"),
        (["model=spectrogram_small"], "it is the student's own model"),
    ):
        with pytest.raises(MusictagError, match=message):
            compose([*student, *more])


def places_of(overrides: list[str]) -> Path:
    return experiment.results_folder(compose(overrides))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["teacher=nowhere.safetensors"], "there is no tagger nowhere.safetensors"),
        (
            ["data.tags=[brightness]"],
            r"has none of these tags: brightness. It has soft, noisy, high; use distillation.s",
        ),
        (
            ["distillation.signal=logits"],
            "distillation.signal=logits does not exist; allowed: probabilities, embeddings",
        ),
        (["teacher=ENCODER"], "is an encoder, without tags: use distillation.signal=embeddings"),
        (["distillation.weight=0"], "distillation.weight=0 must be above 0; without a teacher: teacher=null"),
        (["distillation.signal=embeddings", "compile=true"], "use compile=false"),
        (["recipe=mixup_log_mel"], "augmentation.mixup_log_mel mixes spectrograms, which a teacher does not hear"),
        (["trainer.max_epochs=0", "init_from=nowhere"], "there is no tagger nowhere"),
        (["teacher=null", "data.unlabelled=rest"], "only a teacher can use songs without labels; use teacher=..."),
        (["baseline=logistic"], "teacher with baseline=logistic"),
        (["data.unlabelled_share=0.1"], "makes 0 patches of unlabelled songs in a batch, and 4 of others"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_any_work(
    taught: list[str], tmp_path: Path, words: list[str], message: str
) -> None:
    make("hubert", tmp_path / "encoder")
    words = [word.replace("ENCODER", str(tmp_path / "encoder")) for word in words]
    with pytest.raises(MusictagError, match=message):
        experiment.run(compose_config(*taught, *words))
    assert not list(tmp_path.glob("data/*"))
