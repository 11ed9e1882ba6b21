"""What a plan means: what most of the time goes to, and what should be changed before anything is begun."""

from __future__ import annotations

from collections.abc import Iterator

from musictag.cli.plan.arithmetic import Plan

#: A smaller share of a batch keeps no GPU as busy as the speed that was measured or assumed.
_FEW_PATCHES = 8


def bottleneck(plan: Plan) -> str:
    """What most of a later epoch goes to, in words."""
    epoch, numbers, reading = plan.later_epoch, plan.numbers, plan.reading
    if reading.later_epochs == reading.memory_bound:
        waiting = "copying patches out of memory (one process a GPU)"
    elif reading.reads_bound < reading.bandwidth_bound:
        waiting = "storage: reads a second"
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


def warnings(plan: Plan) -> list[str]:
    """What should be changed before the training is begun, or known."""
    return list(_warnings(plan))


def _warnings(plan: Plan) -> Iterator[str]:
    numbers, world = plan.numbers, plan.numbers.world
    share, rest = divmod(numbers.batch_size, world)
    if rest:
        below, above = share * world, (share + 1) * world
        fitting = f"{below} or {above}" if below else str(above)
        yield (
            f"the batch is not divisible by the GPUs, and training would refuse it: {numbers.batch_size} = {share} x "
            f"{world} + {rest}; type --batch-size {fitting}"
        )
    if numbers.batch_size < _FEW_PATCHES * world:
        yield (
            f"a GPU gets fewer than {_FEW_PATCHES} patches of a batch ({numbers.batch_size} / {world} = "
            f"{numbers.batch_size / world:g}) and will be less busy than assumed; type --batch-size "
            f"{_FEW_PATCHES * world} or use fewer GPUs"
        )
    if plan.patches_an_epoch < numbers.batch_size:
        product = f"{plan.songs[0]} songs x {numbers.patches_per_song} = {plan.patches_an_epoch}"
        yield (
            f"an epoch has fewer patches ({product}) than a batch ({numbers.batch_size}): it is one smaller "
            "step; raise --patches-per-song, or lower --batch-size"
        )
    if numbers.song_seconds < numbers.patch_seconds:
        yield (
            f"songs of {numbers.song_seconds:g} s are shorter than a patch of {numbers.patch_seconds:g} s and are "
            "repeated to its length; type a smaller --patch-seconds"
        )
    if 0 < numbers.memory_bytes < plan.index_bytes:
        yield (
            f"{numbers.gpus} processes with the songs' index need {plan.index_bytes / 1e9:.1f} GB, more than the "
            f"{numbers.memory_bytes / 1e9:g} GB of a node; use fewer GPUs a node, or more memory"
        )
    if plan.reading.later_epochs < plan.needed_patches_a_second:
        yield (
            f"the GPUs could train {plan.needed_patches_a_second:,.0f} patches a second and get "
            f"{plan.reading.later_epochs:,.0f}: faster storage, or memory for {plan.prepared_bytes / 1e9:,.0f} GB "
            "(--memory-gb), would help more than further GPUs"
        )
    if plan.prepare_seconds and max(plan.prepare_seconds.values()) > plan.training_seconds:
        yield "preparing the audio takes longer than the training: begin with it, and keep it (musictag prepare)"
