"""Learning from another tagger: its loss against plain formulas, what it teaches, and what of it stays behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torchaudio.functional import resample

import musictag
from musictag.common.errors import MusictagError
from musictag.experiment import run as experiment
from musictag.experiment.compose import compose
from musictag.experiment.identity import system_label
from musictag.inference.ensemble import write_members
from musictag.inference.tagger import Tagger
from musictag.models.checkpoint import read_tagger
from musictag.models.network import TaggingNetwork
from musictag.report.settings import read_settings
from musictag.training.distillation import Distillation, Teacher, in_patches
from musictag.training.losses import BCE
from tests.helpers.catalogues import read_rows, synthetic_song, write_table
from tests.helpers.embeddings import CONNECTED, MUSICNN, RESIDUAL, WAVEFORM, save
from tests.helpers.experiments import TINY, compose_config, folders, run
from tests.helpers.models import as_trained, penultimate
from tests.helpers.plain_training import write_beginning
from tests.helpers.processes import TRAIN, TWO_PROCESSES, only_run, without_seconds
from tests.helpers.processes import run as run_program
from tests.training.test_signals import assert_the_same

TAGS = [{"name": name, "kind": "classification"} for name in ("high", "noisy", "soft", "slow")]


def network(
    *tags: int, seed: int = 0, seconds: float = 0.5, frontend: dict = WAVEFORM, backend: dict = RESIDUAL
) -> TaggingNetwork:
    """For the tags at these places of TAGS, in this order."""
    torch.manual_seed(seed)
    made = TaggingNetwork(frontend, backend, [TAGS[place] for place in tags], seconds)
    as_trained(made)
    return made.eval()


@pytest.fixture
def teacher(tmp_path: Path) -> tuple[TaggingNetwork, str]:
    """Of other tags in another order, with patches of the student's length; and its file."""
    made = network(2, 1, 0, seed=1, frontend=MUSICNN, backend=CONNECTED)
    return made, save(tmp_path / "teacher" / "tagger.safetensors", made)


def ready(student: TaggingNetwork, model: str, signal: str, weight: float = 1.0) -> Distillation:
    made = Distillation(student, model, signal, weight)
    made.teacher.to(torch.device("cpu"))
    return made


def gradients(loss: Tensor, of: nn.Module) -> list[Tensor]:
    return torch.autograd.grad(loss, [weights for weights in of.parameters() if weights.requires_grad])


def test_the_loss_on_probabilities_is_the_cross_entropy_with_the_teachers(teacher: tuple[TaggingNetwork, str]) -> None:
    student, waveform = network(0, 3, 1), 0.1 * torch.randn(3, 8000)
    distillation = ready(student, teacher[1], "probabilities", weight=0.3)
    assert distillation.about == f"Teacher {teacher[1]}: 2 of the 3 tags (not slow)"
    logits, loss = distillation(student, waveform)
    with torch.no_grad():
        told = teacher[0](waveform).sigmoid()[:, [2, 1]]  # high and noisy
    probability = student(waveform).sigmoid()[:, [0, 2]]
    plain = 0.3 * -(told * probability.log() + (1 - told) * (1 - probability).log()).mean()
    torch.testing.assert_close(logits, student(waveform))
    torch.testing.assert_close(loss, plain, atol=1e-6, rtol=1e-5)
    for own, expected in zip(gradients(loss, student), gradients(plain, student), strict=True):
        torch.testing.assert_close(own, expected, atol=1e-6, rtol=1e-4)


def test_the_loss_on_embeddings_is_a_cosine_whatever_the_tags(teacher: tuple[TaggingNetwork, str]) -> None:
    student, waveform = network(3), 0.1 * torch.randn(3, 8000)
    distillation = ready(student, teacher[1], "embeddings", weight=2.0)
    _, loss = distillation(student, waveform)
    with torch.no_grad():
        told = penultimate(teacher[0].backend, teacher[0].frontend(waveform))
    own = distillation.projection(penultimate(student.backend, student.frontend(waveform)))
    plain = 2 * (1 - (own * told).sum(1) / own.norm(dim=1) / told.norm(dim=1)).mean()
    torch.testing.assert_close(loss, plain, atol=1e-5, rtol=1e-5)
    learning = nn.ModuleList([student.frontend, distillation])
    for one, expected in zip(gradients(loss, learning), gradients(plain, learning), strict=True):
        torch.testing.assert_close(one, expected, atol=1e-5, rtol=1e-3)
    # the teacher is no part of what is trained and saved, and nothing listens to the student afterwards
    assert [name for name, _ in distillation.named_parameters()] == ["projection.weight", "projection.bias"]
    assert not student.backend.output._forward_pre_hooks


