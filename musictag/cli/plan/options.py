"""From the options of `musictag plan` to numbers, each with its source."""

from __future__ import annotations

import argparse
import math
from typing import Any

from musictag.cli.plan import speed
from musictag.cli.plan.arithmetic import Numbers
from musictag.cli.plan.assumptions import (
    COPIED_MEGABYTES,
    DECODING_SOURCE,
    FORMATS,
    GPU_LINKS,
    MEDIA,
    NETWORKS,
    PRECISIONS,
    Assumption,
    choose,
)
from musictag.cli.plan.network import compose_model
from musictag.common.errors import MusictagError
from musictag.common.processes import available_cores
from musictag.models.summary import Sketch, sketch

GIVEN = "given"
#: Options that must be above zero; those in ``_NOT_NEGATIVE`` may also be zero.
_POSITIVE = (
    "songs", "seconds", "tags", "source_kbits", "decode_speed", "cores", "patch_seconds", "epochs", "patches_per_song",
    "patches_per_epoch", "batch_size", "accumulate", "patches_per_second", "peak_tflops", "utilisation",
    "evaluation_factor", "gpus", "nodes", "storage_mb", "storage_reads", "copy_mb", "gpu_link_gb", "network_gb",
    "bucket_mb",
)  # fmt: skip
_NOT_NEGATIVE = ("memory_gb", "latency_us", "overlap", "gpu_hour_price")
_AT_MOST_ONE = ("overlap", "utilisation")


