"""Which epoch is the best: the rules for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from musictag.common.errors import MusictagError
from musictag.evaluation.metrics import monitors

#: In the run folder until the run is finished: the taggers that other rules would have chosen.
CHOICES_FOLDER = "choices"


class Rule(NamedTuple):
    """The epoch with the best ``monitor`` (None: the last epoch), averaged over ``smoothing`` epochs.

    The average of an epoch is that of it and the ones before it, of all of these in the first epochs. It is known when
    the epoch ends, and a single lucky epoch raises it little.
    """

    monitor: str | None
    smoothing: int = 1

    def choose(self, rows: Sequence[Mapping[str, Any]]) -> int | None:
        """The epoch among ``rows`` of History; of equal ones the first. None if the metric was not computed."""
        if self.monitor is None:
            return rows[-1]["epoch"]
        values = [row[self.monitor] for row in rows]
        if None in values:
            return None
        sign = 1 if monitors()[self.monitor] == "max" else -1
        windows = (values[max(0, end - self.smoothing) : end] for end in range(1, len(values) + 1))
        means = [sign * sum(window) / len(window) for window in windows]
        # NaN is worse than any other score
        best = max(range(len(means)), key=lambda i: -math.inf if math.isnan(means[i]) else means[i])
        return rows[best]["epoch"]


def rules(monitor: str, smoothing: int) -> dict[str, Rule]:
    """What the best epoch can be chosen by, by name: the run's own rule and those that it is compared with."""
    plain = {name: Rule(name) for name in ("val_loss", "val_pr_auc", monitor)}
    own = {f"{monitor} smoothed": Rule(monitor, smoothing)} if smoothing > 1 else {}
    return plain | own | {"last epoch": Rule(None)}


def check_smoothing(epochs: Any) -> None:
    """Raise MusictagError for what is not a number of epochs."""
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
        raise MusictagError(
            f"monitor_smoothing={epochs} must be a number of epochs, at least 1; 1 takes each epoch by itself"
        )


def choice_path(run_dir: Path, name: str) -> Path:
    """The tagger that the rule with this name would choose."""
    return run_dir / CHOICES_FOLDER / f"{name.replace(' ', '_')}.safetensors"
