"""What tests of whole experiments share: the shipped configuration, composed as the command line does, made small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

ROOT = Path(__file__).resolve().parents[1]

#: A model and a budget that train in a second or two.
TINY = (
    "frontend=waveform",
    "frontend.channels=[8,8,8,8,8,8]",
    "backend=residual_small",
    "backend.filters=8",
    "backend.dense_units=8",
    "data.patch_seconds=0.5",
    "data.num_workers=0",
    "data.prepare_workers=1",
    "trainer.max_epochs=2",
    "data.batch_size=4",
    "trainer.accelerator=cpu",
    "evaluation.bootstrap_resamples=20",
)


def folders(tmp_path: Path) -> list[str]:
    """Overrides that keep everything inside ``tmp_path``."""
    return [f"runs_dir={tmp_path / 'runs'}", f"data_dir={tmp_path / 'data'}"]


def compose_config(*overrides: str) -> dict[str, Any]:
    """The configuration that `python train.py OVERRIDES` would run, as plain containers."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        names = OmegaConf.to_container(cfg.names, resolve=True)
        del cfg["hydra"]
        cfg.names = names
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