class Settings:
    """The ``numbers`` of the plan, the ``assumptions`` by the name of their option, and the ``model``.

    Raises MusictagError for options out of range, unknown names, and options that contradict each other.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        _check(options)
        self._options = options
        self.assumptions: dict[str, Assumption] = {}
        self._gpus, self._nodes = options.gpus or 1, options.nodes or 1
        several = self._gpus * self._nodes > 1
        metrics = speed.read_run(options.run_folder) if options.run_folder else None
        config = self._config(metrics, several)
        trainer = config["trainer"]
        place = "conf/trainer/default.yaml" if metrics is None else options.run_folder
        data_place = "conf/data/_loader.yaml" if metrics is None else options.run_folder

        self._number("songs", None, "songs", "")
        self._number("seconds", 30.0, "s per song", "assumed: a preview; musictag data describe shows yours")
        split = self._split()
        tags = self._number(
            "tags",
            50 if metrics is None else len(metrics["test"]["tags"]),
            "tags",
            "assumed" if metrics is None else place,
        )
        self.model: Sketch = sketch(config, int(tags))
        self._note("model", self.model.name, "", "--run" if metrics else _model_source(options))
        self._note("patch_seconds", self.model.patch_seconds, "s per patch", _given(options.patch_seconds, "the model"))
        self._note("precision", self._precision(metrics, trainer), "", _given(options.precision, place))
        epochs = self._number("epochs", trainer["max_epochs"], "at most; early stopping may end sooner", place)
        per_song = self._number(
            "patches_per_song", config["data"]["patches_per_song"], "per song and epoch", data_place
        )
        per_epoch = None if options.patches_per_song else config["data"].get("patches_per_epoch")
        per_epoch = self._number("patches_per_epoch", per_epoch, "of all songs; none: --patches-per-song", data_place)
        batch = self._number("batch_size", config["data"]["batch_size"], "patches over all GPUs", data_place)
        accumulate = self._number("accumulate", trainer["accumulate_grad_batches"], "batches per optimizer step", place)
        self._number("gpus", 1, "per node", "assumed")
        self._number("nodes", 1, "machines", "assumed")
        rate = self._speed(metrics, batch)
        # songs are scored in float32, which is about half as fast as mixed precision
        assumed = (3.0, "no backward") if self._value("precision") == "32-true" else (1.5, "in float32, no backward")
        factor = self._number(
            "evaluation_factor", assumed[0], "x as fast as training", f"assumed: forward alone, {assumed[1]}"
        )

        source_bytes, decoded = self._files()
        cores = self._number("cores", available_cores(), "cores that decode", "this machine's")
        storage = self._storage()
        memory = self._number("memory_gb", 0.0, "GB per node for audio and index", "not given: nothing is cached")
        copied = self._number(
            "copy_mb", COPIED_MEGABYTES, "MB/s per process, from memory", "measured: docs/benchmarks.md"
        )
        link, network = self._links()
        overlap = self._number(
            "overlap", 0.0, "of the backward pass", "assumed: no communication is hidden, the slowest case"
        )
        # not the settings of a run: it may have used one GPU
        shipped = config if metrics is None else compose_model(None, None, None, None, (), several)
        ddp = (shipped if several else compose_model(None, None, None, None, (), True))["trainer"]["strategy"]
        bucket = self._number("bucket_mb", ddp["bucket_cap_mb"], "MiB", "conf/trainer/ddp.yaml")
        given = options.sync_batch_norm
        sync = shipped["trainer"]["sync_batchnorm"] if given is None else given
        self._note("sync_batch_norm", sync, "", _given(given, f"conf/trainer/{'ddp' if several else 'default'}.yaml"))
        price = options.gpu_hour_price
        self._note("gpu_hour_price", price, "per GPU hour", _given(price, "not given: ask the provider of the GPUs"))
        self.numbers = Numbers(
            songs=options.songs,
            song_seconds=self._value("seconds"),
            split=split,
            tags=int(tags),
            source_bytes_per_second=source_bytes,
            decoded_per_second=decoded,
            cores=int(cores),
            parameters=self.model.parameters,
            batch_norms=self.model.batch_norms,
            patch_seconds=self.model.patch_seconds,
            gpu_patches_per_second=rate,
            evaluation_factor=factor,
            epochs=int(epochs),
            patches_per_song=int(per_song),
            patches_per_epoch=per_epoch and int(per_epoch),
            batch_size=int(batch),
            accumulate=int(accumulate),
            gpus=self._gpus,
            nodes=self._nodes,
            storage_bytes_per_second=storage[0] * 1e6,
            storage_reads_per_second=storage[1],
            storage_shared=storage[2],
            memory_bytes=memory * 1e9,
            copied_bytes_per_second=copied * 1e6,
            link_bytes_per_second=link[0] * 1e9,
            link_latency_seconds=link[1] / 1e6,
            network_bytes_per_second=network[0] * 1e9,
            network_latency_seconds=network[1] / 1e6,
            overlap=overlap,
            bucket_mb=bucket,
            sync_batch_norm=sync,
            gpu_hour_price=price,
        )

    def _config(self, metrics: dict[str, Any] | None, several: bool) -> dict[str, Any]:
        options = self._options
        if metrics is None:
            return compose_model(
                options.model, options.frontend, options.backend, options.patch_seconds, options.overrides, several
            )
        said = ("model", "frontend", "backend", "patch_seconds", "precision", "overrides")
        if wrong := [_flag(name) for name in said if getattr(options, name)]:
            raise MusictagError(f"--run sets the network and its settings: omit {', '.join(wrong)}")
        return metrics["config"]

    def _precision(self, metrics: dict[str, Any] | None, trainer: dict[str, Any]) -> str:
        # that of a run: the one that trainer.precision=auto has chosen
        precision = self._options.precision or (metrics or {}).get("precision") or trainer["precision"]
        choose(PRECISIONS, precision, "--precision")
        return precision

    def _split(self) -> tuple[float, float, float]:
        text = self._options.split
        try:
            shares = tuple(float(share) for share in (text or "0.8,0.1,0.1").split(","))
        except ValueError:
            shares = ()
        if len(shares) != 3 or not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
            raise MusictagError(
                f"--split {text}: give three shares (training, validation, test) that sum to 1: --split 0.8,0.1,0.1"
            )
        if round(self._options.songs * shares[1]) + round(self._options.songs * shares[2]) >= self._options.songs:
            raise MusictagError(f"--split {text or ''} of --songs {self._options.songs} leaves no songs for training")
        source = _given(text, "default of data.split_fractions")
        self._note("split", ",".join(f"{share:g}" for share in shares), "training, validation, test", source)
        return shares

    def _speed(self, metrics: dict[str, Any] | None, batch: float) -> float:
        options = self._options
        ways = [name for name in ("patches_per_second", "run_folder", "measure") if getattr(options, name)]
        if len(ways) > 1:
            raise MusictagError(f"{' and '.join(map(_flag, ways))} both set the speed of a GPU; choose one of them")
        estimate = [name for name in ("gpu_model", "peak_tflops", "utilisation") if getattr(options, name) is not None]
        if ways and estimate:
            raise MusictagError(
                f"{', '.join(map(_flag, estimate))}: only for an estimate, which {_flag(ways[0])} replaces; omit it"
            )
        if options.gpu_model and options.peak_tflops:
            raise MusictagError("--gpu-model and --peak-tflops both set a GPU's peak; choose one of them")
        precision = self._value("precision")
        if options.patches_per_second:
            found = Assumption(options.patches_per_second, speed.UNIT, GIVEN)
        elif metrics is not None:
            found = speed.speed_of_run(options.run_folder, metrics)
        elif options.measure:
            share = max(1, round(batch / (self._gpus * self._nodes)))
            found = speed.measured_speed(self.model, share, precision)
        else:
            self._note("gpu_model", options.gpu_model or "a100", "", _given(options.gpu_model, "assumed"))
            if options.peak_tflops:
                self._note("peak_tflops", options.peak_tflops, "TFLOP/s", GIVEN)
                del self.assumptions["gpu_model"]
            used = self._number("utilisation", 0.1, "of the peak", "assumed; a plan depends on it most")
            name = options.gpu_model or "a100"
            found = speed.estimated_speed(self.model, precision, name, options.peak_tflops, used)
        self.assumptions["patches_per_second"] = found
        return float(found.value)

    def _files(self) -> tuple[float, float | None]:
        """Bytes per second of music, and seconds of music that one core decodes per second."""
        options = self._options
        name = options.format or "mp3"
        form = choose(FORMATS, name, "--format")
        self._note("format", name, "files", _given(options.format, "assumed"))
        if form.decoded is None:
            chosen = [n for n in ("decode_speed", "measure_decoding", "source_kbits") if getattr(options, n)]
            if chosen:
                raise MusictagError(f"--format {name} is prepared audio, which is not decoded; omit {_flag(chosen[0])}")
            return form.bytes_per_second, None
        kbits = self._number("source_kbits", form.bytes_per_second * 8 / 1000, "kbit/s", form.why)
        if options.measure_decoding and options.decode_speed:
            raise MusictagError("--decode-speed and --measure-decoding both set the decode speed; choose one of them")
        if options.measure_decoding:
            self.assumptions["decode_speed"] = speed.measured_decoding(name)
        else:
            self._number("decode_speed", form.decoded, "s of audio / s and core", DECODING_SOURCE)
        return kbits * 1000 / 8, self._value("decode_speed")

    def _storage(self) -> tuple[float, float, bool]:
        options = self._options
        name = options.storage or "nvme"
        medium = choose(MEDIA, name, "--storage", "--storage-mb and --storage-reads for the most similar one")
        whose = "all nodes together" if medium.shared else "per node"
        self._note("storage", name, whose, _given(options.storage, "assumed"))
        bandwidth = self._number("storage_mb", medium.megabytes, f"MB/s, {whose}", medium.why)
        reads = self._number("storage_reads", medium.reads, f"reads / s, {whose}", medium.why)
        return bandwidth, reads, medium.shared

    def _links(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Gigabytes per second and microseconds, within a node and between nodes."""
        options, found = self._options, []
        for option, table, default in (("gpu_link", GPU_LINKS, "pcie4"), ("network", NETWORKS, "25gbe")):
            name = getattr(options, option) or default
            link = choose(table, name, _flag(option), f"{_flag(option)}-gb")
            self._note(option, name, "", _given(getattr(options, option), "assumed"))
            gigabytes = self._number(f"{option}_gb", link.gigabytes, "GB/s per direction", link.why)
            found.append((gigabytes, link.latency_us if options.latency_us is None else options.latency_us))
        slowest = found[1 if self._nodes > 1 else 0][1]
        self._note("latency_us", slowest, "microseconds per message", _given(options.latency_us, "assumed"))
        return found[0], found[1]

    def _number(self, name: str, default: float | None, unit: str, source: str) -> Any:
        """The option ``name`` if it was given, else ``default``; recorded with its source."""
        given = getattr(self._options, name)
        value = default if given is None else given
        self._note(name, value, unit, _given(given, source))
        return value

    def _note(self, name: str, value: Any, unit: str, source: str) -> None:
        self.assumptions[name] = Assumption(value, unit, source)

    def _value(self, name: str) -> Any:
        return self.assumptions[name].value


def _given(value: object, source: str) -> str:
    return source if value is None else GIVEN


def _model_source(options: argparse.Namespace) -> str:
    parts = [part for part in (options.model, options.frontend, options.backend, *options.overrides) if part]
    return GIVEN if parts else "defaults of conf/train.yaml"


def _flag(name: str) -> str:
    special = {"overrides": "overrides", "run_folder": "--run"}
    return special.get(name, "--" + name.replace("_", "-"))


def _check(options: argparse.Namespace) -> None:
    for name in (*_POSITIVE, *_NOT_NEGATIVE):
        value = getattr(options, name)
        if value is None:
            continue
        zero = name in _NOT_NEGATIVE
        if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
            raise MusictagError(f"{_flag(name)} {value:g}: it must be {'at least' if zero else 'above'} 0")
        if name in _AT_MOST_ONE and value > 1:
            raise MusictagError(f"{_flag(name)} {value:g} is a share: at most 1, such as {_flag(name)} 0.5")
