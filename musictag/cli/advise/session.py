"""An evening of runs: within the time limit, resumable, and even between the systems."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from musictag.cli.advise import schedule as planning
from musictag.cli.advise.schedule import STUDY, Schedule
from musictag.cli.plan.speed import measured_speed
from musictag.common.progress import say
from musictag.experiment.baseline_run import baseline_data
from musictag.experiment.builders import shared_source
from musictag.experiment.compose import compose
from musictag.experiment.results.files import read_results
from musictag.experiment.run import make_run
from musictag.experiment.sweeps.jobs import run_job
from musictag.experiment.sweeps.study import write_down
from musictag.models.summary import sketch
from musictag.training.signals import Stopped

BASELINES = ("baseline_logistic", "baseline_gbt")
#: Networks that a CPU trains in an evening; a GPU also trains the paper's own.
NETWORKS = ("spectrogram_small", "waveform_small")
WITH_GPU = ("pons_spectrogram", "pons_waveform")


@dataclass
class Session:
    """Runs the jobs of a schedule until the time is over.

    ``given``: overrides that all jobs share. ``seconds``: of one run of each model, the last one. ``speeds``: training
    patches per second, where they were measured. ``folders``: those of the jobs, by model, size and seed. ``failed``:
    in words.
    """

    given: list[str]
    hours: float
    models: Sequence[str]
    began: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)
    speeds: dict[str, float] = field(default_factory=dict)
    folders: dict[tuple[str, int, int], Path] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @property
    def left(self) -> float:
        return self.hours * 3600 - (time.monotonic() - self.began)

    def run(self) -> Schedule:
        """Run what there is time for; returns the schedule. Raises MusictagError for data that cannot be used, and
        KeyboardInterrupt for Ctrl-C; both keep what is finished."""
        config = compose([*self.given, "baseline=logistic"])
        source = shared_source(config)
        data = baseline_data(config, source)
        data.prepare_data()
        data.setup()
        songs = len(data.song_ids("train"))
        baselines = [model for model in self.models if model in BASELINES]
        path = Path(config["runs_dir"]) / source.name / "advise.json"
        about = {"songs": songs, "models": list(self.models), "given": self.given}
        chosen = planning.load(path, about, self.hours)
        if chosen is None:
            self._round(Schedule(planning.sizes(songs)[:1], [], baselines, 0, 0, 1), 0)  # they compute the features
            networks = [model for model in self.models if model not in BASELINES]
            scored = tuple(data.audio_seconds(split) / 3.0 for split in ("validation", "test"))
            tags = len(data.tags)
            self.speeds = {model: self._speed(model, tags) for model in networks}
            chosen = planning.plan(songs, self.speeds, baselines, self.left, scored)
            if all(tag.kind == "regression" for tag in data.tags):
                chosen = replace(chosen, monitor="val_rmse")
            expected = {m: planning.expected_seconds(chosen, self.speeds[m], scored) for m in chosen.networks}
            chosen = replace(chosen, expected=expected)
            planning.save(chosen, path, about, self.hours)
        say(_about(chosen, networks_left_out=[m for m in self.models if m not in chosen.models]))
        for seed in range(planning.MOST_SEEDS):  # also more than planned, if it went faster
            if not self._round(chosen, seed):
                break
        return chosen

    def missing(self, chosen: Schedule) -> list[str]:
        """What there was no time for, in words, without what failed."""
        words = [f"{model} (all sizes)" for model in self.models if model not in chosen.models]
        for seed in range(planning.MOST_SEEDS):
            jobs = [(model, size, seed) for model, size, _ in chosen.jobs(seed)]
            undone = [job for job in jobs if job not in self.folders or read_results(self.folders[job]) is None]
            undone = [job for job in undone if _called(*job) not in self.failed]
            if seed and undone == jobs:
                words.append(f"seed {seed}")
            else:
                words += [_called(*job) for job in undone]
        return words

    def _round(self, chosen: Schedule, seed: int) -> bool:
        """Run all jobs of a seed; returns whether there was time for all. A seed after the first one begins only if it
        is expected to be finished."""
        jobs = chosen.jobs(seed)
        composed = []
        for model, size, words in jobs:
            config = compose([*self.given, *words])
            folder = make_run(config).folder(shared_source(config))
            self.folders[model, size, seed] = folder
            if (metrics := read_results(folder)) is not None:
                self._measured(model, metrics)
            else:
                composed.append((model, size, words, config))
        expected = sum(self._seconds(model, chosen) for model, *_ in composed)
        if composed and seed and expected > self.left:
            say(f"no time for seed {seed}: it would take about {expected / 60:.0f} min, {self.left / 60:.0f} are left")
            return False
        write_down([[*self.given, *words] for *_, words in jobs])
        for model, size, words, config in composed:
            if self._seconds(model, chosen) > self.left or self.left <= 0:
                say(
                    f"no time for {model} with {size:,} songs and what follows: {max(0.0, self.left) / 60:.0f} min left"
                )
                return False
            began = time.monotonic()
            try:
                with _until(self.left):
                    metrics = run_job(config, [*self.given, *words], {})
            except Stopped as stopped:
                if stopped.signum != signal.SIGTERM or self.left > 1:
                    raise
                say("the time is over: the run has saved its state")
                return False
            if metrics is None:
                self.failed.append(_called(model, size, seed))
            self.seconds[model] = time.monotonic() - began
        return True

    def _speed(self, model: str, tags: int) -> float:
        config = compose([*self.given, f"model={model}"])
        return float(measured_speed(sketch(config, tags), 16, "32-true").value)

    def _seconds(self, model: str, chosen: Schedule) -> float:
        """What a run of the model takes: as the last one, or, before there is one, as estimated for the schedule."""
        return self.seconds.get(model, chosen.expected.get(model, 0.0))

    def _measured(self, model: str, metrics: Mapping[str, Any]) -> None:
        took = metrics["seconds"]
        self.seconds.setdefault(model, sum(took[stage] for stage in ("train", "test")) + took.get("features", 0.0))


def _called(model: str, size: int, seed: int) -> str:
    return f"{model} with {size:,} songs, seed {seed}"


def default_models() -> list[str]:
    """What is compared on this machine."""
    return [*BASELINES, *NETWORKS, *(WITH_GPU if torch.cuda.is_available() else ())]


@contextmanager
def _until(seconds: float) -> Iterator[None]:
    """A context that gets SIGTERM after ``seconds``: a run in it saves and ends as at any other request to stop."""

    def stop(signum: int, frame: FrameType | None) -> None:
        if signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, None):
            raise Stopped(signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _about(chosen: Schedule, networks_left_out: Sequence[str]) -> str:
    each = f"; each network gets {chosen.patches:,} patches at every size" if chosen.networks else ""
    text = (
        f"{', '.join(chosen.models)} with {', '.join(f'{size:,}' for size in chosen.sizes)} training songs, "
        f"{chosen.seeds} seed{'s' * (chosen.seeds > 1)}{each}. Study {STUDY}; Ctrl-C keeps what is finished"
    )
    if networks_left_out:
        text += f"\nno time for {', '.join(networks_left_out)}: give more --hours"
    return text
