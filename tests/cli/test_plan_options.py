"""Every option of `musictag plan` is read, has a default with a source, and refuses what makes no sense."""

from __future__ import annotations

import json
from functools import cache

import pytest

from musictag import cli
from musictag.cli.plan import assumptions
from musictag.cli.plan.arithmetic import make_plan
from musictag.cli.plan.show import as_dict
from musictag.experiment.compose import compose
from tests.helpers.marks import first_fast
from tests.helpers.models import PRESETS
from tests.helpers.plans import SEVERAL, SONGS, parser, planned, settings

SLOW = (*SONGS, "--storage", "hdd")
#: For each option the words without it, and with it; what is planned must differ.
CHANGES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "overrides": (SONGS, ("frontend.filter_multiplier=0.5",)),
    "songs": ((), ("--songs", "200000")),
    "seconds": (SONGS, ("--seconds", "60")),
    "split": (SONGS, ("--split", "0.6,0.2,0.2")),
    "tags": (SONGS, ("--tags", "139")),
    "format": (SONGS, ("--format", "flac")),
    "source_kbits": (SONGS, ("--source-kbits", "320")),
    "decode_speed": (SONGS, ("--decode-speed", "100")),
    "measure_decoding": (SONGS, ("--measure-decoding",)),
    "cores": ((*SONGS, "--cores", "2"), ("--cores", "32")),
    "model": (SONGS, ("--model", "musicnn")),
    "frontend": (SONGS, ("--frontend", "waveform")),
    "backend": (SONGS, ("--backend", "pooling")),
    "patch_seconds": (SONGS, ("--patch-seconds", "15")),
    "epochs": (SONGS, ("--epochs", "10")),
    "patches_per_song": (SONGS, ("--patches-per-song", "4")),
    "patches_per_epoch": (SONGS, ("--patches-per-epoch", "4096")),
    "batch_size": (SONGS, ("--batch-size", "64")),
    "accumulate": (SEVERAL, ("--accumulate", "4")),
    "precision": (SONGS, ("--precision", "bf16-mixed")),
    "patches_per_second": (SONGS, ("--patches-per-second", "1000")),
    "measure": ((*SONGS, "--model", "waveform_small", "--batch-size", "2"), ("--measure",)),
    "gpu_model": (SONGS, ("--gpu-model", "h100")),
    "peak_tflops": (SONGS, ("--peak-tflops", "40")),
    "utilisation": (SONGS, ("--utilisation", "0.3")),
    "evaluation_factor": (SONGS, ("--evaluation-factor", "2")),
    "gpus": (SONGS, ("--gpus", "4")),
    "nodes": (SONGS, ("--nodes", "2")),
    "gpu_hour_price": (SONGS, ("--gpu-hour-price", "2")),
    "storage": (SONGS, ("--storage", "nfs")),
    "storage_mb": (SONGS, ("--storage-mb", "10")),
    "storage_reads": (SLOW, ("--storage-reads", "20")),
    "memory_gb": (SLOW, ("--memory-gb", "64")),
    "copy_mb": ((*SLOW, "--memory-gb", "200"), ("--copy-mb", "1")),
    "gpu_link": ((*SONGS, "--gpus", "4"), ("--gpu-link", "nvlink3")),
    "gpu_link_gb": ((*SONGS, "--gpus", "4"), ("--gpu-link-gb", "1")),
    "network": (SEVERAL, ("--network", "10gbe")),
    "network_gb": (SEVERAL, ("--network-gb", "1")),
    "latency_us": (SEVERAL, ("--latency-us", "100")),
    "overlap": (SEVERAL, ("--overlap", "0.5")),
    "bucket_mb": (SEVERAL, ("--bucket-mb", "1")),
    "sync_batch_norm": (SEVERAL, ("--no-sync-batch-norm",)),
}  # fmt: skip


def test_every_option_is_tried() -> None:
    there = {name for name in vars(parser().parse_args(SONGS)) if name != "json"}
    assert there == {*CHANGES, "run_folder"}  # of a run, below


