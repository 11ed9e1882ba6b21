"""What the README tells a newcomer to type works, and shows what it says."""

from __future__ import annotations

import csv
import io
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import read_write

from musictag import cli
from musictag.data.datasets import Source
from musictag.experiment import identity
from musictag.experiment.sweeps import study
from musictag.models.factory import find_class
from musictag.models.network import TaggingNetwork
from tests.helpers.catalogues import synthetic_song
from tests.helpers.experiments import ROOT, compose_config
from tests.helpers.sweeps import sweep_config

README = (ROOT / "README.md").read_text()
GUIDES = ("data", "architectures", "transfer", "baseline", "studies", "wandb", "runs", "claims")
DOCS = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in GUIDES}
FORMATS = {".opus": {"format": "OGG", "subtype": "OPUS"}}


def section(name: str) -> str:
    return README.split(f"\n## {name}\n")[1].split("\n## ")[0]


def indented_blocks(text: str) -> list[str]:
    return [re.sub("^    ", "", block, flags=re.M).strip() for block in re.findall(r"(?:^    .*\n)+", text, re.M)]


def fenced_blocks(text: str) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)


@pytest.fixture
def own_music(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The ten-line catalogue with audio, in the current folder; returns the commands of the section, as words."""
    table, *commands = indented_blocks(section("Your own music"))
    (tmp_path / "catalogue.csv").write_text(table + "\n")
    for number, row in enumerate(csv.DictReader(io.StringIO(table))):
        path = tmp_path / row["path"]
        path.parent.mkdir(exist_ok=True)
        song = synthetic_song(4, row["acoustic"] == "1", row["electronic"] == "1", float(row["energy"]), number)
        rate = 48000 if path.suffix == ".opus" else 44100
        song = soxr.resample(song, 16000, rate)
        soundfile.write(path, np.stack([song, song], axis=1), rate, **FORMATS.get(path.suffix, {}))
    monkeypatch.chdir(tmp_path)
    return [shlex.split(line) for block in commands for line in block.splitlines()]


def test_ten_lines_are_checked_described_and_prepared(
    own_music: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    check = next(words for words in own_music if words[:3] == ["musictag", "data", "check"])
    assert cli.main(check[1:]) == 0
    shown, training_shows = fenced_blocks(section("Your own music"))
    assert capsys.readouterr().out.strip() == shown.strip()

    train = next(words for words in own_music if words[0] == "python")
    choice = [word for word in train[2:] if word.startswith("data")]
    assert cli.main(["prepare", *choice, "--verify"]) == 0
    told = capsys.readouterr().err.splitlines()
    expected = training_shows.splitlines()
    assert told[:5] == expected[:5]
    assert len(expected) > 5
    assert cli.main(["data", "describe", "catalogue.csv", *(word for word in choice if "fractions" in word)]) == 0
    assert len(list(Path("describe-catalogue").glob("*.png"))) == 2


@pytest.mark.parametrize("text", [README, *DOCS.values()], ids=["README", *DOCS])
def test_every_training_command_composes(text: str) -> None:
    commands = re.findall(r"^ +python train\.py(.*)$", text, re.M) + re.findall(r"`python train\.py([^`\n]*)`", text)
    assert commands
    variables = dict(re.findall(r"^ +(\w+)='(.*)'$", text, re.M))
    for command in commands:
        for name, value in variables.items():
            command = command.replace(f"${name}", value)
        words = [word for word in shlex.split(command.split("  #")[0]) if word not in ("-m", "logger=wandb")]
        words = [word for word in words if not word.startswith("tuning.study=")]  # it reads that study's finished runs
        if "--cfg" in words or not words or words == ["sweep=dropout"]:  # an example that is written out there
            continue
        first_job = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(words), None)[0][0]
        config = compose_config(*first_job)
        identity.check_keys(config)
        find_class(config["data"]["_target_"], Source)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200


def test_the_experiment_of_a_million_songs_has_the_papers_models_and_lengths() -> None:
    (command,) = re.findall(r"`python train\.py (sweep=[^`\n]*1000000[^`\n]*)`", section("The paper's tables"))
    words = shlex.split(command)
    sweep = sweep_config(*(word for word in words if word.startswith(("sweep=", "data="))))
    with read_write(sweep.hydra):
        sweep.hydra.overrides.task = words
    jobs = [compose_config(*job) for job in study.job_overrides(sweep)]
    assert len(jobs) == 3 * 3 * 3
    models = {job["names"]["model"]: job for job in jobs}
    assert set(models) == {"pons_waveform9", "pons_spectrogram", "baseline_gbt"}
    assert len(models["pons_waveform9"]["frontend"]["channels"]) == 9
    for name in ("pons_waveform9", "pons_spectrogram"):
        assert models[name]["data"]["patch_seconds"] == 15.0
        assert models[name]["loss"]["_target_"].endswith("MSE")
    assert {job["data"]["train_songs"] for job in jobs} == {100_000, 500_000, 1_000_000}
    assert {job["seed"] for job in jobs} == {0, 1, 2}
    tags = [{"name": f"tag {k}", "kind": "classification"} for k in range(139)]
    parts = {name: models["pons_waveform9"][name] for name in ("frontend", "backend")}
    with torch.device("meta"):
        network = TaggingNetwork(**parts, tags=tags, patch_seconds=15.0)
    assert sum(weights.numel() for weights in network.parameters()) == 5_520_743
