"""Learning from another tagger: its loss against plain formulas, what it teaches, and what of it stays behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torchaudio.functional import resample

from musictag.common.errors import MusictagError
from musictag.inference.ensemble import write_members
from musictag.inference.tagger import Tagger
from musictag.models.network import TaggingNetwork
from musictag.training.distillation import Distillation, Teacher, in_patches, teacher_digest
from musictag.training.losses import BCE
from tests.helpers.catalogues import synthetic_song
from tests.helpers.embeddings import CONNECTED, MUSICNN, save
from tests.helpers.encoders import make
from tests.helpers.models import penultimate
from tests.helpers.teachers import TAGS, make_teacher, network


@pytest.fixture
def teacher(tmp_path: Path) -> tuple[TaggingNetwork, str]:
    return make_teacher(tmp_path)


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


@pytest.mark.parametrize("signal", ["probabilities", "embeddings"])
def test_stored_features_teach_what_the_teacher_would(teacher: tuple[TaggingNetwork, str], signal: str) -> None:
    student, waveform = network(0, 3, 1).eval(), 0.1 * torch.randn(3, 8000)
    distillation = ready(student, teacher[1], signal)
    with torch.no_grad():
        before = teacher[0].backend.before_head()(teacher[0].frontend(waveform))
        features = (
            before if signal == "probabilities" else penultimate(teacher[0].backend, teacher[0].frontend(waveform))
        )
    _, heard = distillation(student, waveform)
    _, stored = distillation(student, waveform, features.half())
    _, other = distillation(student, waveform, torch.randn_like(features).half())
    torch.testing.assert_close(stored, heard, atol=1e-4, rtol=1e-3)
    assert abs(other - heard) > 1e-3


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
    with pytest.raises(MusictagError, match="an ensemble has no layers"):
        Distillation(other, str(tmp_path / "both"), "probabilities", 1.0, stored=True)


def test_patches_of_other_lengths_and_rates(teacher: tuple[TaggingNetwork, str]) -> None:
    long = torch.arange(20000.0)[None]
    places = in_patches(long, teacher[0])[0, :, 0]
    assert places.tolist() == [0, 12000]  # 2.5 patches of 8,000 samples: two, from end to end
    assert in_patches(long[:, :11000], teacher[0])[0, :, 0].tolist() == [1500]
    short = in_patches(long[:, :5000], teacher[0])[0, 0]
    assert short[[0, 4999, 5000, 7999]].tolist() == [0, 4999, 0, 2999]  # as a short song is tagged
    heard = Teacher(teacher[1], "probabilities", 32000)
    with pytest.raises(MusictagError, match="needs a teacher that hears the 32000 Hz of the prepared audio"):
        heard.stored()
    heard.to(torch.device("cpu"))
    waveform = 0.1 * torch.randn(2, 16000)
    with torch.no_grad():
        expected = teacher[0](resample(waveform, 32000, 16000)).sigmoid()
    torch.testing.assert_close(heard(waveform), expected, atol=1e-5, rtol=1e-5)


def test_a_teacher_hears_the_students_patch_and_the_song_around_it(teacher: tuple[TaggingNetwork, str]) -> None:
    around = network(0, frontend=MUSICNN | {"pad_mode": "song"}, backend=CONNECTED)
    waveform, margin = torch.randn(2, around.input_samples), around.margin_samples
    assert margin == (256, 0)
    torch.testing.assert_close(in_patches(waveform, around, margin)[:, 0], waveform, rtol=0, atol=0)
    heard = ready(around, teacher[1], "probabilities").teacher(waveform)
    with torch.no_grad():
        expected = teacher[0](waveform[:, margin[0] :]).sigmoid()
    torch.testing.assert_close(heard, expected, atol=1e-5, rtol=1e-5)


def test_an_encoder_teaches_its_embeddings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make("hubert", tmp_path / "encoder")
    student, waveform = network(3), 0.1 * torch.randn(2, 8000)
    distillation = ready(student, str(tmp_path / "encoder"), "embeddings")
    assert "licence cc-by-nc-4.0" in capsys.readouterr().out
    heard = resample(waveform, 16000, 24000)
    heard = (heard - heard.mean(1, keepdim=True)) / heard.std(1, correction=0, keepdim=True)
    with torch.no_grad():
        expected = model(heard).last_hidden_state.mean(1)
    torch.testing.assert_close(distillation.teacher(waveform), expected, atol=1e-4, rtol=1e-4)
    assert distillation(student, waveform)[1].requires_grad
    before = teacher_digest(str(tmp_path / "encoder"))
    make("hubert", tmp_path / "encoder", num_hidden_layers=2)
    assert teacher_digest(str(tmp_path / "encoder")) != before


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
