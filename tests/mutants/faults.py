"""What a fault is, where the lists of them are, and what would make one useless."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Fault(NamedTuple):
    """``old`` stands once in ``file`` and becomes ``new``; any of ``tests`` (pytest's names, spaces between) must fail.

    ``what`` says in a few words what is then wrong, and is the fault's name. ``file`` is relative to the repository,
    tests are relative to its folder tests.
    """

    what: str
    file: str
    old: str
    new: str
    tests: str

    @property
    def test_ids(self) -> list[str]:
        return [f"tests/{test}" for test in self.tests.split()]


def all_faults() -> list[Fault]:
    """Those of all modules of this package that have a list FAULTS, in the order of their names."""
    package = __package__ or "tests.mutants"
    folder = Path(__file__).parent
    modules = [f"{package}.{module.name}" for module in pkgutil.iter_modules([str(folder)])]
    lists = [getattr(importlib.import_module(name), "FAULTS", ()) for name in modules if not name.endswith("__")]
    return [fault for faults in lists for fault in faults]


def mutated(text: str, fault: Fault) -> str:
    """``text`` of the fault's file with the fault in it."""
    return text.replace(fault.old, fault.new)


def problems(root: Path, faults: list[Fault]) -> list[str]:
    """Why faults cannot be put in or noticed, in words: code and tests have changed since they were written down."""
    found = [f"two faults are called {what!r}" for what, times in Counter(f.what for f in faults).items() if times > 1]
    for fault in faults:
        path = root / fault.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if (times := text.count(fault.old)) != 1:
            found.append(f"{fault.what}: the text to replace stands {times} times in {fault.file}: {fault.old!r}")
        elif path.suffix == ".py":
            try:
                changed = ast.dump(ast.parse(mutated(text, fault)))
            except SyntaxError as error:
                found.append(f"{fault.what}: {fault.file} is no Python any more ({error.msg})")
                continue
            if changed == _parsed(text):
                found.append(f"{fault.what}: it changes nothing of {fault.file}")
        if not fault.test_ids:
            found.append(f"{fault.what}: no test is named")
        for test in fault.test_ids:
            file, _, name = test.partition("::")
            if not (root / file).is_file() or (name and name.partition("[")[0] not in _functions(root / file)):
                found.append(f"{fault.what}: there is no test {test}")
    return found


@cache
def _parsed(text: str) -> str:
    return ast.dump(ast.parse(text))


@cache
def _functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
