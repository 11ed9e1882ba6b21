"""Runs on pretrained encoders: probes and fine-tuning in parts, which resume exactly and leave taggers."""

from __future__ import annotations

import json
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
import torch

import musictag
from musictag.common.errors import MusictagError
from musictag.experiment import run as experiment
from musictag.experiment.identity import system_label
from musictag.models.factory import build
from musictag.models.frontends import FrontEnd
from musictag.models.frontends.encoder import described
from musictag.models.network import TaggingNetwork
from musictag.training.finetune import NO_FINETUNING, FineTuning
from musictag.training.module import TaggingModule
from musictag.training.optimizers import make_optimizer
from musictag.training.signals import Stopped
from tests.helpers.encoders import make, spec
from tests.helpers.experiments import TINY, compose_config, folders
from tests.training.test_signals import assert_the_same

LINEAR = ["backend=pooling", "backend.pooling=mean", "backend.dropout=0"]


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    make("hubert", tmp_path / "encoder")
    return tmp_path / "encoder"


@pytest.fixture
def words(tiny_catalogue: Path, tmp_path: Path, encoder: Path) -> list[str]:
    small = [word for word in TINY if word.startswith(("data.", "trainer.", "evaluation."))]
    return ["data=catalogue", f"data.path={tiny_catalogue}", *small, *LINEAR, "frontend=huggingface",
            "trainer.max_epochs=1", f"frontend.name={encoder}", *folders(tmp_path)]  # fmt: skip


def run(*words: str) -> tuple[Path, dict]:
    config = compose_config(*words)
    experiment.run(config)
    folder = experiment.results_folder(config)
    return folder, json.loads((folder / "metrics.json").read_text())


def encoder_of(folder: Path) -> dict[str, torch.Tensor]:
    return musictag.load(folder).network.frontend.encoder.state_dict()


def changed(folder: Path, before: dict[str, torch.Tensor]) -> set[str]:
    """Which parts of the encoder differ from ``before``: its blocks by number, or ``stem``."""
    keys = [key for key, value in encoder_of(folder).items() if not torch.equal(value, before[key])]
    return {key.split(".")[2] if key.startswith("encoder.layers.") else "stem" for key in keys}


def test_a_linear_probe_of_an_encoder(words, encoder, tmp_path, capsys):
    given = make("hubert", tmp_path / "again").state_dict()
    folder, metrics = run(*words, "freeze=frontend", "frontend.layers=mix")
    shown = capsys.readouterr().out
    assert f"Encoder {encoder}: " in shown
    assert "licence cc-by-nc-4.0, which also applies to taggers made from it" in shown
    assert changed(folder, given) == set()
    assert metrics["parameters_trained"] == 3 * (16 + 1)
    assert metrics["input"] == "waveform"
    shutil.rmtree(encoder)
    tagger = musictag.load(folder)
    assert set(tagger.tag(next(tmp_path.glob("music/audio/*.wav")))) == {"high", "noisy", "brightness"}
    with pytest.raises(MusictagError, match="neither a folder nor a name"):  # before the data is looked at
        run(*words, "freeze=frontend", "data.path=nothing.csv")


def test_systems_are_called_after_their_encoder(words):
    assert system_label(compose_config(*words)) == "encoder+pooling"
    assert system_label(compose_config(*words, "freeze=frontend")) == "encoder+pooling (frozen)"


def test_a_run_is_identified_by_what_the_folder_holds(words, encoder, tmp_path):
    def place(*more: str) -> Path:
        return experiment.results_folder(compose_config(*words, *more))

    before = place()
    moved = encoder.rename(tmp_path / "moved")
    assert place(f"frontend.name={moved}") == before
    assert place(f"frontend.name={moved}", "finetune.blocks=1") != before
    make("hubert", moved, num_hidden_layers=2)
    assert place(f"frontend.name={moved}") != before


def test_parts_of_an_encoder_are_trained(words, tmp_path):
    given = make("hubert", tmp_path / "again").state_dict()
    everything, _ = run(*words)
    assert changed(everything, given) == {"0", "1", "2", "stem"}
    last, metrics = run(*words, "finetune=last_blocks")
    assert changed(last, given) == {"1", "2"}
    none, fewer = run(*words, "finetune.blocks=0", "frontend.layers=mix")
    assert changed(none, given) == set()
    assert musictag.load(none).network.frontend.mix.abs().max() > 0
    assert fewer["parameters_trained"] == 3 * (16 + 1) + 4 < metrics["parameters_trained"]
    gradual, _ = run(*words, "finetune.unfreeze_epochs=1", "trainer.max_epochs=2", "callbacks.early_stopping=null")
    assert changed(gradual, given) <= {"2"}
    state = torch.load(gradual / "last.ckpt", weights_only=True)["state_dict"]
    assert not torch.equal(
        state["tagger.frontend.encoder.encoder.layers.2.attention.k_proj.weight"],
        given["encoder.layers.2.attention.k_proj.weight"],
    )


