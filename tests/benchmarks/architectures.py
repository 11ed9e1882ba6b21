"""How fast the published architectures train and tag, at their own sizes and patch lengths."""

from __future__ import annotations

from collections.abc import Iterator

from musictag.experiment.compose import compose, presets
from tests.benchmarks.figures import Figure
from tests.benchmarks.models import speeds

_PRESETS = presets()
_BATCH_SECONDS = 15  # about the same amount of audio per batch for every patch length


def benchmark() -> Iterator[Figure]:
    """How much audio per second each preset trains on and tags, on one CPU thread of this machine."""
    for name in _PRESETS:
        config = compose([f"model={name}"])
        patch_seconds = config["data"]["patch_seconds"]
        batch_size = max(2, round(_BATCH_SECONDS / patch_seconds))  # batch norm needs two
        training, tagging = speeds(config["frontend"], config["backend"], patch_seconds, batch_size)
        yield Figure(f"{name}: training, batches of {batch_size} x {patch_seconds:.2f} s", training, "s of audio / s")
        yield Figure(f"{name}: tagging", tagging, "s of audio / s")
