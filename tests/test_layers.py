"""The house: a package of musictag imports only from lower floors, no modules import each other in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import musictag

ROOT = Path(musictag.__file__).parent
FLOORS = [
    {"common"},
    {"models", "data", "evaluation"},
    {"inference"},
    {"library", "training"},
    {"experiment"},
    {"report"},
    {"cli"},
    {"testing"},
]
FLOOR = {package: number for number, floor in enumerate(FLOORS) for package in floor}
#: for users of the package, on top of everything; nothing inside imports it, nor musictag.testing, the top floor
DOORS = {"musictag"}


def modules() -> dict[str, Path]:
    files = {path: path.relative_to(ROOT.parent).with_suffix("").parts for path in ROOT.rglob("*.py")}
    return {".".join(parts).removesuffix(".__init__"): path for path, parts in files.items()}


MODULES = modules()


def imports(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Modules of musictag that the file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "musictag":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "musictag")


def upward(module: str, imported: str) -> bool:
    """Whether ``module`` must not import ``imported``: on the same floor (another package), or on a higher one."""
    package, other = module.split(".")[1], (imported + ".").split(".")[1]
    return not other or (package != other and FLOOR[other] >= FLOOR[package])


@pytest.mark.parametrize("module", sorted(set(MODULES) - DOORS))
def test_a_module_imports_only_from_lower_floors(module):
    assert [name for name in imports(MODULES[module], MODULES) if upward(module, name)] == []


def test_no_circle_of_imports():
    TopologicalSorter({module: set(imports(path, MODULES)) - {module} for module, path in MODULES.items()}).prepare()


def test_at_most_eleven_packages_and_modules():
    """Beside ``__init__.py``, and the empty file by which type checkers know that the package is typed."""
    entries = sorted(
        path.name for path in ROOT.iterdir() if path.name not in ("__init__.py", "__pycache__", "py.typed")
    )
    assert len(entries) <= 11, entries


def test_the_rules_notice_a_wrong_import(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text("def late():\n    from musictag.cli import main\n    import musictag.report.build\n")
    assert [upward("musictag.data.wrong", name) for name in imports(path, MODULES)] == [True, True]
    assert not upward("musictag.experiment.run", "musictag.data.manifest")
    assert upward("musictag.models.network", "musictag.data.audio.decode")
    assert upward("musictag.data.manifest", "musictag")
