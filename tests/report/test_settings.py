"""Settings that vary: which are factors, and how their combinations are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from musictag.common.errors import MusictagError
from musictag.experiment.identity import check_keys
from musictag.report.settings import NOT_SET, Settings, read_settings
from musictag.report.study import Study, find_runs, read_study
from musictag.report.tables.legend import legend_sheet, legend_table
from tests.helpers.experiments import compose_config
from tests.helpers.motley import COLLECTIONS, QUICK

A, B, TREES = "waveform_small", "spectrogram_small", "gbt"


def settings_of(*runs: tuple[str, dict[str, Any]], labels: list[str | None] | None = None) -> Settings:
    """``runs``: systems with their settings, of 500 training songs if these do not say how many."""
    found = [{"data.train_songs": 500} | settings for _, settings in runs]
    return Settings(found, [system for system, _ in runs], labels or [None] * len(runs))


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Study]:
    found = {}
    for name in ("six_settings", "old_versions", "labels", "mixed_parts"):
        folder = tmp_path_factory.mktemp(name)
        COLLECTIONS[name](folder)
        found[name] = read_study(folder)
    return found


def names_of(study: Study, system: str) -> list[str]:
    return list(dict.fromkeys(run.condition[0] for run in study.runs if run.system == system))


def test_what_varies_by_itself_is_a_factor_of_its_own() -> None:
    one = settings_of((A, {"optimizer.lr": 0.1}), (A, {"optimizer.lr": 0.2}), (TREES, {}))
    assert (one.factors, one.conditions, one.legend) == (["optimizer.lr"], [(0.1,), (0.2,), (None,)], [])
    grid = [(A, {"backend.filters": f, "backend.dense_units": u}) for f in (1, 2) for u in (3, 4)]
    assert settings_of(*grid).factors == ["backend.dense_units", "backend.filters"]
    sized = settings_of(*((A, {"data.train_songs": n, "optimizer.lr": r}) for n in (1, 2) for r in (3, 4)))
    assert sized.factors == ["data.train_songs", "optimizer.lr"]


@pytest.mark.parametrize(
    "combinations",
    [
        [{"x.a": 1, "x.b": 1}, {"x.a": 2, "x.b": 2}],  # they go together
        [{"x.a": 1, "x.b": 1}, {"x.a": 2, "x.b": 1}, {"x.a": 1, "x.b": 2}],  # one at a time
        [{"x.a": a, "x.b": b, "x.c": c} for a in (1, 2) for b in (1, 2) for c in (1, 2)],  # too many for figures
    ],
)
def test_others_are_one_factor_with_names(combinations: list[dict[str, int]]) -> None:
    found = settings_of(*((A, settings) for settings in combinations))
    assert found.factors == ["settings"]
    assert found.keys == sorted(combinations[0])
    assert len(set(found.conditions)) == len(found.legend) == len(combinations)


def test_a_name_is_the_difference_from_the_most_common_combination() -> None:
    base = {"optimizer.lr": 0.001, "data.batch_size": 32, "backend.dropout": 0.5}
    runs = [base, base, base | {"optimizer.lr": 0.01}, base | {"backend.dropout": 0.0, "data.batch_size": 16}]
    found = settings_of(*((A, settings) for settings in runs))
    assert [name for (name,) in found.conditions] == ["base", "base", "lr 0.01", "dropout 0, batch size 16"]
    assert [line.name for line in found.legend][-1] == "base"  # results are shown for the last condition
    assert found.legend[-1].values == base
    assert sorted(found.conditions, key=found.order)[-1] == ("base",)


def test_a_long_name_says_what_is_its_own_and_how_much_more_there_is() -> None:
    base = dict.fromkeys((f"data.setting_number_{i}" for i in range(5)), 0)
    one, other = dict.fromkeys(base, 1), dict.fromkeys(base, 1) | {"data.setting_number_3": 2}
    found = settings_of((A, base), (A, base), (A, one), (A, other))
    (_, _, (first,), (second,)) = found.conditions
    assert first == "setting number 3 1 +4"
    assert second == "setting number 3 2 +4"
    parts = {"x.alpha_beta_gamma_delta": 1, "x.epsilon_zeta_eta_theta": 1}
    full = parts | {"x.iota_kappa_lambda_mu": 1}
    zero = dict.fromkeys(full, 0)
    names = [name for (name,) in settings_of((A, zero), (A, zero), (A, zero | parts), (A, full)).conditions]
    assert len(set(names)) == 3


def test_settings_of_a_baseline_are_settings_too() -> None:
    same = {"baseline._target_": "Trees"}
    found = settings_of(*((TREES, same | {"baseline.learning_rate": rate}) for rate in (0.02, 0.1)))
    assert (found.factors, found.conditions) == (["baseline.learning_rate"], [(0.02,), (0.1,)])


def test_lists_are_words() -> None:
    runs = [(A, {"backend.sizes": sizes}) for sizes in ((64, 128), (1000,), 32)]
    found = settings_of(*runs, (TREES, {}))
    assert found.conditions == [("64/128",), ("1,000",), (32,), (None,)]
    assert sorted(found.conditions, key=found.order) == [(None,), (32,), ("1,000",), ("64/128",)]


def test_two_keys_of_one_name_are_told_apart() -> None:
    keys = ("frontend.norm_momentum", "backend.norm_momentum")
    found = settings_of(*((A, dict.fromkeys(keys, 0.1) | changed) for changed in ({}, {}, {keys[0]: 0}, {keys[1]: 0})))
    assert {name for (name,) in found.conditions} == {"base", "front-end norm momentum 0", "back-end norm momentum 0"}


def test_what_does_not_concern_a_system_is_no_setting_of_it(studies: dict[str, Study]) -> None:
    study = studies["six_settings"]
    assert study.factors == ["settings"]
    assert sorted(study.keys) == sorted(QUICK)
    assert [run.condition for run in study.runs if run.family == "baseline"] == [(None,)] * 4
    assert names_of(study, A) == names_of(study, B)
    assert len(names_of(study, A)) == 3
    sheet = legend_sheet(study)
    assert "These settings do not concern gbt and linear." in sheet.notes
    shown = " ".join(cell.text for row in sheet.rows for cell in row)
    assert "frontend.norm_momentum=0.05" in shown
    assert "backend.norm_momentum=0.05" in shown
    table = legend_table(study)
    assert table.columns == ["settings", "systems", "runs", *study.keys]
    assert [row[2] for row in table.rows] == [4, 4, 4]
    assert len({tuple(row[3:]) for row in table.rows}) == 3


def test_runs_of_versions_without_some_keys_are_read(studies: dict[str, Study]) -> None:
    study = studies["old_versions"]
    assert {"data.patches_per_song", "optimizer.lr"} <= set(study.keys)
    assert len(names_of(study, A)) == 2
    values = {run.settings.get("data.patches_per_song") for run in study.runs if run.family != "baseline"}
    assert values == {None, 1}
    (old,) = [line for line in study.legend if line.values["data.patches_per_song"] == NOT_SET]
    assert old.runs == 4
    assert study.problems == []  # the trees have four seeds, as nothing tells their runs apart


def test_absent_is_the_same_as_null_or_false() -> None:
    assert settings_of((A, {"data.on": False}), (A, {})).factors == []
    assert settings_of((A, {"data.on": False}), (A, {}), (A, {"data.on": True})).conditions == [
        (False,),
        (False,),
        (True,),
    ]
    assert settings_of((A, {"data.new": None}), (A, {})).factors == []
    assert settings_of((A, {"data.new": 1}), (A, {})).conditions == [(1,), (NOT_SET,)]
    assert settings_of((A, {"data.new": 1}), (A, {"data.new": None})).conditions == [(1,), ("none",)]
    assert settings_of((A, {"data.new": 1}), (B, {})).factors == []


def test_parts_that_are_exchanged_or_left_out_bring_and_take_their_keys(studies: dict[str, Study]) -> None:
    names = set(names_of(studies["mixed_parts"], A))
    assert names == {
        "optimizer SGD, lr 0.1, momentum 0.9", "scheduler none", "early stopping none", "gradient clip val 1", "base"
    }  # fmt: skip


def test_labels_name_settings(studies: dict[str, Study]) -> None:
    study = studies["labels"]
    assert {run.condition for run in study.runs} == {("paper",), ("quick recipe",), ("dropout 0",), (None,)}
    assert "label" not in study.keys


def test_a_label_names_its_settings_in_all_runs_unless_it_is_unclear() -> None:
    slow, fast = {"optimizer.lr": 0.1}, {"optimizer.lr": 0.2}
    one = settings_of((A, slow), (A, fast), (A, fast), (B, fast), (B, slow), labels=[None, "fast", None, None, None])
    assert one.conditions == [("lr 0.1",), ("fast",), ("fast",), ("fast",), ("lr 0.1",)]
    both = settings_of((A, slow), (A, fast), (A, slow), labels=["mine", "mine", None])
    assert len(set(both.conditions)) == 2
    assert all(name.startswith("mine: ") for (name,) in both.conditions)
    taken = settings_of((A, slow), (A, slow), (A, fast), labels=[None, None, "base"])
    assert taken.conditions[0] == taken.conditions[1] != taken.conditions[2] == ("base",)
    alone = settings_of((A, slow), (B, fast), labels=["a", "b"])
    assert alone.factors == []  # they would only repeat the systems


def test_a_label_is_one_word_or_several_in_quotes() -> None:
    check_keys(compose_config("label=narrow"))
    for value in ("[a,b]", "' '", "3"):
        with pytest.raises(MusictagError, match="must be a name for these settings, such as label=narrow"):
            check_keys(compose_config(f"label={value}"))


def test_whole_numbers_are_the_same_in_either_spelling() -> None:
    one, other = (read_settings(compose_config(f"data.patch_seconds={seconds}"), [], 500) for seconds in ("3", "3.0"))
    assert one == other
    assert "label" not in one
    assert one["lr_scaling.rule"] == "none"


def test_every_collection_is_read(tmp_path: Path) -> None:
    for name in ("one_run", "nested_key", "only_baselines", "long_names"):
        COLLECTIONS[name](tmp_path / name)
        study = Study(None, find_runs(tmp_path / name))
        assert study.problems == [], name
