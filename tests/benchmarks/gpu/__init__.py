"""What a CUDA device makes of every preset: ``python -m tests.benchmarks gpu [options]``, a few minutes by default.

Three tables, printed and with ``--out FOLDER`` written as CSV and Markdown, row by row: the card's own rates, training
with the real loader, and the steps of the presets. All in one process, so that the time goes into measuring; caches and
compiled code are dropped between configurations. A configuration that fails says so in its row.
"""

from __future__ import annotations

import argparse
import gc
import math
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from musictag.common.errors import MusictagError
from tests.benchmarks.tables import Table, in_short

PAPER = ("pons_waveform", "pons_spectrogram")
_BATCHES = (128, 32, 512)
#: other presets get the power of two that comes closest to this much audio in a batch
_BATCH_SECONDS = 384
_LOOP_SHARE = 0.4  # of the time, at most
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
    parser.add_argument("--parts", nargs="+", choices=("loop", "steps"), default=["loop", "steps"])
    parser.add_argument("--presets", nargs="+", help="steps of these presets only, all combinations of what follows")
    parser.add_argument("--batches", nargs="+", type=int, default=list(_BATCHES))
    parser.add_argument("--precisions", nargs="+", default=["bf16", "tf32", "float32"])
    parser.add_argument("--how", nargs="+", default=["eager", "compiled"])
    parser.add_argument("--patch-seconds", type=float, help="default: the preset's own")
    chosen = parser.parse_args(arguments)
    began = time.monotonic()
    # imported here: without torch, --help responds at once
    import torch

    if not torch.cuda.is_available():
        raise MusictagError("the benchmark gpu needs a CUDA device, and PyTorch sees none; on a CPU use models")

    from tests.benchmarks.gpu import loop, steps

    deadline = began + 60 * chosen.minutes
    device = torch.device("cuda")
    rates = steps.Rates.measure(device)
    title = f"{torch.cuda.get_device_name()}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}"
    with Table("card", ("what", "rate", "unit"), title, chosen.out) as table:
        table.row("copy, bytes read and written", rates.bytes / 1e12, "TB / s")
        for precision, rate in rates.flop.items():
            table.row(f"product of square matrices, {precision}", rate / 1e12, "TFLOP / s")
    if "loop" in chosen.parts:
        loop.run(device, chosen.out, began + (deadline - began) * _LOOP_SHARE)
    if "steps" in chosen.parts:
        if chosen.presets is None:
            cases = default_cases()
        else:
            seconds = {name: chosen.patch_seconds or steps.patch_seconds(name) for name in chosen.presets}
            grid = product(chosen.presets, chosen.batches, chosen.precisions, chosen.how)
            cases = [steps.Case(name, seconds[name], *rest) for name, *rest in grid]
        measure(cases, device, rates, chosen.out, deadline)
    return 0


def default_cases() -> list:
    """The grid, what matters most first: both models of the paper in full, every other preset at one batch."""
    from musictag.experiment.compose import presets
    from tests.benchmarks.gpu.steps import Case, patch_seconds

    paper = [
        Case(name, 3.0, batch, precision, how)
        for how, batch, precision, name in product(("eager", "compiled"), _BATCHES, ("bf16", "tf32", "float32"), PAPER)
    ]
    ways = [Case(name, 3.0, 128, "bf16", how) for how in ("tuned", "channels_last", "graphs") for name in PAPER]
    others = []
    for name in presets():
        seconds = patch_seconds(name)
        batch = 2 ** round(math.log2(_BATCH_SECONDS / seconds))
        others += [Case(name, seconds, batch, precision, "eager") for precision in ("bf16", "float32")]
    first = [case for case in paper if case.batch == 128 and (case.how == "eager" or case.precision == "bf16")]
    eager = [case for case in paper if case.how == "eager" and case not in first]
    rest = [case for case in paper if case not in first and case not in eager]
    return first + ways + others + eager + rest


def measure(cases: Sequence, device, rates, out: Path | None, deadline: float) -> None:
    """The rows of ``cases``: two each, or one with the error. Those that the time does not allow are named."""
    import torch

    from tests.benchmarks.gpu.steps import COLUMNS, steps_of

    skipped = []
    with Table("steps", COLUMNS, _COUNTED, out) as table:
        for case in cases:
            if time.monotonic() > deadline:
                skipped.append(" ".join(map(str, case)))
                continue
            try:
                for row in steps_of(case, device, rates):
                    table.row(*row)
            except Exception as error:  # of one configuration: the others are still worth their time
                table.row(*case, "failed", *[None] * (len(COLUMNS) - len(case) - 2), in_short(error))
            torch.compiler.reset()
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
        if skipped:
            table.note(f"{len(skipped)} skipped, because the time was over (--minutes): {'; '.join(skipped)}")
