from __future__ import annotations

import os

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from musictag.evaluation import plots
from musictag.evaluation.plots import plot_curves, plot_tags
from musictag.evaluation.song_metrics import song_metrics
from musictag.evaluation.tables import result_table, tag_table


def make_metrics(tags=10, regression=0, songs=80, resamples=20):
    """The metrics of a simulated evaluation; tag 0 lacks a class, if there is more than one."""
    rng = np.random.default_rng(tags)
    targets = (rng.random((songs, tags + regression)) < 0.3).astype(np.float64)
    targets[0], targets[1] = 0, 1
    scores = rng.random((songs, tags + regression)) + targets * rng.random(tags + regression)
    if tags > 1:
        targets[:, 0] = 0
    targets[:, tags:] = rng.random((songs, regression))
    names = [f"tag {k}" for k in range(tags)] + [f"quantity {k}" for k in range(regression)]
    kinds = ["classification"] * tags + ["regression"] * regression
    return song_metrics(scores, targets, names, kinds, resamples=resamples)


def make_history(epochs, **changes):
    rows = [
        {
            "epoch": e, "train_loss": 0.5 / (e + 1), "val_loss": 0.6 / (e + 1), "val_roc_auc": 0.9 - 0.3 / (e + 1),
            "val_pr_auc": 0.4 - 0.3 / (e + 1), "val_rmse": None, "learning_rate": 0.001, "patches": 10, "seconds": 1.0,
        }
        for e in range(epochs)
    ]  # fmt: skip
    return [row | changes for row in rows]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that have been saved, in order."""
    figures = []
    save = plots.save_figure

    def keep_and_save(figure, path):
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots, "save_figure", keep_and_save)
    return figures


def size(path):
    """Width and height in pixels of a PNG that shows something."""
    image = imread(path)
    assert image[..., :3].std() > 0.02
    return image.shape[1], image.shape[0]


def text_of(table):
    console = Console(width=140, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


def test_tags_stand_in_the_order_of_their_roc_auc(tmp_path, drawn):
    metrics = make_metrics(tags=12, regression=3)
    plot_tags(metrics, tmp_path / "tags.png")
    left, right, below = drawn[0].axes
    names = [label.get_text() for label in left.get_yticklabels()]
    by_name = {tag["name"]: tag for tag in metrics["tags"]}
    areas = [by_name[name]["roc_auc"] for name in names]
    assert len(names) == 11
    assert "tag 0" not in names
    assert areas == sorted(areas, reverse=True)
    # A bar reaches from chance to the score; barh keeps a negative width.
    assert [0.5 + bar.get_width() for bar in left.patches] == pytest.approx(areas)
    assert [bar.get_width() for bar in right.patches] == pytest.approx([by_name[name]["pr_auc"] for name in names])
    marks = [segment[0, 0] for segment in right.collections[-1].get_segments()]
    assert marks == pytest.approx([by_name[name]["prevalence"] for name in names])
    measured = [label.get_text() for label in below.get_yticklabels()]
    assert sorted(measured) == ["quantity 0", "quantity 1", "quantity 2"]
    assert [bar.get_width() for bar in below.patches] == pytest.approx([by_name[name]["rmse"] for name in measured])
    assert "1 left out" in drawn[0].get_suptitle()
    assert f"{metrics['pr_auc']['value']:.3f}" in right.get_title(loc="left")


def test_height_grows_with_the_tags(tmp_path):
    sizes = []
    for tags in (10, 100):
        plot_tags(make_metrics(tags=tags, songs=30, resamples=0), tmp_path / "tags.png")
        sizes.append(size(tmp_path / "tags.png"))
    assert sizes[0][0] == sizes[1][0] == 1300
    assert sizes[1][1] > 5 * sizes[0][1]
    assert sorted(os.listdir(tmp_path)) == ["tags.png"]


@pytest.mark.parametrize(("tags", "regression", "panels"), [(1, 0, 2), (0, 3, 1), (0, 0, 0)])
def test_only_the_panels_that_have_tags(tmp_path, drawn, tags, regression, panels):
    plot_tags(make_metrics(tags=tags, regression=regression), tmp_path / "tags.png")
    assert len(drawn[0].axes) == panels
    assert imread(tmp_path / "tags.png").shape[1] == 1300


def test_tag_names_are_no_formulas_and_not_endless(tmp_path, drawn):
    metrics = make_metrics(tags=3)
    metrics["tags"][1]["name"] = "$\\frac{"
    metrics["tags"][2]["name"] = "an endless name " * 9
    plot_tags(metrics, tmp_path / "tags.png")
    size(tmp_path / "tags.png")
    shown = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert "$\\frac{" in shown
    assert max(map(len, shown)) == 28


def test_curves_count_epochs_from_one_and_mark_the_best(tmp_path, drawn):
    history = make_history(6)
    history[2]["val_roc_auc"] = history[3]["val_pr_auc"] = None
    plot_curves(history, tmp_path / "curves.png", best_epoch=4)
    size(tmp_path / "curves.png")
    loss, area, precision, rate = drawn[0].axes
    assert loss.lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    assert loss.lines[0].get_ydata() == pytest.approx([row["train_loss"] for row in history])
    assert loss.lines[1].get_ydata() == pytest.approx([row["val_loss"] for row in history])
    assert area.lines[0].get_xdata().tolist() == [1, 2, 4, 5, 6]
    assert precision.lines[0].get_xdata().tolist() == [1, 2, 3, 5, 6]
    assert area.get_title(loc="left") == "ROC-AUC   0.840 at the best epoch, 5"
    for axes in (loss, area, precision, rate):
        assert list(axes.lines[-1].get_xdata()) == [5, 5]


@pytest.mark.parametrize("epochs", [1, 3, 120])
def test_curves_of_any_length(tmp_path, drawn, epochs):
    plot_curves(make_history(epochs, val_rmse=0.2), tmp_path / "curves.png")
    size(tmp_path / "curves.png")
    titles = [axes.get_title(loc="left") for axes in drawn[0].axes]
    assert titles == ["Loss", "ROC-AUC", "PR-AUC", "RMSE", "Learning rate"]
    ticks = drawn[0].axes[-1].get_xticks()
    assert (ticks == ticks.round()).all()


def test_empty_history_is_refused_and_leaves_the_old_picture(tmp_path):
    plot_curves(make_history(2), tmp_path / "curves.png")
    before = (tmp_path / "curves.png").read_bytes()
    with pytest.raises(ValueError, match="without epochs"):
        plot_curves([], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes() == before


def test_result_table_has_scores_intervals_and_chances():
    metrics = make_metrics(tags=12, regression=2, resamples=50)
    lines = text_of(result_table(metrics, "a run [on real music]")).splitlines()
    assert lines[0].strip() == "a run [on real music]"
    for key, name, chance in (
        ("roc_auc", "ROC-AUC", 0.5),
        ("pr_auc", "PR-AUC", metrics["chance_pr_auc"]),
        ("rmse", "RMSE", np.mean([tag["rmse_of_mean"] for tag in metrics["tags"][12:]])),
    ):
        value, low, high = (f"{metrics[key][part]:.3f}" for part in ("value", "low", "high"))
        cells = [cell.strip() for cell in next(line for line in lines if name in line).strip("│").split("│")]
        assert cells == [name, value, f"{low} to {high}", f"{chance:.3f}"]
    caption = " ".join(" ".join(lines[-3:]).split())
    assert "80 songs, 11 tags scored and 2 regression tags" in caption
    assert "1 left out (one class only, or unknown): tag 0" in caption
    assert "50 resamples" in caption


def test_result_table_without_intervals_or_scores():
    text = text_of(result_table(make_metrics(resamples=0), "run"))
    assert " to " not in text
    assert "RMSE" not in text
    assert "0 tags scored" in text_of(result_table(make_metrics(tags=0, regression=1, resamples=0), "run"))


def test_tag_table_shows_the_best_and_the_worst():
    metrics = make_metrics(tags=12)
    ranked = sorted((tag for tag in metrics["tags"] if tag["roc_auc"] is not None), key=lambda tag: -tag["roc_auc"])
    ranked[0]["name"] = "[bold]"
    table = tag_table(metrics, best=2, worst=3)
    assert table.row_count == 5
    text = text_of(table)
    places = [text.index(f"│ {tag['name']} ") for tag in (*ranked[:2], *ranked[-3:])]
    assert places == sorted(places)
    assert f"{ranked[-1]['roc_auc']:.3f} │  {ranked[-1]['pr_auc']:.3f}" in text
    assert tag_table(metrics, best=6, worst=6).row_count == 11
