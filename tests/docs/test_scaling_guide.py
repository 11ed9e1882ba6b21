"""docs/scaling.md: its commands compose, and its tables are what `musictag plan` says today."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from musictag import cli
from musictag.cli.plan.arithmetic import index_bytes
from musictag.experiment import identity
from tests.helpers.experiments import ROOT, compose_config
from tests.helpers.plans import planned

GUIDE = (ROOT / "docs" / "scaling.md").read_text()
README = (ROOT / "README.md").read_text()

#: The content of each column, by its heading, computed from the output of --json.
COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "gradients (MB per step)": lambda plan: f"{plan['exchange']['gradient_mb_per_step']:.1f}",
    "milliseconds added per step": lambda plan: f"{plan['exchange']['added_ms_per_step']:.1f}",
    "efficiency": lambda plan: f"{plan['scaling'][-1]['efficiency']:.1%}",
    "patches per second by bandwidth": lambda plan: f"{plan['reading']['bandwidth_bound_patches_per_second']:,.0f}",
    "by reads": lambda plan: f"{plan['reading']['reads_bound_patches_per_second']:,.0f}",
    "hours": lambda plan: f"{plan['training']['hours']:.1f}",
    "GPU hours": lambda plan: f"{plan['training']['gpu_hours']:,.0f}",
    "price": lambda plan: f"{plan['training']['price']:,.0f}",
    "most of the time goes to": lambda plan: plan["bottleneck"],
    "prepared (GB)": lambda plan: f"{plan['data']['prepared_gb']:,.0f}",
    "hours of preparing": lambda plan: f"{plan['preparation']['hours']:.1f}",
}  # fmt: skip


def tables() -> list[tuple[list[str], list[list[str]]]]:
    """Tables whose rows begin with a command: headings and rows."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", GUIDE, re.M):
        heading, _line, *rows = [[cell.strip() for cell in row.strip("|\n").split("|")] for row in table.splitlines()]
        if heading[0] == "command" and "--measure" not in table:
            found.append((heading, rows))
    return found


ROWS = [(heading, row) for heading, rows in tables() for row in rows]


@pytest.mark.parametrize(
    ("heading", "row"),
    [pytest.param(*row, marks=[pytest.mark.slow] if i % 3 else []) for i, row in enumerate(ROWS)],
    ids=[row[0].split("plan ")[1].strip("`") for _, row in ROWS],
)
def test_a_row_is_what_its_command_prints(
    heading: list[str], row: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(row[0].strip("`"))
    assert words[:2] == ["musictag", "plan"]
    plan = planned(capsys, *words[2:])
    assert row[1:] == [COLUMNS[name](plan) for name in heading[1:]]


def test_every_column_is_in_the_guide() -> None:
    assert {name for heading, _ in tables() for name in heading[1:]} == set(COLUMNS)


def test_the_weak_scaling_that_is_shown_is_what_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    section = GUIDE.split("\n## Weak scaling on paper\n")[1].split("\n## ")[0]
    (command,) = re.findall(r"^    musictag (.*)$", section, re.M)
    (block,) = re.findall(r"^```\n(.*?)^```", section, re.M | re.S)
    assert cli.main(shlex.split(command)) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    lines = [line.rstrip() for line in block.splitlines()]
    assert len(lines) > 8
    begin = printed.index(lines[0])
    assert printed[begin : begin + len(lines)] == lines


def test_the_bytes_on_the_wire_are_those_of_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    told = re.search(r"2 x 63 / 64 x ([\d,]+) x 4 bytes = ([\d.]+) MB", GUIDE)
    plan = planned(capsys, "--songs", "1000", "--model", "pons_spectrogram", "--gpus", "8", "--nodes", "8")
    assert int(told[1].replace(",", "")) == plan["model"]["parameters"]
    assert float(told[2]) == pytest.approx(plan["exchange"]["gradient_mb_per_step"], abs=0.05)


def training_commands(text: str) -> list[list[str]]:
    """What follows train.py in every command, wherever it appears."""
    text = re.sub(r"\\\n\s*", "", text)
    return [shlex.split(words) for words in re.findall(r"train\.py((?: [^\s`]+=[^\s`]+)+)", text)]


def test_every_training_command_composes() -> None:
    commands = training_commands(GUIDE)
    assert len(commands) >= 8
    for words in commands:
        kept = [word for word in words if not word.startswith(("hydra/launcher=", "hydra.launcher."))]
        first_job = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(kept), None)[0][0]
        config = compose_config(*first_job)
        identity.check_keys(config)
        trainer = config["trainer"]
        if isinstance(trainer["devices"], int):
            assert config["data"]["batch_size"] % (trainer["devices"] * trainer["num_nodes"]) == 0


def test_launchers_start_as_many_processes_as_training_expects() -> None:
    lines = re.findall(r"^ +torchrun (.*)$", GUIDE, re.M)
    assert len(lines) == 2
    for line in lines:
        words = dict(word.removeprefix("--").split("=", 1) for word in line.split() if "=" in word)
        assert words["nproc-per-node"] == words["trainer.devices"]
        assert words.get("nnodes", "1") == words.get("trainer.num_nodes", "1")
    (script,) = re.findall(r"^```bash\n(.*?)^```", GUIDE, re.M | re.S)
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script, re.M))
    assert f"trainer.devices={asked['ntasks-per-node']} trainer.num_nodes={asked['nodes']}" in script
    assert asked["gpus-per-node"] == asked["ntasks-per-node"]
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_settings_that_the_guide_names_are_there() -> None:
    shipped = compose_config("trainer=ddp")
    named = set(re.findall(r"`(trainer|data|evaluation)\.(\w+)", GUIDE))
    assert len(named) > 8
    for group, key in named:
        assert key in shipped[group]
    launcher = yaml.safe_load((ROOT / "conf/hydra/launcher/submitit_slurm.yaml").read_text())
    for key in re.findall(r"hydra\.launcher\.(\w+)", GUIDE):
        assert key in launcher


def test_links_lead_somewhere() -> None:
    assert "docs/scaling.md" in README
    headings = {
        re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", GUIDE, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", GUIDE):
        path, _, anchor = target.partition("#")
        if path:
            assert (ROOT / "docs" / path).resolve().exists(), target
        else:
            assert anchor in headings


def test_the_memory_table_is_that_of_its_formula() -> None:
    section = GUIDE.split("\n## The index in memory\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([\d,]+) \| (\d+)[^|]* \| ([\d,]+) MB \| ([\d,]+) MB \|$", section, re.M)
    assert len(rows) == 6
    for row in rows:
        songs, tags, measured, formula = (int(cell.replace(",", "")) for cell in row)
        assert formula == round(index_bytes(songs, tags) / 1e6)
        assert formula == pytest.approx(measured, rel=0.02)
    code = re.search(r"```python\n(.*?)```", section, re.S)[1]
    compile(code, "docs/scaling.md", "exec")