def test_a_student_learns_the_teachers_tags_from_songs_without_labels(tmp_path: Path) -> None:
    def songs(seed: int) -> tuple[Tensor, np.ndarray]:
        high = np.arange(24) % 2 == 0
        made = [synthetic_song(0.5, bool(is_high), False, 0.5, seed + n) for n, is_high in enumerate(high)]
        return torch.from_numpy(np.stack(made)), high

    teaching, (heard, high) = network(0, seed=1, frontend=MUSICNN, backend=CONNECTED), songs(100)
    with torch.no_grad():  # it decides by the nearer mean of what it hears in high and in low songs
        features = penultimate(teaching.backend, teaching.frontend(heard))
        means = [features[torch.from_numpy(which)].mean(0) for which in (high, ~high)]
        towards = (means[0] - means[1]) / (means[0] - means[1]).square().sum() * 8
        teaching.backend.output.weight.copy_(towards[None])
        teaching.backend.output.bias.fill_(-float(towards @ (means[0] + means[1]) / 2))
    student = network(0, seed=2, frontend=MUSICNN, backend=CONNECTED)
    distillation = ready(student, save(tmp_path / "tagger.safetensors", teaching), "probabilities")
    unlabelled, (tested, truth) = songs(1000)[0], songs(2000)
    optimizer, unknown = torch.optim.Adam(student.parameters(), 0.01), torch.full((12, 1), torch.nan)
    with torch.no_grad():
        assert roc_auc_score(truth, student(tested).flatten()) < 0.5
    student.train()
    for step in range(24):
        logits, taught = distillation(student, unlabelled[torch.arange(12) + step % 12])
        optimizer.zero_grad()
        (BCE()(logits, unknown) + taught).backward()
        optimizer.step()
    scores = student.eval()(tested).detach().flatten()
    assert roc_auc_score(truth, scores) > 0.9


def test_an_ensemble_teaches_its_mean(teacher: tuple[TaggingNetwork, str], tmp_path: Path) -> None:
    other = network(2, 1, 0, seed=5)
    members = [Path(teacher[1]), Path(save(tmp_path / "other.safetensors", other))]
    write_members(tmp_path / "both", members)
    both = Teacher(str(tmp_path / "both"), "probabilities", 16000)
    both.to(torch.device("cpu"))
    waveform = 0.1 * torch.randn(2, 8000)
    with torch.no_grad():
        mean = (teacher[0](waveform).sigmoid() + other(waveform).sigmoid()) / 2
    torch.testing.assert_close(both(waveform), mean, atol=1e-5, rtol=1e-5)
    with pytest.raises(MusictagError, match="an ensemble has no layers"):
        Teacher(str(tmp_path / "both"), "embeddings", 16000)


def test_patches_of_other_lengths_and_rates(teacher: tuple[TaggingNetwork, str]) -> None:
    long = torch.arange(20000.0)[None]
    places = in_patches(long, teacher[0])[0, :, 0]
    assert places.tolist() == [0, 12000]  # 2.5 patches of 8,000 samples: two, from end to end
    assert in_patches(long[:, :11000], teacher[0])[0, :, 0].tolist() == [1500]
    short = in_patches(long[:, :5000], teacher[0])[0, 0]
    assert short[[0, 4999, 5000, 7999]].tolist() == [0, 4999, 0, 2999]  # as a short song is tagged
    heard = Teacher(teacher[1], "probabilities", 32000)
    heard.to(torch.device("cpu"))
    waveform = 0.1 * torch.randn(2, 16000)
    with torch.no_grad():
        expected = teacher[0](resample(waveform, 32000, 16000)).sigmoid()
    torch.testing.assert_close(heard(waveform), expected, atol=1e-5, rtol=1e-5)


# whole runs


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
    with pytest.raises(MusictagError, match=message):
        experiment.run(compose_config(*taught, *words))
    assert not list(tmp_path.glob("data/*"))


def test_a_baseline_is_no_teacher_and_a_frozen_network_no_student(
    teacher: tuple[TaggingNetwork, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("musictag.training.distillation.load", lambda model: Trees(TAGS, 16000))
    with pytest.raises(MusictagError, match="features and trees describe whole songs"):
        Teacher("model.json", "probabilities", 16000)
    monkeypatch.undo()
    student = network(0)
    for name, weights in student.named_parameters():
        weights.requires_grad_(name.startswith("backend.output."))
    with pytest.raises(MusictagError, match="all of that is frozen"):
        Distillation(student, teacher[1], "embeddings", 1.0)


class Trees(Tagger):
    """Takes whole songs."""

    predict_song = taggram = embedder = layers = None
