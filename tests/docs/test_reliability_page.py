"""docs/reliability.md: every row names its test."""

from __future__ import annotations

import ast
import re

from tests.helpers.experiments import ROOT

PAGE = ROOT / "docs" / "reliability.md"


def rows() -> list[list[str]]:
    """The cells of every row of every table, without the headings."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "injected" and set(row[0]) != {"-"}]


def functions() -> set[str]:
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").rglob("test_*.py"))
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_row_of_the_page_is_a_test_that_exists() -> None:
    known = functions()
    assert len(rows()) > 35
    for row in rows():
        assert len(row) == 4, row
        assert all(row), row
        named = re.findall(r"`(\w+)`", row[3])
        assert named, row
        assert re.sub(r"[`\w]", "", row[3]).strip(" ,") == "", row
        assert [name for name in named if name not in known] == []


def test_every_test_of_this_kind_stands_on_the_page() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text(encoding="utf-8")))
    for path in (ROOT / "tests" / "reliability").glob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
        assert own - named == set(), path.name