@cache
def _planned(words: tuple[str, ...]) -> str:
    """The plan without its assumptions."""
    chosen = settings(*words)
    content = as_dict(make_plan(chosen.numbers), chosen.model, {})
    return json.dumps(content)


@pytest.mark.parametrize(
    "option", [pytest.param(name, marks=[pytest.mark.slow] if i % 4 else []) for i, name in enumerate(CHANGES)]
)
def test_every_option_changes_the_plan(option: str) -> None:
    without, with_it = CHANGES[option]
    if option == "songs":
        without = SONGS
        assert _planned(with_it) != _planned(without)
        return
    assert _planned((*with_it, *without) if option == "overrides" else (*without, *with_it)) != _planned(without)


def test_what_is_given_replaces_what_is_assumed(capsys: pytest.CaptureFixture[str]) -> None:
    shown = planned(capsys, *SONGS, "--storage", "hdd", "--storage-mb", "99", "--cores", "3")
    assumed = shown["assumptions"]
    assert assumed["storage_mb"] == {"value": 99.0, "unit": "MB/s, per node", "source": "given"}
    assert assumed["storage_reads"]["value"] == assumptions.MEDIA["hdd"].reads
    assert "7,200 rpm" in assumed["storage_reads"]["source"]
    assert assumed["cores"] == {"value": 3, "unit": "cores that decode", "source": "given"}
    assert all(entry["source"] for entry in assumed.values())


def test_defaults_are_those_of_the_shipped_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    config = compose(["trainer=ddp"])
    shipped = config["data"] | config["trainer"] | config["trainer"]["strategy"]
    assumed = planned(capsys, *SONGS, "--gpus", "2")["assumptions"]
    names = {"epochs": "max_epochs", "accumulate": "accumulate_grad_batches",
             "bucket_mb": "bucket_cap_mb", "sync_batch_norm": "sync_batchnorm"}  # fmt: skip
    for name in ("epochs", "patches_per_song", "batch_size", "accumulate", "precision", "bucket_mb", "sync_batch_norm"):
        assert assumed[name]["value"] == shipped[names.get(name, name)]
        assert assumed[name]["source"].startswith(("conf/trainer/", "conf/data/"))


def test_an_estimate_says_that_it_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    model = ("--model", "musicnn")
    shown = planned(capsys, *SONGS, *model)
    flops = shown["model"]["gflop_per_patch_forward"] * 1e9
    speed = shown["assumptions"]["patches_per_second"]
    assert speed["value"] == pytest.approx(0.1 * 19.5e12 / (3 * flops))
    assert speed["source"].startswith("ESTIMATED, not measured: 19.5 TFLOP/s of a100 in float32 x 0.1 / (3 x ")
    half = planned(capsys, *SONGS, *model, "--gpu-model", "h100", "--precision", "bf16-mixed", "--utilisation", "0.2")
    assert half["assumptions"]["patches_per_second"]["value"] == pytest.approx(0.2 * 989e12 / (3 * flops))
    own = planned(capsys, *SONGS, *model, "--peak-tflops", "10")
    assert own["assumptions"]["patches_per_second"]["value"] == pytest.approx(0.1 * 10e12 / (3 * flops))
    assert "gpu_model" not in own["assumptions"]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_measured_speed_is_that_of_the_real_network(capsys: pytest.CaptureFixture[str], precision: str) -> None:
    words = (*SONGS, "--model", "waveform_small", "--batch-size", "4", "--gpus", "2", "--precision", precision)
    speed = planned(capsys, *words, "--measure")["assumptions"]["patches_per_second"]
    assert speed["value"] > 0
    assert speed["source"].startswith(f"measured here: steps of 2 patches, {precision}, on ")


