"""Dropout that changes from epoch to epoch."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from torch import nn

from musictag.common.errors import MusictagError
from musictag.training.callbacks.dropout import DropoutSchedule


def rates(callback: DropoutSchedule, epochs: int, first: int = 0) -> list[list[float]]:
    layers = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2), nn.Dropout2d(0.2), nn.Dropout(0.0))
    module, found = SimpleNamespace(tagger=layers), []
    callback.setup(None, module, "fit")
    for epoch in range(first, epochs):
        trainer = SimpleNamespace(current_epoch=epoch, max_epochs=epochs)
        if epoch == first and first:
            callback.on_train_start(trainer, module)  # resumed within the epoch
        else:
            callback.on_train_epoch_start(trainer, module)
        found.append([layers[0].p, layers[2].p, layers[3].p])
    return found


def test_every_dropout_changes_by_the_same_factor() -> None:
    found = rates(DropoutSchedule(first=1.0, last=0.0, until=0.5), 8)
    assert found[0] == [0.5, 0.2, 0.0]
    assert [row[0] for row in found] == pytest.approx([0.5, 0.375, 0.25, 0.125, 0, 0, 0, 0])
    assert [row[1] for row in found] == pytest.approx([0.2, 0.15, 0.1, 0.05, 0, 0, 0, 0])
    grows = DropoutSchedule(first=0.0, last=1.0)
    assert [row[0] for row in rates(grows, 4)] == pytest.approx([0, 0.125, 0.25, 0.375])
    assert rates(DropoutSchedule(first=1.0, last=0.0, until=0.5), 8, first=3) == found[3:]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(MusictagError, match=r"last=1.5 must be from 0 to 1"):
        DropoutSchedule(0.0, 1.5)
    with pytest.raises(MusictagError, match=r"use compile=false, or callbacks.dropout=null"):
        DropoutSchedule(1.0, 0.0, config={"compile": True})
    with pytest.raises(MusictagError, match=r"no dropout to change; use callbacks.dropout=null"):
        DropoutSchedule(1.0, 0.0).setup(None, SimpleNamespace(tagger=nn.Sequential(nn.Dropout(0.0))), "fit")
