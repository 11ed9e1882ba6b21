"""Songs without labels in training batches: which they are, how many, and that nothing of their labels is left."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from musictag.cli import main
from musictag.common.errors import MusictagError
from musictag.data.catalogue.check import check
from musictag.data.loading.unlabelled import TRAINED, Unlabelled
from tests.helpers.catalogues import read_rows, ready, write_table

UNUSED = "unlabelled songs are not used, as only a teacher can use them"


@pytest.fixture
def partly(tiny_catalogue: Path) -> Path:
    """Of the 12 training songs the last 5 are unlabelled, though their cells say something."""
    rows = read_rows(tiny_catalogue)
    for row in rows[7:12]:
        row.update(split="unlabelled", high="1", brightness="0.5")
    return write_table(tiny_catalogue, rows)


def batches(data, epoch: int = 0) -> list[dict[str, torch.Tensor]]:
    data.epoch = epoch
    return list(data.train_dataloader())


def test_a_share_of_each_batch_is_unlabelled(partly: Path) -> None:
    data = ready(partly, unlabelled=Unlabelled(None, 0.25), patches_per_song=3)
    ids = data.song_ids(TRAINED)
    assert data.song_ids("train").tolist() == ids[:7].tolist() == [f"train-{number:02d}" for number in range(7)]
    assert ids[7:].tolist() == [f"train-{number:02d}" for number in range(7, 12)]
    found = batches(data)
    assert len(found) == 7  # of 3 patches of the 7 songs each, and one more
    for batch in found:
        assert (batch["song"] < 7).tolist() == [True, True, True, False]
        assert batch["target"][3].isnan().all()
        np.testing.assert_array_equal(batch["target"][:3], data.targets("train")[batch["song"][:3]])
    songs = Counter(int(song) for batch in found for song in batch["song"])
    assert [songs[song] for song in range(7)] == [3] * 7
    assert sorted(songs[song] for song in range(7, 12)) == [1, 1, 1, 2, 2]  # in turn
    # a number of patches per epoch counts both
    steps = ready(partly, unlabelled=Unlabelled(None, 0.25), patches_per_epoch=40)
    assert len(batches(steps)) == 10
    assert batches(steps, 1)[3]["song"].tolist() != batches(steps, 2)[3]["song"].tolist()
    assert torch.equal(batches(steps, 1)[3]["audio"], batches(steps, 1)[3]["audio"])


def test_without_a_teacher_they_are_not_even_prepared(partly: Path) -> None:
    with pytest.warns(UserWarning, match=f"5 {UNUSED}"):
        data = ready(partly)
    assert len(data.store) == 19
    assert data.song_ids(TRAINED).tolist() == data.song_ids("train").tolist()
    assert len(batches(data)) == 1


def test_what_a_subset_leaves_over(tiny_catalogue: Path) -> None:
    subset = ready(tiny_catalogue, train_songs=4, subset_seed=3).song_ids("train").tolist()
    rest = ready(tiny_catalogue, train_songs=4, subset_seed=3, unlabelled=Unlabelled("rest", 0.5))
    assert rest.song_ids("train").tolist() == subset
    assert len(rest.song_ids(TRAINED)) == 12
    for batch in batches(rest):
        assert batch["target"].isnan().all(1).tolist() == [False, False, True, True]
    with pytest.warns(UserWarning, match="leaves no training songs over"):
        every = ready(tiny_catalogue, train_songs=12, unlabelled=Unlabelled("rest", 0.5))
    assert len(batches(every)) == 3
    with pytest.raises(MusictagError, match="train_songs=13, but there are 12 training songs;"):
        ready(tiny_catalogue, train_songs=13, unlabelled=Unlabelled("rest", 0.5))


def test_a_test_song_among_them_is_left_out_whatever_it_is_called(partly: Path) -> None:
    rows, audio = read_rows(partly), partly.parent / "audio"
    shutil.copy(audio / "test-03.wav", audio / "train-09.wav")
    shutil.copy(audio / "validation-01.wav", audio / "train-10.wav")
    shutil.copy(audio / "train-00.wav", audio / "train-11.wav")  # which may be
    write_table(partly, rows)
    with pytest.warns(UserWarning, match=r"2 unlabelled songs are left out.*validation or test.*: train-09, train-10"):
        data = ready(partly, unlabelled=Unlabelled(None, 0.5))
    assert data.song_ids(TRAINED)[7:].tolist() == ["train-07", "train-08", "train-11"]


@pytest.mark.parametrize(
    ("unlabelled", "message"),
    [
        (Unlabelled("all", 0.5), "data.unlabelled=all does not exist; allowed: rest, null"),
        (Unlabelled("rest", 0.5), "that data.train_songs leaves over: set it, too"),
        (Unlabelled(None, 0.1), "makes 0 patches of unlabelled songs in a batch, and 4 of others"),
        (Unlabelled(None, 1.0), "makes 4 patches of unlabelled songs in a batch, and 0 of others"),
        (Unlabelled(None, "half"), "data.unlabelled_share=half"),
    ],
)
def test_shares_and_words_that_cannot_be(tiny_catalogue: Path, unlabelled: Unlabelled, message: str) -> None:
    with pytest.raises(MusictagError, match=message):
        ready(tiny_catalogue, unlabelled=unlabelled)


def test_processes_share_both_kinds_equally() -> None:
    assert Unlabelled(None, 0.25).check(None, 16, world=2) == 4
    with pytest.raises(MusictagError, match=r"makes 3 patches .* and 9 of others; .* multiples of 2, the number of"):
        Unlabelled(None, 0.25).check(None, 12, world=2)


def test_a_catalogue_with_them_is_in_order(
    partly: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = check(partly)
    assert not report.errors
    assert "column split: train 7, validation 5, test 7, unlabelled 5" in report.notes
    monkeypatch.chdir(partly.parent)
    out = partly.parent / "described"
    assert main(["data", "describe", str(partly), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "5 unlabelled songs are not described" in said.out
    assert "unlabelled 5 (for a teacher; their tag cells are not read)" in said.err
