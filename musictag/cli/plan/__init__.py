"""`musictag plan`: estimate what training will take, before anything is bought, copied or started.

Every number rests on assumptions that are printed with their sources, and that options replace:
``assumptions`` (tables), ``network`` (which one), ``speed`` (of one GPU, of decoding), ``options`` (from options to
numbers), ``arithmetic`` (from numbers to a plan), ``show`` (tables or JSON).
"""

from __future__ import annotations

import argparse

from musictag.cli.plan.assumptions import GPU_LINKS, MEDIA, NETWORKS, PROCESSORS
from musictag.common.paths import path_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag plan`."""
    parser.description = (
        "Estimate what training takes. All assumptions are printed with their sources, and each is an option. "
        "Nothing is read or trained, unless --run or --measure asks for it."
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "examples:\n"
        "  musictag plan --songs 1200000 --model musicnn --gpus 8 --batch-size 512 --gpu-model a100\n"
        "  musictag plan --songs 50000 --seconds 30 --run runs/songbook/spectrogram-residual-0123abcd\n\n"
        "docs/scaling.md explains the arithmetic."
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings of frontend or backend, as for train.py"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    _add_data(parser.add_argument_group("data"))
    _add_training(parser.add_argument_group("network and training"))
    _add_speed(parser.add_argument_group("speed of one GPU (choose one; estimated by default)"))
    _add_machines(parser.add_argument_group("machines"))


def run(arguments: argparse.Namespace) -> int:
    """Print the plan that the options ask for; returns the exit status.

    Raises MusictagError for options that are out of range, unknown, or contradict each other.
    """
    from musictag.cli.plan.arithmetic import make_plan
    from musictag.cli.plan.options import Settings
    from musictag.cli.plan.show import as_dict, print_json, print_plan

    settings = Settings(arguments)
    plan = make_plan(settings.numbers)
    if arguments.json:
        print_json(as_dict(plan, settings.model, settings.assumptions))
    else:
        print_plan(plan, settings.model, settings.assumptions)
    return 0


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--songs", type=int, required=True, metavar="N", help="number of songs, all splits together")
    group.add_argument("--seconds", type=float, metavar="S", help="length of a song in seconds (default: 30)")
    group.add_argument("--split", metavar="A,B,C", help="shares of training, validation, test (default: 0.8,0.1,0.1)")
    group.add_argument("--tags", type=int, metavar="K", help="number of tags (default: 50)")
    group.add_argument(
        "--format", metavar="NAME", help="format of the files: mp3 (default), flac, wav; int16: already prepared"
    )
    group.add_argument("--source-kbits", type=float, metavar="KBIT", help="bit rate of the files, kbit/s")
    group.add_argument(
        "--decode-speed", type=float, metavar="X", help="seconds of audio that one core decodes per second"
    )
    group.add_argument("--measure-decoding", action="store_true", help="measure the decode speed on this machine")
    group.add_argument("--cores", type=int, metavar="N", help="number of cores that decode (default: this machine's)")


def _add_training(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", metavar="NAME", help="as model=NAME of train.py (musictag models lists them)")
    group.add_argument("--frontend", metavar="NAME", help="as frontend=NAME of train.py")
    group.add_argument("--backend", metavar="NAME", help="as backend=NAME of train.py")
    group.add_argument("--patch-seconds", type=float, metavar="S", help="as data.patch_seconds (default: the model's)")
    group.add_argument("--epochs", type=int, metavar="N", help="as trainer.max_epochs")
    group.add_argument("--patches-per-song", type=int, metavar="N", help="per epoch, as data.patches_per_song")
    group.add_argument("--patches-per-epoch", type=int, metavar="N", help="of all songs, as data.patches_per_epoch")
    group.add_argument("--batch-size", type=int, metavar="N", help="patches over all GPUs, as data.batch_size")
    group.add_argument("--accumulate", type=int, metavar="N", help="as trainer.accumulate_grad_batches")
    group.add_argument("--precision", metavar="NAME", help="as trainer.precision: 32-true, bf16-mixed or 16-mixed")


def _add_speed(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--patches-per-second", type=float, metavar="X", help="training speed of one GPU")
    group.add_argument(
        "--run",
        dest="run_folder",
        type=path_argument,
        metavar="FOLDER",
        help="use the speed, network and settings of a finished run",
    )
    group.add_argument("--measure", action="store_true", help="time training steps on this machine's device")
    group.add_argument(
        "--gpu-model",
        metavar="NAME",
        help=f"estimate from the peak of this GPU: {', '.join(PROCESSORS)} (default: a100)",
    )
    group.add_argument("--peak-tflops", type=float, metavar="X", help="estimate from this peak, TFLOP/s")
    group.add_argument(
        "--utilisation", type=float, metavar="X", help="share of the peak that is reached (default: 0.1)"
    )
    group.add_argument(
        "--evaluation-factor", type=float, metavar="X", help="speed of scoring relative to training (default: 3)"
    )


def _add_machines(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--gpus", type=int, metavar="N", help="GPUs per node (default: 1)")
    group.add_argument("--nodes", type=int, metavar="N", help="number of nodes (default: 1)")
    group.add_argument("--gpu-hour-price", type=float, metavar="X", help="price of one GPU hour, in any currency")
    group.add_argument(
        "--storage", metavar="NAME", help=f"storage of prepared audio: {', '.join(MEDIA)} (default: nvme)"
    )
    group.add_argument("--storage-mb", type=float, metavar="MB", help="its bandwidth, MB/s")
    group.add_argument("--storage-reads", type=float, metavar="N", help="its random reads per second (IOPS)")
    group.add_argument("--memory-gb", type=float, metavar="GB", help="memory per node; audio that fits is cached there")
    group.add_argument("--copy-mb", type=float, metavar="MB", help="copy speed of one process from memory, MB/s")
    group.add_argument(
        "--gpu-link", metavar="NAME", help=f"link within a node: {', '.join(GPU_LINKS)} (default: pcie4)"
    )
    group.add_argument("--gpu-link-gb", type=float, metavar="GB", help="its bandwidth per direction, GB/s")
    group.add_argument(
        "--network", metavar="NAME", help=f"network between nodes: {', '.join(NETWORKS)} (default: 25gbe)"
    )
    group.add_argument("--network-gb", type=float, metavar="GB", help="its bandwidth per direction, GB/s")
    group.add_argument("--latency-us", type=float, metavar="US", help="latency per message in microseconds")
    group.add_argument(
        "--overlap", type=float, metavar="X", help="share of the backward pass that hides communication (default: 0)"
    )
    group.add_argument("--bucket-mb", type=float, metavar="MB", help="as trainer.strategy.bucket_cap_mb (default: 25)")
    group.add_argument(
        "--sync-batch-norm",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="as trainer.sync_batchnorm (default: as in conf/trainer/ddp.yaml)",
    )
