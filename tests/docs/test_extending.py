"""The twelve changes of docs/extending.md, made in a copy of the repository: all code of the page, and its commands."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from musictag.models.network import TaggingNetwork
from tests.helpers.catalogues import write_catalogue
from tests.helpers.experiments import ROOT
from tests.helpers.labelled import write_song

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the commands run in forks of one process")

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
CHANGES = (
    "front-end", "back-end", "data set", "metric", "study", "mel settings", "loss", "logger", "sampler", "CLI verb",
    "published weights", "schedule",
)  # fmt: skip
#: Files that the page would have in musictag where its example has them in a package.
ADDED = ("filter_bank", "mean", "gtzan", "focal", "lines", "instruments", "inverse_sqrt")
#: What makes any training of the page one of seconds, unless its command says otherwise.
SMALL = {
    "data": "catalogue",
    "data.path": "music/catalogue.csv",
    "data.patch_seconds": "0.5",
    "data.batch_size": "4",
    "data.num_workers": "0",
    "data.prepare_workers": "1",
    "frontend.num_filters": "1",
    "backend.filters": "8",
    "backend.dense_units": "8",
    "trainer.max_epochs": "2",
    "trainer.accelerator": "cpu",
    "evaluation.bootstrap_resamples": "20",
}


class Block(NamedTuple):
    """A fenced block: the path in its first line, where in that file it goes (None: it is the file), and its text."""

    path: str
    place: str | None
    text: str


def blocks() -> list[Block]:
    found = []
    for first, text in re.findall(r"^```(?:python|yaml)\n# ([^\n]*)\n(.*?)^```", PAGE, re.M | re.S):
        path, _, place = first.partition(", ")
        found.append(Block(path, place or None, text))
    return found


def commands(heading: str | None = None) -> list[list[str]]:
    text = PAGE if heading is None else section(heading)
    return [shlex.split(line) for line in re.findall(r"^\$ (.*)$", text, re.M)]


def section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def make(block: Block, root: Path) -> None:
    """Make the change of a block: a new file, or lines above a table of an existing one, or at its end."""
    file = root / block.path
    if block.place is None:
        assert not file.exists()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text)
        return
    where, name = block.place.split()
    source = file.read_text()
    table = next(node for node in ast.parse(source).body if name in _targets(node))
    entries = table.value.generators[0].iter if isinstance(table.value, ast.DictComp) else table.value
    lines = source.splitlines(keepends=True)
    lines.insert((table.lineno if where == "above" else entries.end_lineno) - 1, block.text)
    file.write_text("".join(lines))


def _targets(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def small(words: list[str]) -> list[str]:
    """A training of the page with the settings of SMALL that fit the parts it names."""
    if words[:2] != ["python", "train.py"]:
        return words
    given = {word.partition("=")[0] for word in words}
    skipped = set(given)
    for part in ("frontend", "backend"):
        if part in given or "model" in given:
            skipped |= {key for key in SMALL if key.startswith(f"{part}.")}
    if "data" in given:
        skipped |= {"data.path"}
    if "model" in given:
        skipped |= {"data.patch_seconds"}  # a length of its own
    return words + [f"{key}={value}" for key, value in SMALL.items() if key not in skipped]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with all changes of the page, and the music and weights that its commands name."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("musictag", "conf", "sweep"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", root)
    (root / "tests/helpers").mkdir(parents=True)
    shutil.copy(ROOT / "tests/helpers/documented.py", root / "tests/helpers")
    for block in blocks():
        make(block, root)
    for folder in ("my_package", "my_package/conf"):
        (root / folder / "__init__.py").touch()
    write_catalogue(root / "music", seconds=(0.6, 1.0))
    for genre, clips in {"blues": (0, 1, 70, 80, 81), "metal": (0, 1, 70, 80, 81)}.items():
        for clip in clips:
            write_song(root / "gtzan" / genre / f"{genre}.{clip:05d}.wav", clip + 100 * (genre == "metal"))
    shutil.copy(root / "gtzan/blues/blues.00000.wav", root / "song.wav")
    network = TaggingNetwork(
        frontend={"_target_": "musictag.models.frontends.frame_level.FrameLevel"},
        backend={"_target_": "musictag.models.backends.dense.Dense"},
        tags=[{"name": tag} for tag in "abc"],
        patch_seconds=3.0,
    )
    names = {"frontend.": "encoder.", "backend.": "classifier."}
    published = {}
    for key, value in network.state_dict().items():
        part = next(part for part in names if key.startswith(part))
        published[key.replace(part, names[part], 1)] = value
    torch.save(published, root / "published.pth")
    return root


def run(tree: Path, *words: list[str]) -> list[str]:
    """The outputs of commands, all of which must end well."""
    environment = os.environ | {"PYTHONPATH": str(tree), "XDG_CACHE_HOME": str(tree / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.documented"],
        input=json.dumps(words),
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    for command, result in zip(words, results, strict=True):
        assert result["status"] == 0, f"{shlex.join(command)}\n{result['output']}"
    return [result["output"] for result in results]


def rows(history: Path) -> list[dict[str, str]]:
    with history.open() as file:
        return list(csv.DictReader(file))


def test_every_change_has_a_section_and_all_code_says_where_it_goes() -> None:
    assert re.findall(r"^## (.*)$", PAGE, re.M) == [name[0].upper() + name[1:] for name in CHANGES]
    assert len(blocks()) == len(re.findall(r"^```(?:python|yaml)$", PAGE, re.M))
    for name in CHANGES:
        heading = name[0].upper() + name[1:]
        assert commands(heading), name
        assert f"| [{name}](#{heading.lower().replace(' ', '-')}) |" in PAGE
    for path in re.findall(r"`((?:musictag|conf|sweep|tests)/[\w/.]*)`", PAGE):
        made = path in {block.path for block in blocks()} or Path(path).stem in ADDED
        assert (ROOT / path).parent.is_dir() if made else (ROOT / path).exists(), path


def test_parts_of_ones_own_make_one_training(tree: Path) -> None:
    """Those of all sections together, and the commands that train nothing."""
    parts = ("Front-end", "Back-end", "Data set", "Metric", "Loss", "Logger", "Sampler", "Schedule")
    words = [word for heading in parts for word in commands(heading)[0][2:] if word != "frontend=waveform"]
    training = small(["python", "train.py", *dict.fromkeys(words)])
    others = [command for command in commands() if command[:2] != ["python", "train.py"] and "status" not in command]
    shown = run(tree, training, *others)
    (folder,) = tree.glob("runs/gtzan/filter_bank-mean-*")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert 0 <= metrics["test"]["accuracy"]["value"] <= 1
    epochs = rows(folder / "history.csv")
    assert all(0 <= float(row["val_accuracy"]) <= 1 for row in epochs)
    assert [float(row["learning_rate"]) for row in epochs] == pytest.approx([0.001, 0.001 * 0.5**0.5], rel=1e-3)
    logged = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [line["val_loss"] for line in logged if "val_loss" in line]
    assert losses == pytest.approx([float(row["val_loss"]) for row in epochs], rel=1e-3)
    assert logged[-1]["test_accuracy"] == metrics["test"]["accuracy"]["value"]
    assert metrics["config"]["loss"] == {"_target_": "my_package.losses.Focal", "gamma": 1.5}
    assert metrics["config"]["data"]["sampler"] == {"_target_": "my_package.samplers.RareTags", "power": 1.0}
    assert "Accuracy" in shown[0]
    assert "is not available" not in shown[0]
    outputs = dict(zip(map(shlex.join, others), shown[1:], strict=True))
    assert re.search(r"song.wav: -\d+\.\d dB", outputs["musictag loudness song.wav"])
    tagged = outputs["musictag tag song.wav --model instruments.safetensors"]
    assert "guitar" in tagged
    assert tagged == outputs["musictag tag song.wav --model instruments"]


@pytest.mark.slow
def test_every_command_works_as_it_stands(tree: Path) -> None:
    shutil.rmtree(tree / "runs", ignore_errors=True)
    run(tree, *(small(command) for command in commands()))
    folders = [path.parent for path in tree.glob("runs/*/*/metrics.json")]
    names = [re.sub("-[0-9a-f]{8}$", "", folder.name) for folder in folders]
    assert {"filter_bank-residual", "waveform-mean", "fine_mel-residual", "dieleman_waveform"} <= set(names)
    config = {folder: json.loads((folder / "metrics.json").read_text())["config"] for folder in folders}
    assert sum(settings["study"] == "mel_bands" for settings in config.values()) == 4
