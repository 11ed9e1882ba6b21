"""`musictag prepare`: decode a data set now instead of at the first training, and check what is there.

The overrides are those of train.py, so that what is prepared is what training with the same words will look for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import MissingMandatoryValue, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from musictag.assembly import build_data
from musictag.data.blocks import PROBLEMS_FILE
from musictag.data.copies import DUPLICATES_FILE, about_copies
from musictag.data.prepare import Prepared, readable_size
from musictag.data.progress import Progress, say
from musictag.data.store import SHARD_FOLDER
from musictag.errors import MusictagError
from musictag.identity import build_source, check_keys
from musictag.overrides import plain_config, readable
from musictag.places import expanded
from musictag.terminal import explain

#: The shipped configuration stands beside the package, in a clone of the repository.
CONF = Path(__file__).resolve().parents[1] / "conf"


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration that `python train.py OVERRIDES` runs, as plain containers.

    Raises MusictagError for overrides that cannot be composed, for keys that are needed and not given, and where
    musictag is installed without its configuration.
    """
    if not (CONF / "train.yaml").is_file():
        raise MusictagError(
            f"there is no configuration at {CONF}: this command works in a clone of the repository, where it is "
            "installed with `pip install --editable .`"
        )
    os.environ.setdefault("MUSICTAG_HOME", str(CONF.parent))
    before, outer = HydraConfig.instance().cfg, GlobalHydra.instance().hydra
    # within a sweep, Hydra is at work already, and would not begin a second time
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = hydra_compose("train", readable(overrides), return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)  # the names of the chosen files are taken from there
            with open_dict(cfg):
                cfg.names = OmegaConf.to_container(cfg.names, resolve=True)
                del cfg["hydra"]
            return plain_config(cfg)
    except MissingMandatoryValue as error:
        raise MusictagError(f"{error.full_key} is needed; type {error.full_key}=...") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise MusictagError(explain(error)) from error
    finally:
        HydraConfig.instance().cfg = before
        GlobalHydra.instance().hydra = outer


def configuration(words: Sequence[str]) -> dict[str, Any]:
    """What ``compose`` makes of overrides, or of a table of one's own and overrides.

    Raises MusictagError as that does, and for more than one table.
    """
    tables = [word for word in words if "=" not in word or os.path.isfile(os.path.expanduser(word))]
    overrides = [word for word in words if word not in tables]
    if len(tables) > 1:
        raise MusictagError(f"one table at a time, not {' and '.join(tables)}")
    if not tables:
        return compose(overrides)
    # set afterwards: what may stand in a file's name is more than what Hydra's command line can say
    config = compose(["data=catalogue", *overrides, "data.path=table"])
    config["data"]["path"] = expanded(tables[0], "the table's path")
    return config


def main(words: Sequence[str], verify: bool = False) -> int:
    """Prepare the songs that training with these words needs, and print what there is; returns the exit status.

    ``words`` are overrides, or a table of one's own and overrides.

    What is there is kept. ``verify`` also reads every shard whole, deletes those that are damaged, and prepares their
    songs again.

    Raises MusictagError for bad input, for what ``prepare`` cannot do, and for shards damaged again after mending.
    """
    config = configuration(words)
    check_keys(config)
    data = build_data(config, build_source(config))
    prepared = data.prepare_data()
    if verify and (damaged := _damaged(prepared)):
        listed = "\n  ".join(map(str, damaged))
        say(f"{len(damaged)} damaged shards are deleted, and their songs prepared again:\n  {listed}")
        for path in damaged:
            path.unlink(missing_ok=True)
        prepared = data.prepare_data()
        if damaged := _damaged(prepared):
            raise MusictagError(
                f"{len(damaged)} shards in {prepared.store.folder} are damaged although they have just been written: "
                "the disk or the memory of this machine fails. Choose another disk with data_dir=..."
            )
    print(summary(prepared))
    if verify:
        print("every shard is whole")
    return 0


def summary(prepared: Prepared) -> str:
    """Where the audio lies, how much it is, and what could not be used, in a few lines."""
    store, manifest = prepared.store, prepared.manifest
    samples = int(store.num_samples[store.rows_of(manifest.song_ids)].sum())
    with os.scandir(store.folder / SHARD_FOLDER) as entries:
        on_disk = sum(entry.stat().st_size for entry in entries if entry.name.endswith(".npy"))
    lines = [
        f"{len(manifest):,} songs, {_readable_length(samples / store.sample_rate)}, in {store.folder} "
        f"({readable_size(on_disk)} on disk)"
    ]
    told = []
    if prepared.problems:
        told.append(f"{len(prepared.problems):,} songs cannot be used")
    if prepared.notes:
        told.append(f"{len(prepared.notes):,} are used although something of their files could not be")
    if told:
        lines.append(f"{', '.join(told)}; which and why: {store.folder / PROBLEMS_FILE}")
    if copies := list(filter(None, about_copies(manifest, prepared.firsts))):
        lines += [*copies[:-1], f"{copies[-1]}; the whole list: {store.folder / DUPLICATES_FILE}"]
    return "\n".join(lines)


def _readable_length(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def _damaged(prepared: Prepared) -> list[Path]:
    """Damaged shards that hold songs of the manifest: of those that it no longer names nothing is wanted."""
    store = prepared.store
    shards = store.shards_of(store.rows_of(prepared.manifest.column("song_id")))
    with Progress("verifying", len(shards), "shards") as progress:
        return store.damaged_shards(shards, progress.show)
