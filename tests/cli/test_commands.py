"""The table of commands is complete, and nothing is imported that the verb at hand does not need."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import musictag
from musictag import cli
from musictag.cli.parsing import Commands

HEAVY = {"torch", "numpy", "pyarrow", "lightning", "hydra", "omegaconf", "matplotlib", "sklearn", "scipy", "wandb"}


def commands(table: Commands = cli.COMMANDS, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The words of every command, and its module."""
    for verb, (content, _) in table.items():
        if isinstance(content, str):
            yield (*before, verb), content
        else:
            yield from commands(content, (*before, verb))


ALL = list(commands())


def imported_by_help_of(*verbs: tuple[str, ...]) -> set[str]:
    """The modules that are there after the help of these verbs, in a fresh interpreter."""
    lines = ["import sys", "from musictag import cli"]
    for words in verbs:
        lines += ["try:", f"    cli.main({[*words, '--help']})", "except SystemExit:", "    pass"]
    program = "\n".join([*lines, "print('\\n' + ' '.join(sys.modules))"])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_every_module_of_a_verb_is_in_the_table() -> None:
    modules = [import_module(f"musictag.cli.{name}") for _, name, _ in pkgutil.iter_modules(cli.__path__)
               if name != "__main__"]  # fmt: skip
    verbs = {module.__name__ for module in modules if hasattr(module, "run")}
    assert verbs == {module for _, module in ALL}
    assert all(words[-1] == module.rpartition(".")[2] for words, module in ALL)


@pytest.mark.parametrize(("words", "module"), ALL)
def test_every_verb_has_its_own_parser(words: tuple[str, ...], module: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*words, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: musictag {' '.join(words)} ")
    assert len(shown.splitlines()) > 6  # a description and arguments
    with pytest.raises(SystemExit) as stopped:
        cli.main([*words, "--nonsense"])
    assert stopped.value.code == 2


def test_the_help_lists_all_verbs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # no word is broken

    def lines(table: Commands, *words: str) -> None:
        with pytest.raises(SystemExit):
            cli.main([*words, "--help"])
        shown = " ".join(capsys.readouterr().out.split())
        for verb, (content, text) in table.items():
            assert f"{verb} {text}" in shown
            if not isinstance(content, str):
                lines(content, *words, verb)

    lines(cli.COMMANDS)


def test_help_imports_nothing_heavy() -> None:
    assert not imported_by_help_of(()) & {*HEAVY, "rich"}
    assert not imported_by_help_of(*(words for words, _ in ALL)) & HEAVY


def test_one_verb_imports_no_other() -> None:
    loaded = imported_by_help_of(("data", "check"))
    assert loaded & {module for _, module in ALL} == {"musictag.cli.check"}


def test_the_library_does_not_know_its_commands() -> None:
    package = Path(musictag.__file__).parent
    for path in package.rglob("*.py"):
        if (package / "cli") in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.startswith("musictag.cli") for name in names), path
