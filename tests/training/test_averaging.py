"""Averages of the weights: what is averaged, what validation scores and the tagger's file contains."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from musictag.common.errors import MusictagError
from musictag.models.checkpoint import read_tagger
from musictag.training.callbacks.averaging import EpochAverage, MovingAverage, measure_batch_norms
from tests.helpers.experiments import TINY, folders, run


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("flag", torch.ones((), dtype=torch.long))


def stepped(callback: MovingAverage, values: list[float], network: Net, first: int = 0) -> None:
    module = SimpleNamespace(tagger=network, device=torch.device("cpu"))
    for step, value in enumerate(values, first + 1):
        network.weight.data.fill_(value)
        trainer = SimpleNamespace(global_step=step)
        for batch in (0, 1):  # the second accumulates only
            callback.on_train_batch_end(trainer, module, None, None, batch)


def test_a_moving_average_of_known_numbers() -> None:
    network, callback, values = Net(), MovingAverage(decay=0.3), [1.0, 2.0, 3.0, 7.0, 5.0]
    stepped(callback, values, network)
    expected = 1.0
    for count, value in enumerate(values):
        decay = min(0.3, (1 + count) / (10 + count))
        expected = value if count == 0 else decay * expected + (1 - decay) * value
    with callback.in_place(network):
        assert network.weight.tolist() == pytest.approx([expected] * 2)
        assert network.flag == 1  # whole numbers are not averaged
    assert network.weight.tolist() == [5.0, 5.0]


def test_an_interrupted_average_goes_on() -> None:
    networks, averages = (Net(), Net()), []
    whole, first, second = MovingAverage(), MovingAverage(), MovingAverage()
    stepped(whole, [1.0, 2.0, 4.0], networks[0])
    stepped(first, [1.0, 2.0], networks[1])
    second.load_state_dict(first.state_dict())
    second.on_train_start(None, SimpleNamespace(device=torch.device("cpu")))
    stepped(second, [4.0], networks[1], first=2)
    for callback, network in ((whole, networks[0]), (second, networks[1])):
        with callback.in_place(network):
            averages.append(network.weight.clone())
    assert torch.equal(*averages)


def test_batch_norms_are_measured_anew() -> None:
    norm, frozen = nn.BatchNorm1d(1, momentum=0.01), nn.BatchNorm1d(1)
    network = nn.Sequential(norm, nn.Dropout(0.5), frozen).eval()
    blocks = [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [9.0]]), torch.tensor([[7.0]])]
    measure_batch_norms(network, [norm], blocks)  # the last one is a single patch, which has no variance
    assert (frozen.running_mean.item(), frozen.running_var.item()) == (0, 1)
    assert norm.running_mean.item() == pytest.approx((2 + 7) / 2)
    assert norm.running_var.item() == pytest.approx((2 + 8) / 2)
    assert norm.momentum == 0.01
    assert not norm.training


def test_batch_norms_of_a_compiled_network_are_measured_without_compiling() -> None:
    """A graph would hold for one momentum alone, and after a few of them nothing is compiled any more."""
    network, graphs = nn.Sequential(nn.BatchNorm1d(1)).eval(), []
    network.compile(backend=lambda graph, _inputs: graphs.append(graph) or graph.forward)
    measure_batch_norms(network, [network[0]], [torch.randn(2, 1), torch.randn(2, 1)])
    assert graphs == []
    assert network[0].running_mean.item() != 0
    network(torch.randn(2, 1))
    assert len(graphs) == 1


def test_a_network_without_batch_norms_hears_no_songs_for_them() -> None:
    module, callback = SimpleNamespace(tagger=Net(), device=torch.device("cpu")), EpochAverage(start=0.0)
    trainer = SimpleNamespace(state=SimpleNamespace(fn="fit"), current_epoch=0, max_epochs=1)  # and no songs
    callback.on_train_epoch_start(trainer, module)
    callback.on_train_batch_end(trainer, module)
    callback.on_validation_epoch_start(trainer, module)
    assert callback.state_dict()["count"] == 1


def test_layers_that_are_trained_later_are_measured_too() -> None:
    """As after an interruption: finetune.unfreeze_epochs gives one more block to training."""
    network = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2))
    module, callback = SimpleNamespace(tagger=network, device=torch.device("cpu")), EpochAverage()
    found = []
    for trained in (network[1:], network):
        callback.on_train_epoch_start(None, module)
        network.eval()
        trained.train()
        callback.on_train_batch_end(None, module)
        found.append(list(callback._norms))
    assert found == [[network[1]], [network[0], network[1]]]


def test_two_averages_are_refused(tiny_catalogue: Path, tmp_path: Path) -> None:
    second = "+callbacks.mine._target_=musictag.training.callbacks.averaging.EpochAverage"
    with pytest.raises(MusictagError, match="can have one average of the weights"):
        run("data=catalogue", f"data.path={tiny_catalogue}", *TINY, *folders(tmp_path), "recipe=ema", second)


@pytest.mark.parametrize(
    ("make", "words"),
    [(lambda: MovingAverage(1.0), "decay=1.0 must be above 0"), (lambda: EpochAverage(1.0), "start=1.0")],
)
def test_settings_out_of_range_are_refused(make, words: str) -> None:
    with pytest.raises(MusictagError, match=words):
        make()


def test_the_mean_of_the_last_epochs_is_scored_and_saved(tiny_catalogue: Path, tmp_path: Path) -> None:
    """Three runs of one, two and three epochs, with the same weights after each, and the average of the last two."""
    words = ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, "scheduler=constant", "monitor=val_loss"]
    ends = []
    for epochs in (2, 3):
        run_dir, _ = run(*words, *folders(tmp_path), f"trainer.max_epochs={epochs}", "backend.dropout=0.0")
        ends.append(torch.load(run_dir / "last.ckpt", weights_only=True)["state_dict"])
    recipe = "recipe=swa", "callbacks.averaging.start=0.34", "trainer.max_epochs=3", "backend.dropout=0.0"
    run_dir, metrics = run(*words, *folders(tmp_path), *recipe)
    last = torch.load(run_dir / "last.ckpt", weights_only=True)
    for name, value in ends[1].items():
        assert torch.equal(last["state_dict"][name], value), name  # training goes on with the weights themselves
    average = next(state for key, state in last["callbacks"].items() if key.startswith("EpochAverage"))["average"]
    parameter = "backend.output.weight"
    mean = (ends[0][f"tagger.{parameter}"] + ends[1][f"tagger.{parameter}"]) / 2
    torch.testing.assert_close(average[parameter], mean)
    stored = read_tagger(run_dir / "tagger.safetensors").state
    assert metrics["best_epoch"] == 2
    for name, value in stored.items():
        assert torch.equal(value, average[name]), name


def test_what_is_frozen_keeps_its_statistics_and_scoring_at_once_changes_nothing(
    tiny_catalogue: Path, tmp_path: Path
) -> None:
    words = ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *folders(tmp_path), "trainer.max_epochs=1"]
    words += ["recipe=swa", "callbacks.averaging.start=0.0"]
    trained, _ = run(*words)
    whole = read_tagger(trained / "tagger.safetensors").state
    frozen = [f"init_from={trained / 'tagger.safetensors'}", "freeze=frontend", "seed=1"]
    found = []
    for size in (3, 64):  # of the same run, which is in two places
        run_dir, _ = run(*words, *frozen, f"evaluation.batch_size={size}", f"runs_dir={tmp_path / str(size)}")
        found.append(read_tagger(run_dir / "tagger.safetensors").state)
    assert any("running_mean" in name and not torch.equal(found[0][name], whole[name]) for name in whole)
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-5, atol=1e-6)
        if name.startswith("frontend."):
            assert torch.equal(value, whole[name]), name
