"""Helpers for tests of `musictag plan`."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest

from musictag import cli
from musictag.cli import plan
from musictag.cli.plan.options import Settings

SONGS = ("--songs", "100000")
SEVERAL = (*SONGS, "--gpus", "4", "--nodes", "2", "--batch-size", "256")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    plan.add_arguments(made)
    return made


def settings(*words: str) -> Settings:
    return Settings(parser().parse_args(words))


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The output of `musictag plan WORDS --json`."""
    assert cli.main(["plan", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)
