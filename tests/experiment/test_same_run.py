"""What of a catalogue makes another run: labels, splits and unknown values, however little of the audio changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from musictag.experiment import run as experiment
from tests.helpers.catalogues import read_rows, write_table
from tests.helpers.experiments import TINY, compose_config, folders


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[3].update(high=str(1 - int(rows[3]["high"]))),
        lambda rows: rows[3].update(high=""),
        lambda rows: rows[3].update(brightness="0.123"),
        lambda rows: rows[3].update(split="validation"),
        lambda rows: rows[3].update(song_id="another"),
        lambda rows: rows.append(rows.pop(3)),
    ],
    ids=["label", "unknown label", "measure", "split", "name", "order"],
)
def test_a_catalogue_that_says_something_else_makes_another_run(
    tiny_catalogue: Path, tmp_path: Path, change: Callable[[list[dict]], None]
) -> None:
    words = ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *folders(tmp_path)]
    before = experiment.results_folder(compose_config(*words))
    rows = read_rows(tiny_catalogue)
    write_table(tiny_catalogue, rows)
    assert experiment.results_folder(compose_config(*words)) == before
    change(rows)
    write_table(tiny_catalogue, rows)
    assert experiment.results_folder(compose_config(*words)) != before


@pytest.mark.parametrize(
    ("one", "same"),
    [("data.tags=high", "data.tags=[high]"), ("frontend.channels=8", "frontend.channels=[8]")],
)
def test_one_word_or_number_and_a_list_of_it_are_one_run(
    tiny_catalogue: Path, tmp_path: Path, one: str, same: str
) -> None:
    words = ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *folders(tmp_path)]
    found = [experiment.results_folder(compose_config(*words, *more)) for more in ([one], [same], [])]
    assert found[0] == found[1] != found[2]
