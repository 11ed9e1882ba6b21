"""The finished runs of a study side by side, as a CSV file, a table and a figure.

Made from the runs' ``metrics.json`` alone. A row is a run; a model is what runs with different seeds have in common.
"""

from __future__ import annotations

import csv
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation, Text
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from musictag.common.errors import MusictagError
from musictag.common.files import atomic_write
from musictag.common.plotting import BLUE, FAINT, ORANGE, STYLE, new_figure, save_figure
from musictag.common.timing import median_seconds
from musictag.evaluation.metrics import METRICS, Metric, headlines
from musictag.inference.load import load_network
from musictag.models.pretrained import TAGGER_FILE
from musictag.report.study import Run, read_study
from musictag.report.wording import SIZE, setting, short

COLOURS = {"waveform": ORANGE, "spectrogram": BLUE}
MEASURED_SECONDS = 30  # of audio per call when the tagging speed is measured
_MOST_POINTS = 24  # with names beside them
#: Candidate offsets of a label from its point, in points: the first one with the fewest collisions is used.
PLACES = [
    (x * distance, y * distance)
    for distance in (6, 9, 13, 18, 24, 30)
    for x, y in ((1, 0), (-1, 0), (0.7, 1), (-0.7, 1), (0.7, -1), (-0.7, -1), (0, 1.2), (0, -1.2))
]


def read_rows(folder: Path, study: str | None = None) -> list[dict[str, Any]]:
    """One row per finished run of a network below ``folder`` (of ``study``, if given), by model and seed. A model under
    several settings is as many models. Baselines are left out, because they have no parameters to compare and no
    network to time: `musictag report` shows them.

    Raises MusictagError if there is none, and for runs that differ in data, test songs or training size.
    """
    found = read_study(folder, study)
    runs = [run for run in found.runs if run.epochs is not None]
    if not runs:
        raise MusictagError(f"all finished runs in {folder} are baselines; use musictag report")
    if len(sizes := sorted({run.train_songs for run in runs})) > 1:
        raise MusictagError(
            f"the runs in {folder} have different numbers of training songs, {', '.join(map(str, sizes))}: "
            "use `musictag report`, or give each comparison its own name (study=...) and choose it with --study"
        )
    counted = [{(tag["name"], tag["known"], tag["positives"]) for tag in run.metrics["test"]["tags"]} for run in runs]
    for run, counts in zip(runs, counted, strict=True):
        if counts != counted[0]:
            raise MusictagError(f"{run.folder} and {runs[0].folder} have different test songs and cannot be compared")
    factors = [key for key in found.factors if key != SIZE]
    rows = []
    for run in runs:
        condition = dict(zip(found.factors, run.condition, strict=True))
        where = setting(factors, [condition[key] for key in factors])
        rows.append(row_of(run) | {"model": f"{run.system} ({where})" if where else run.system})
    return sorted(rows, key=lambda row: (row["model"], row["seed"]))


