"""What fits into the time: nested sizes, and the same number of training patches for every network at every size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from musictag.common.errors import MusictagError
from musictag.common.files import read_json, write_json

STUDY = "advise"
#: Patches that a network is trained on at most: more rarely help so few songs.
_MOST = 100_000
_EPOCHS, _BATCH = 20, 16
#: Share of the time that is planned; the rest is for what goes slower than measured.
_PLANNED = 0.8
#: Seconds of a run that are not spent on patches: starting Python, composing, reading the data set.
_START = 25.0
#: Scoring a patch is a forward pass, a third of a training step.
_SCORING = 3.0
#: A size is half of the next larger one; below this many songs nothing can be said.
_FEWEST_SONGS = 30
#: From the most thorough plan to the least: seeds, sizes, and the patches that each network must then get. One that
#: has not learnt much yet says nothing about songs, however many seeds it has.
_PLANS = ((3, 4, 30_000), (2, 4, 20_000), (1, 4, 8_000), (1, 3, 6_000), (1, 2, 4_000))
#: However much time there is.
MOST_SEEDS = 3


@dataclass(frozen=True)
class Schedule:
    """``sizes``: numbers of training songs, largest first. ``networks`` and ``baselines``: files in conf/model. Each
    network is trained on ``epochs`` times ``patches_per_epoch`` patches, and its best epoch is that of ``monitor``.
    ``seeds``: how many are planned. ``expected``: seconds of one run of each network."""

    sizes: list[int]
    networks: list[str]
    baselines: list[str]
    epochs: int
    patches_per_epoch: int
    seeds: int
    monitor: str = "val_pr_auc"
    expected: dict[str, float] = field(default_factory=dict)

    @property
    def models(self) -> list[str]:
        return [*self.baselines, *self.networks]

    @property
    def patches(self) -> int:
        return self.epochs * self.patches_per_epoch

    def jobs(self, seed: int) -> list[tuple[str, int, list[str]]]:
        """Model, number of songs and overrides of the jobs of a seed: the largest size first, which matters most."""
        return [
            (model, size, self.overrides(model, size, seed)) for size in self.sizes for model in self.models
        ]  # fmt: skip

    def overrides(self, model: str, size: int, seed: int) -> list[str]:
        """What distinguishes a job from the others, and its budget."""
        return [f"study={STUDY}", f"seed={seed}", f"data.train_songs={size}", *self.training(model)]

    def training(self, model: str, times: int = 1) -> list[str]:
        """The overrides of a model and its training, a network's ``times`` as long."""
        if model in self.baselines:
            # two leaves of the default size have no room in the smallest sizes of few songs
            leaf = [f"baseline.min_child_samples={min(20, max(5, self.sizes[0] // 32))}"] if "gbt" in model else []
            return [f"model={model}", *leaf]
        return [
            f"model={model}", "recipe=quick", f"trainer.max_epochs={times * self.epochs}", f"data.batch_size={_BATCH}",
            f"data.patches_per_epoch={self.patches_per_epoch}", f"monitor={self.monitor}", "monitor_smoothing=3",
        ]  # fmt: skip


def sizes(songs: int, count: int = 4) -> list[int]:
    """Up to ``count`` nested sizes, each half of the one before; raises MusictagError if there is only one."""
    found = [songs // 2**place for place in range(count) if songs // 2**place >= _FEWEST_SONGS]
    if len(found) < 2:
        raise MusictagError(
            f"{songs} training songs are too few to say what more would bring: {2 * _FEWEST_SONGS} are needed. "
            "Label more songs first, or train one tagger: python train.py data=catalogue data.path=..."
        )
    return found


def plan(
    songs: int, networks: Mapping[str, float], baselines: Sequence[str], seconds: float, scored: tuple[float, float]
) -> Schedule:
    """The most thorough plan whose networks fit into ``seconds``; without networks if not even the smallest does.

    ``networks``: training patches per second of each. ``scored``: patches of the validation songs, which are scored
    after each epoch, and of the test songs.
    """
    once = _EPOCHS * scored[0] + scored[1]
    for seeds, count, least in _PLANS:
        chosen = sizes(songs, count)
        runs = seeds * len(chosen)
        per_patch = sum(1 / speed for speed in networks.values())
        free = _PLANNED * seconds - runs * (len(networks) * _START + once * per_patch / _SCORING)
        patches = free / (runs * per_patch) if networks else 0.0
        if patches >= least:
            steps = int(min(patches, _MOST)) // (_EPOCHS * _BATCH)
            return Schedule(chosen, list(networks), list(baselines), _EPOCHS, steps * _BATCH, seeds)
    return Schedule(sizes(songs), [], list(baselines), _EPOCHS, 0, _PLANS[0][0])


def expected_seconds(schedule: Schedule, speed: float, scored: tuple[float, float]) -> float:
    """Seconds of one run of a network that trains ``speed`` patches per second."""
    return _START + (schedule.patches + (schedule.epochs * scored[0] + scored[1]) / _SCORING) / speed


def save(schedule: Schedule, path: Path, about: Mapping[str, Any], hours: float) -> None:
    """Keep the schedule for the next session. ``about``: what it was made for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"about": dict(about), "hours": hours, "schedule": asdict(schedule)})


def load(path: Path, about: Mapping[str, Any], hours: float) -> Schedule | None:
    """The schedule of an earlier session if it was made for the same; None if there is none, and if there is more time
    now than there was then, when networks were left out."""
    if not path.exists():
        return None
    try:
        content = read_json(path, 100_000)
        found = Schedule(**content["schedule"])
        enough = found.networks or hours <= content["hours"]
        return found if enough and content["about"] == dict(about) else None
    except (ValueError, KeyError, TypeError) as error:
        raise MusictagError(f"{path} is damaged ({error}); delete it and rerun the command") from error
