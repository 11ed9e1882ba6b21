"""What a plan means: the bottleneck, and what to change before starting."""

from __future__ import annotations

from collections.abc import Iterator

from musictag.cli.plan.arithmetic import Plan

#: With fewer patches per GPU, the measured or assumed speed is not reached.
_FEW_PATCHES = 8


def bottleneck(plan: Plan) -> str:
    """What takes the largest part of an epoch after the first, in words."""
    epoch, numbers, reading = plan.later_epoch, plan.numbers, plan.reading
    if reading.later_epochs == reading.memory_bound:
        waiting = "copying patches from memory (one process per GPU)"
    elif reading.reads_bound < reading.bandwidth_bound:
        waiting = "storage: reads per second"
    else:
        waiting = "storage: bandwidth"
    between = "nodes" if numbers.nodes > 1 else "GPUs"
    parts = {
        "computing on the GPUs": epoch.computing,
        f"the exchange of gradients and statistics between {between}": epoch.exchange,
        waiting: epoch.waiting,
        "scoring the validation songs": epoch.validation,
    }
    return max(parts, key=lambda name: parts[name])


def warnings(plan: Plan) -> Iterator[str]:
    """What to change, or to know, before training."""
    numbers, world = plan.numbers, plan.numbers.world
    share, rest = divmod(numbers.batch_size, world)
    if rest:
        below, above = share * world, (share + 1) * world
        fitting = f"{below} or {above}" if below else str(above)
        yield (
            f"the batch is not divisible by the GPUs, and training would refuse it: {numbers.batch_size} = {share} x "
            f"{world} + {rest}; use --batch-size {fitting}"
        )
    if numbers.batch_size < _FEW_PATCHES * world:
        yield (
            f"a GPU gets fewer than {_FEW_PATCHES} patches of a batch ({numbers.batch_size} / {world} = "
            f"{numbers.batch_size / world:g}) and will be less busy than assumed; use --batch-size "
            f"{_FEW_PATCHES * world} or fewer GPUs"
        )
    if plan.patches_per_epoch < numbers.batch_size:
        given = numbers.patches_per_epoch is not None
        product = "" if given else f"{plan.songs[0]} songs x {numbers.patches_per_song} = "
        yield (
            f"an epoch has fewer patches ({product}{plan.patches_per_epoch}) than a batch ({numbers.batch_size}): it "
            f"is a single, smaller step; raise --patches-per-{'epoch' if given else 'song'}, or lower --batch-size"
        )
    if numbers.song_seconds < numbers.patch_seconds:
        yield (
            f"songs of {numbers.song_seconds:g} s are shorter than a patch of {numbers.patch_seconds:g} s and are "
            "repeated to fill it; use a smaller --patch-seconds"
        )
    if 0 < numbers.memory_bytes < plan.index_bytes:
        yield (
            f"{numbers.gpus} processes need {plan.index_bytes / 1e9:.1f} GB for the index of the songs, more than the "
            f"{numbers.memory_bytes / 1e9:g} GB of a node; use fewer GPUs per node, or more memory"
        )
    if plan.reading.later_epochs < plan.needed_patches_per_second:
        yield (
            f"the GPUs could train {plan.needed_patches_per_second:,.0f} patches per second but get "
            f"{plan.reading.later_epochs:,.0f}: faster storage, or memory for {plan.prepared_bytes / 1e9:,.0f} GB "
            "(--memory-gb), would help more than additional GPUs"
        )
    if plan.prepare_seconds and max(plan.prepare_seconds.values()) > plan.training_seconds:
        yield "preparing the audio takes longer than training: start with it, and keep it (musictag prepare)"