@pytest.mark.parametrize("name", first_fast(PRESETS, 3))
def test_every_published_network_can_be_planned(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = planned(capsys, *SONGS, "--model", name, "--gpus", "8", "--batch-size", "256")
    config = compose([f"model={name}"])
    assert shown["model"]["name"] == name
    assert shown["assumptions"]["patch_seconds"]["value"] == pytest.approx(config["data"]["patch_seconds"], abs=1e-3)
    gradient = 2 * 7 / 8 * 4 * shown["model"]["parameters"] / 1e6
    assert shown["exchange"]["gradient_mb_per_step"] == pytest.approx(gradient)
    assert 0 < shown["training"]["hours"] < 1e5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--songs 0", "--songs 0: it must be above 0"),
        ("--songs 10 --seconds nan", "--seconds nan: it must be above 0"),
        ("--songs 10 --memory-gb -1", "--memory-gb -1: it must be at least 0"),
        ("--songs 10 --gpus 0", "--gpus 0: it must be above 0"),
        ("--songs 10 --overlap 1.5", "is a share: at most 1, such as --overlap 0.5"),
        ("--songs 10 --utilisation 2", "is a share: at most 1"),
        ("--songs 10 --model nonsense", "there is no network --model nonsense; choose one of crnn, "),
        ("--songs 10 --model gbt", "there is no network --model gbt"),
        ("--songs 10 --frontend nonsense", "frontend/nonsense"),
        ("--songs 10 --model musicnn --backend dense", "omit --frontend and --backend"),
        ("data.path=x --songs 10", "data.path=x: only keys of the network"),
        ("frontend.nonsense=1 --songs 10", "nonsense"),
        ("--songs 10 --patch-seconds 0.01", "data.patch_seconds=0.01 is too short"),
        ("--songs 10 --precision 8-bit", "--precision 8-bit is unknown; choose one of 32-true, bf16-mixed"),
        ("--songs 10 --storage tape", "choose one of nvme, sata, hdd, nfs, lustre; or give numbers with"),
        ("--songs 10 --gpu-link rope", "choose one of pcie3, pcie4"),
        ("--songs 10 --network rope", "choose one of 10gbe, 25gbe"),
        ("--songs 10 --gpu-model abacus", "choose one of t4, v100"),
        ("--songs 10 --gpu-model t4 --precision bf16-mixed", "t4 does not support bfloat16; use --precision 16-mixed"),
        ("--songs 10 --gpu-model t4 --peak-tflops 3", "both set a GPU's peak; choose one"),
        ("--songs 10 --measure --patches-per-second 3", "both set the speed of a GPU; choose one"),
        ("--songs 10 --patches-per-second 3 --gpu-model t4", "--gpu-model: only for an estimate"),
        ("--songs 10 --format ogg", "choose one of mp3, flac, wav, int16"),
        ("--songs 10 --format int16 --decode-speed 3", "is not decoded; omit --decode-speed"),
        ("--songs 10 --measure-decoding --decode-speed 3", "both set the decode speed; choose one of them"),
        ("--songs 10 --split 0.5,0.5", "--split 0.5,0.5: give three shares"),
        ("--songs 10 --split a,b,c", "that sum to 1: --split 0.8,0.1,0.1"),
        ("--songs 10 --split 0.8,0.2,0.2", "that sum to 1"),
        ("--songs 10 --split 0,0.5,0.5", "leaves no songs for training"),
    ],
)  # fmt: skip
def test_bad_input_says_what_to_type(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", *words.split()]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("musictag: ")
    assert message in captured.err


def test_a_number_that_is_none_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--songs", "many"], []):
        with pytest.raises(SystemExit):
            cli.main(["plan", *words])
        assert "usage: musictag plan" in capsys.readouterr().err


def test_mixed_precision_makes_training_faster_and_not_validation(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = []
    for precision in ("32-true", "bf16-mixed"):
        words = (*SONGS, "--patches-per-second", "1000", "--precision", precision)
        seconds.append(planned(capsys, *words)["training"]["epoch_seconds_by_part"]["validation"])
    assert seconds[1] == pytest.approx(2 * seconds[0])
