"""Assumptions about machines, unless an option replaces them. They are not measurements, unless they say so.

Units: MB and GB are 1e6 and 1e9 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from musictag.common.errors import MusictagError


@dataclass(frozen=True)
class Assumption:
    """A number that a plan rests on, and its source."""

    value: float | int | str | bool | None
    unit: str
    source: str


class Medium(NamedTuple):
    """Storage of prepared audio: megabytes and random reads per second; ``shared``: between all nodes."""

    megabytes: float
    reads: float
    shared: bool
    why: str


class Link(NamedTuple):
    """A link between two GPUs: gigabytes per second in one direction, microseconds until a message begins to arrive."""

    gigabytes: float
    latency_us: float
    why: str


class Processor(NamedTuple):
    """Peak of a GPU without sparsity, TFLOP/s: float32 (without TF32), float16 and bfloat16 (None: not supported)."""

    float32: float
    float16: float
    bfloat16: float | None


class Format(NamedTuple):
    """Audio files: bytes per second of music; ``decoded``: seconds of music that one core decodes per second."""

    bytes_per_second: float
    decoded: float | None
    why: str


MEDIA: Mapping[str, Medium] = {
    "nvme": Medium(3000, 300_000, False, "assumed: a PCIe 3 or 4 drive in each node"),
    "sata": Medium(500, 50_000, False, "assumed: an SSD in each node, behind a link of 600 MB/s"),
    "hdd": Medium(150, 80, False, "assumed: a 7,200 rpm disk in each node, 4 ms for half a turn and 8 ms for seeking"),
    "nfs": Medium(1000, 5_000, True, "assumed: one server behind 10 GbE for all nodes"),
    "lustre": Medium(10_000, 50_000, True, "assumed: a parallel file system, the share of one job"),
}

#: The share of a link's nominal speed that gradients get.
_USABLE = 0.8


def _link(nominal: float, latency_us: float, what: str) -> Link:
    return Link(
        _USABLE * nominal, latency_us, f"{what}: {nominal:g} GB/s per direction, of which {_USABLE:.0%} is assumed"
    )


GPU_LINKS: Mapping[str, Link] = {
    "pcie3": _link(15.75, 10, "PCIe 3 x16"),
    "pcie4": _link(31.5, 10, "PCIe 4 x16"),
    "pcie5": _link(63, 10, "PCIe 5 x16"),
    "nvlink3": _link(300, 5, "NVLink of an A100"),
    "nvlink4": _link(450, 5, "NVLink of an H100"),
}
NETWORKS: Mapping[str, Link] = {
    "10gbe": _link(1.25, 30, "10 Gbit/s Ethernet"),
    "25gbe": _link(3.125, 30, "25 Gbit/s Ethernet"),
    "100gbe": _link(12.5, 30, "100 Gbit/s Ethernet"),
    "infiniband200": _link(25, 5, "InfiniBand HDR, 200 Gbit/s"),
    "infiniband400": _link(50, 5, "InfiniBand NDR, 400 Gbit/s"),
}

PROCESSORS: Mapping[str, Processor] = {
    "t4": Processor(8.1, 65, None),
    "v100": Processor(15.7, 125, None),
    "l4": Processor(30.3, 121, 121),
    "rtx4090": Processor(82.6, 165, 165),
    "a100": Processor(19.5, 312, 312),
    "h100": Processor(67, 989, 989),
}
PRECISIONS: Mapping[str, str] = {"32-true": "float32", "bf16-mixed": "bfloat16", "16-mixed": "float16"}

FORMATS: Mapping[str, Format] = {
    "mp3": Format(16_000, 660, "128 kbit/s"),
    "flac": Format(105_000, 620, "60% of 44.1 kHz stereo, assumed"),
    "wav": Format(176_400, 1_450, "44.1 kHz stereo, 16 bit"),
    "int16": Format(32_000, None, "already prepared"),
}
#: The source of the speeds at which 44.1 kHz stereo is decoded and resampled to 16 kHz mono.
DECODING_SOURCE = "measured on one core of an AMD EPYC server: docs/scaling.md"

#: Prepared audio: 16,000 samples of two bytes.
PREPARED_BYTES_A_SECOND = 32_000
#: From warm memory one process copies 47,000 3 s patches per second (docs/benchmarks.md, `make bench ARGS=million`).
COPIED_MEGABYTES = 4_500.0

_T = TypeVar("_T")


def choose(table: Mapping[str, _T], name: str, option: str, instead: str = "") -> _T:
    """The row of that name; raises MusictagError that lists the names (and the options for giving numbers)."""
    if name not in table:
        also = f"; or give numbers with {instead}" if instead else ""
        raise MusictagError(f"{option} {name} is unknown; choose one of {', '.join(table)}{also}")
    return table[name]
