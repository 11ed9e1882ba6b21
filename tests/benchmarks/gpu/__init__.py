"""What a CUDA device makes of every preset: ``python -m tests.benchmarks gpu [options]``, a few minutes by default.

Tables, printed and with ``--out FOLDER`` written as CSV and Markdown, row by row: the card's own rates; a profile of
the training step; training with the real loader; the steps of the presets. All in one process, so that the time goes
into measuring; caches and compiled code are dropped between configurations. One that fails says so in its row.
"""

from __future__ import annotations

import argparse
import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musictag.common.errors import MusictagError
from tests.benchmarks.tables import Table, in_short

if TYPE_CHECKING:
    from tests.benchmarks.gpu.steps import Case

PAPER = ("pons_waveform", "pons_spectrogram")
_PARTS = ("profile", "loop", "steps")
#: other presets get the power of two that comes closest to this much audio in a batch
_BATCH_SECONDS = 384
_LOOP_SHARE = 0.4  # of the time, at most, for all that comes before the steps
_COUNTED = (
    "FLOP: torch's FlopCounterMode (convolutions, matrix products, attention; not recurrent cells of cuDNN, FFTs or "
    "pointwise operations). Bytes, unfused: inputs, outputs and weights of every operation that PyTorch dispatches, "
    "views excepted; fused: of convolutions, matrix products and poolings alone, as if a compiler merged all others "
    "into them. Roofline: max(FLOP / matrix rate of that precision, bytes / copy bandwidth) / measured time; a "
    "compiled step can exceed 100% of the unfused one. A training step: loss, backward, clipping, optimiser."
)


def main(arguments: Sequence[str]) -> int:
    """Measures until ``--minutes`` are over; raises MusictagError without a CUDA device."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks gpu", description=_COUNTED)
    parser.add_argument("--out", type=Path, help="folder for the tables as CSV and Markdown")
    parser.add_argument("--minutes", type=float, default=4.0, help="no configuration starts later than this")
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=_PARTS)
    parser.add_argument(
        "--cases", nargs="+", metavar='"pons_waveform 3 128 bf16 compiled"', help="preset, seconds of a patch, batch, "
        "precision (float32, tf32, bf16), how (eager, tuned, channels_last, compiled, graphs)",
    )  # fmt: skip
    chosen = parser.parse_args(arguments)
    began = time.monotonic()
    # imported here: without torch, --help responds at once
    import torch

    if not torch.cuda.is_available():
        raise MusictagError("the benchmark gpu needs a CUDA device, and PyTorch sees none; on a CPU use models")

    from tests.benchmarks.gpu import loop, steps

    def until(share: float) -> float:
        return began + 60 * chosen.minutes * (share if "steps" in chosen.parts else 1)

    device = torch.device("cuda")
    rates = steps.Rates.measure(device)
    title = f"{torch.cuda.get_device_name()}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}"
    with Table("card", ("what", "rate", "unit"), title, chosen.out) as table:
        table.row("copy, bytes read and written", rates.bytes / 1e12, "TB / s")
        for precision, rate in rates.flop.items():
            table.row(f"product of square matrices, {precision}", rate / 1e12, "TFLOP / s")
    given = [steps.Case.parse(text) for text in chosen.cases or ()]
    if "profile" in chosen.parts:
        with Table("profile", steps.PROFILE_COLUMNS, "A training step: the longest.", chosen.out) as table:
            profiled = given or [steps.Case(name, 3.0, 128, "bf16", "eager") for name in PAPER]
            measure(profiled, lambda case: steps.profile_of(case, device), table, until(_LOOP_SHARE))
    if "loop" in chosen.parts:
        loop.run(device, chosen.out, until(_LOOP_SHARE))
    if "steps" in chosen.parts:
        with Table("steps", steps.COLUMNS, _COUNTED, chosen.out) as table:
            measure(given or default_cases(), lambda case: steps.rows_of(case, device, rates), table, until(1))
    return 0


def default_cases() -> list[Case]:
    """The grid, what matters most first: both models of the paper in full, every other preset at one batch."""
    from musictag.experiment.compose import presets
    from tests.benchmarks.gpu.steps import PRECISIONS, Case, patch_seconds

    def paper(batches: tuple[int, ...], precisions: tuple[str, ...], *ways: str) -> Iterator[Case]:
        for how, batch, precision, name in product(ways, batches, precisions, PAPER):
            yield Case(name, 3.0, batch, precision, how)

    def others(precision: str) -> Iterator[Case]:
        for name in presets():
            seconds = patch_seconds(name)
            yield Case(name, seconds, 2 ** round(math.log2(_BATCH_SECONDS / seconds)), precision, "eager")

    cases = [
        *paper((128,), PRECISIONS, "eager"), *paper((32, 512), ("bf16",), "eager"), *others("bf16"),
        *paper((128, 512), ("bf16",), "compiled"), *others("float32"), *paper((32,), ("bf16",), "graphs"),
        *paper((32, 512), PRECISIONS, "eager"), *paper((128,), ("bf16",), "tuned", "channels_last"),
        *paper((128, 32, 512), PRECISIONS, "compiled"),
    ]  # fmt: skip
    return list(dict.fromkeys(cases))


def measure(
    cases: Sequence[Case], rows: Callable[[Case], Iterator[tuple[Any, ...]]], table: Table, deadline: float
) -> None:
    """The ``rows`` of each case, or one with its error. Those that the time does not allow are named."""
    import torch

    skipped = []
    for case in cases:
        if time.monotonic() > deadline:
            skipped.append(f'"{" ".join(map(str, case))}"')
            continue
        try:
            for row in rows(case):
                table.row(*row)
        except Exception as error:  # of one configuration: the others are still worth their time
            table.row(*case, f"failed: {in_short(error)}")
        torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()
    if skipped:
        table.note(f"Skipped, because the time was over: --cases {' '.join(skipped)}")
