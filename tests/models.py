"""What tests of models share: the parts and presets that conf/ offers, whole or made small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

from musictag.backends import BackEnd
from musictag.build import build
from musictag.frontends import FrontEnd

CONF = Path(__file__).parent.parent / "conf"
FRONTENDS, BACKENDS, PRESETS = (
    sorted(path.stem for path in (CONF / group).glob("*.yaml")) for group in ("frontend", "backend", "model")
)
#: Filters of front-ends and units of back-ends in tests in which the size does not matter.
SMALL_MULTIPLIER = 1 / 32
SMALL_UNITS = 8


def spec(group: str, name: str) -> dict[str, Any]:
    return yaml.safe_load((CONF / group / f"{name}.yaml").read_text())


def make_frontend(name: str, **changes: Any) -> FrontEnd:
    """Front-end ``name``, with what it measures before training."""
    torch.manual_seed(0)
    frontend = build(spec("frontend", name) | changes, FrontEnd)
    frontend.fit_normalisation([0.1 * torch.randn(1, 16000)])
    return frontend


def make_backend(name: str, in_channels: int, in_frames: int, num_tags: int = 5, small: bool = False) -> BackEnd:
    content = spec("backend", name)
    if small:
        content |= {key: _small(value) for key, value in content.items() if key.endswith(("filters", "units"))}
    return build(content, BackEnd, in_channels=in_channels, in_frames=in_frames, num_tags=num_tags)


def make_small_pair(frontend_name: str, backend_name: str) -> tuple[FrontEnd, BackEnd, int]:
    """Both parts with few filters, and the shortest patch that suits them, in samples."""
    frontend = make_frontend(frontend_name, filter_multiplier=SMALL_MULTIPLIER)
    frames = make_backend(backend_name, frontend.out_channels, 1000, small=True).min_frames
    patch_samples = frontend.samples_for(frames)
    in_frames = frontend.num_frames(patch_samples)
    return frontend, make_backend(backend_name, frontend.out_channels, in_frames, small=True), patch_samples


def _small(units: Any) -> Any:
    return [_small(item) for item in units] if isinstance(units, list) else min(units, SMALL_UNITS)