def row_of(run: Run) -> dict[str, Any]:
    """The content of a run's metrics.json as one flat row."""
    metrics, config = run.metrics, run.config
    scores = {}
    for name in METRICS:
        entry = metrics["test"].get(name) or {}
        scores |= {name: entry.get("value"), f"{name}_low": entry.get("low"), f"{name}_high": entry.get("high")}
    return {
        "model": run.system,
        "paper": config["names"].get("paper"),
        "family": run.family,
        "input": metrics["input"],
        "seed": run.seed,
        "data": metrics["data"],
        "train_songs": metrics["songs"]["train"],
        "test_songs": metrics["songs"]["test"],
        "epochs": metrics["epochs"],
        "patch_seconds": config["data"]["patch_seconds"],
        "filter_multiplier": config["frontend"].get("filter_multiplier", 1.0),
        "parameters": metrics["parameters"],
        **scores,
        "train_audio_seconds_per_second": metrics["speed"]["train_audio_seconds_per_second"],
        "test_audio_seconds_per_second": metrics["speed"]["test_audio_seconds_per_second"],
        "device": metrics["device"],
        "run": metrics["run"],
    }


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One line per run; a cell is empty if the tags do not allow that score."""
    with atomic_write(path, "w") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})


def by_model(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The rows of each model, best mean PR-AUC first."""
    models = {row["model"]: [other for other in rows if other["model"] == row["model"]] for row in rows}
    return sorted(models.values(), key=lambda seeds: -_mean(seeds, "pr_auc"))


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Means over the seeds, with the largest deviation from them."""
    shown = Table(
        title=f"{_conditions(rows)}; mean and largest deviation of a seed", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    shown.add_column("model", no_wrap=True)
    for heading in ("params", *(metric.label for metric in headlines()), "audio s/s"):
        shown.add_column(heading, justify="right", no_wrap=True)
    models = by_model(rows)
    most = max(map(len, models))
    for seeds in models:
        name = escape(seeds[0]["model"]) + (f" ({len(seeds)} of {most} seeds)" if len(seeds) < most else "")
        speed = f"{_mean(seeds, 'test_audio_seconds_per_second'):,.0f}"
        shown.add_row(name, f"{seeds[0]['parameters']:,}", *(_spread(seeds, metric) for metric in headlines()), speed)
    return shown


def measure(rows: Sequence[Mapping[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """The rows with each model's tagging speed measured on this machine: one thread, a fresh process each.

    The speeds recorded by the runs depend on the load of their machines.
    """
    speeds = {}
    for seeds in by_model(rows):
        (model,) = folder.glob(f"**/{seeds[0]['run']}/{TAGGER_FILE}")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            speeds[seeds[0]["model"]] = pool.submit(_tagging_speed, str(model)).result()
    return [{**row, "test_audio_seconds_per_second": speeds[row["model"]]} for row in rows]


def _tagging_speed(model: str) -> float:
    """Seconds of audio per second that the network of ``model`` processes."""
    torch.set_num_threads(1)
    network = load_network(model)
    waveform = 0.1 * torch.randn(max(1, round(MEASURED_SECONDS / network.patch_seconds)), network.input_samples)
    with torch.inference_mode():
        seconds = median_seconds(lambda: network(waveform))
    return len(waveform) * network.patch_seconds / seconds


def _conditions(rows: Sequence[Mapping[str, Any]]) -> str:
    """The conditions of the measurement."""
    first = rows[0]
    epochs, sizes, seeds = (sorted({row[key] for row in rows}) for key in ("epochs", "filter_multiplier", "seed"))
    text = f"{first['train_songs']:,} training songs of {first['data']}"
    text += f", {'-'.join(map(str, epochs[:1] + epochs[1:][-1:]))} epochs, seeds {', '.join(map(str, seeds))}"
    return text + (f"; filters × {', '.join(f'{size:g}' for size in sizes)}" if sizes != [1.0] else "")


def _spread(seeds: Sequence[Mapping[str, Any]], metric: Metric) -> str:
    if any(row[metric.key] is None for row in seeds):
        return "-"
    mean = _mean(seeds, metric.key)
    furthest = max(abs(row[metric.key] - mean) for row in seeds)
    return metric.show(mean) + (f"±{metric.show(furthest)}".replace("±0.", "±.") if len(seeds) > 1 else "")


def _mean(seeds: Sequence[Mapping[str, Any]], name: str) -> float:
    return fmean(0.0 if row[name] is None else row[name] for row in seeds)


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a PNG: PR-AUC against parameters and against tagging speed; points are means, bars span the seeds."""
    with matplotlib.rc_context(STYLE):
        figure = new_figure(11, 5.2)
        left, right = figure.subplots(1, 2, sharey=True)
        models = by_model(rows)
        more = f"\n{_MOST_POINTS} of {len(models)} models, the best by PR-AUC" if len(models) > _MOST_POINTS else ""
        models = models[:_MOST_POINTS]
        for axes, key in ((left, "parameters"), (right, "test_audio_seconds_per_second")):
            axes.set_xscale("log")
            axes.grid(True)
            for seeds in models:
                values = [row["pr_auc"] for row in seeds]
                x, y = _mean(seeds, key), _mean(seeds, "pr_auc")
                axes.vlines(x, min(values), max(values), color=COLOURS[seeds[0]["family"]], linewidth=1.4, alpha=0.6)
                axes.plot(x, y, "o", color=COLOURS[seeds[0]["family"]], markersize=6, zorder=3)
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            low, high = axes.get_xlim()
            axes.set_xlim(low / 2, high * 2)
        left.set_ylabel("PR-AUC of the test songs")
        left.set_xlabel("parameters")
        right.set_xlabel("seconds of audio tagged per second")
        left.set_title(_conditions(rows) + more)
        for name, colour in COLOURS.items():
            right.plot([], [], "o", color=colour, label=name)
        right.legend(loc="upper right", bbox_to_anchor=(1, 1.09), ncols=2, frameon=False)
        figure.draw_without_rendering()  # the placement of labels needs the final layout
        for axes, key in ((left, "parameters"), (right, "test_audio_seconds_per_second")):
            _label(axes, [(_mean(seeds, key), _mean(seeds, "pr_auc"), short(seeds[0]["model"])) for seeds in models])
        save_figure(figure, path)


def _label(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Each point's name next to it, covering neither a point nor another name if possible."""
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    centres = axes.transData.transform([(x, y) for x, y, _ in points])
    taken = [Bbox.from_extents(*(centre - 6), *(centre + 6)) for centre in centres]

    def write(x: float, y: float, name: str, place: tuple[float, float]) -> Annotation:
        far = abs(place[0]) + abs(place[1]) > 14
        return axes.annotate(
            name, (x, y), xytext=place, textcoords="offset points", fontsize=7.5, color=FAINT, va="center",
            ha="left" if place[0] > 0 else "right" if place[0] < 0 else "center",
            arrowprops={"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.6, "shrinkA": 0} if far else None,
        )  # fmt: skip

    def covered(point: tuple[float, float, str], place: tuple[float, float]) -> tuple[float, Bbox]:
        text = write(*point, place)
        text.update_positions(renderer)
        box = Text.get_window_extent(text, renderer)  # excludes the line to the point
        text.remove()
        outside = not (axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1))
        return sum(_common_area(box, other) for other in taken) + 1e6 * outside, box

    for point in points:
        tried = [(*covered(point, place), place) for place in PLACES]
        _, box, place = min(tried, key=lambda found: found[0])
        taken.append(box)
        write(*point, place)


def _common_area(one: Bbox, other: Bbox) -> float:
    common = Bbox.intersection(one, other)
    return 0.0 if common is None else common.width * common.height