@pytest.mark.parametrize(("family", "epochs"), [("hubert", 1), ("clap", 2), ("whisper", 2)])
def test_blocks_open_from_the_last_to_the_first(family, epochs, tmp_path):
    make(family, tmp_path)
    frontend = build(described(spec(tmp_path)), FrontEnd)
    fixed = {name for name, p in frontend.named_parameters() if not p.requires_grad}
    finetuning = FineTuning(frontend, blocks=None, frontend_lr_factor=1.0, unfreeze_epochs=epochs)
    blocks = frontend.trainable_blocks()
    for epoch in range(epochs * (len(blocks) + 1) + 1):
        frontend.train()
        finetuning.begin_epoch(epoch)
        opened = min(epoch // epochs, len(blocks))
        trained = [all(p.requires_grad and block.training for p in block.parameters()) for block in blocks]
        assert trained == [False] * (len(blocks) - opened) + [True] * opened
        rest = {name for name, p in frontend.named_parameters() if not p.requires_grad} - fixed
        assert bool(rest) == (opened < len(blocks))
        assert fixed <= {name for name, p in frontend.named_parameters() if not p.requires_grad}
        assert frontend.encoder.training == (opened == len(blocks))


def test_the_front_end_has_a_learning_rate_of_its_own(encoder):
    tags = [{"name": "a"}]
    network = TaggingNetwork(described(spec(encoder, layers="mix")), {
        "_target_": "musictag.models.backends.pooling.Pooling", "pooling": "mean"}, tags, 0.5)  # fmt: skip
    finetuning = FineTuning(network.frontend, blocks=1, frontend_lr_factor=0.1, unfreeze_epochs=None)
    make_adam = partial(torch.optim.AdamW, lr=0.02)
    optimizer = make_optimizer(make_adam, finetuning.groups(network, make_adam))
    rest, slow = optimizer.param_groups
    assert (rest["lr"], slow["lr"]) == (0.02, pytest.approx(0.002))
    assert rest["fused"]
    assert {id(p) for p in slow["params"]} == {id(p) for p in network.frontend.trainable_blocks()[-1].parameters()}
    assert {id(p) for p in rest["params"]} == {id(network.frontend.mix), *map(id, network.backend.parameters())}
    with pytest.raises(MusictagError, match=r"multiplies optimizer\.lr, which is not set"):
        finetuning.groups(network, partial(torch.optim.AdamW))


@pytest.mark.parametrize(("epoch", "batch"), [(1, 1), (2, 0)])
def test_gradual_unfreezing_resumes_exactly(words, tmp_path, monkeypatch, epoch, batch):
    more = ["finetune=gradual", "finetune.unfreeze_epochs=1", "trainer.max_epochs=3", "callbacks.early_stopping=null",
            "optimizer=adamw", "frontend.layers=mix", "scheduler=one_cycle"]  # fmt: skip
    whole, _ = run(*words, *more)
    step, begun = TaggingModule.training_step, []

    def training_step(module: TaggingModule, given: dict, batch_idx: int) -> torch.Tensor:
        begun.append((module.current_epoch, batch_idx))
        if begun[-1] == (epoch, batch) and begun.count(begun[-1]) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(module, given, batch_idx)

    monkeypatch.setattr(TaggingModule, "training_step", training_step)
    elsewhere = [*more, f"runs_dir={tmp_path / 'stopped'}"]
    with pytest.raises(Stopped):
        run(*words, *elsewhere)
    stopped, _ = run(*words, *elsewhere)
    assert len(begun) == len(set(begun))
    assert_the_same(whole, stopped)


def test_musicnns_front_end_thaws_as_one_block(tiny_catalogue, tmp_path):
    tiny = ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, "trainer.max_epochs=1", *folders(tmp_path)]
    first, _ = run(*tiny)
    given = musictag.load(first).network.frontend.state_dict()
    begin = [*tiny, f"init_from={first / 'tagger.safetensors'}"]
    for words, same in ((["finetune.blocks=0"], True), (["finetune=last_blocks", "finetune.blocks=1"], False),
                        (["finetune=gradual"], True)):  # fmt: skip
        folder, _ = run(*begin, *words)
        now = musictag.load(folder).network.frontend.state_dict()
        assert all(torch.equal(now[key], given[key]) for key in given) == same, words
    with pytest.raises(MusictagError, match=r"finetune\.blocks=2: SampleLevel has 1 that can be trained alone"):
        run(*begin, "finetune.blocks=2")


@pytest.mark.parametrize(("more", "message"), [
    (["finetune.blocks=-1"], "must be a whole number from 0 on, or null"),
    (["finetune.unfreeze_epochs=0"], "must be a whole number from 1 on, or null"),
    (["finetune.frontend_lr_factor=0"], "must be above 0; finetune.blocks=0 trains no block"),
    (["finetune.blocks=1", "freeze=frontend"], "which freeze and probe keep; omit one"),
    (["finetune=gradual", "trainer=ddp", "trainer.devices=2"], "use trainer=default, or finetune.blocks"),
    (["finetune.blocks=4"], "HuggingFace has 3 that can be trained alone"),
    (["frontend.sample_rate=22050"], "frontend.sample_rate=22050, but the audio is prepared at 16000 Hz"),
    (["data.patch_seconds=0.001"], "data.patch_seconds=0.001 is too short"),
    (["frontend.name=null"], "frontend.name is needed"),
])  # fmt: skip
def test_what_cannot_work_is_said_before_any_work(words, more, message, tmp_path):
    with pytest.raises(MusictagError, match=message):
        run(*words, *more)
    assert not (tmp_path / "data").exists()


def test_no_fine_tuning_is_the_run_that_it_was(words):
    config = compose_config(*words)
    assert config["finetune"] == NO_FINETUNING
    decides = experiment.make_run(config).deciding(())
    assert "finetune" not in decides
    assert "finetune" in experiment.make_run(compose_config(*words, "finetune=gradual")).deciding(())
