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


def imported_by(*code: str) -> set[str]:
    """Top-level names of the modules that are there after ``code``, in a fresh interpreter."""
    program = "\n".join((*code, "import sys; print('\\n' + ' '.join({name.split('.')[0] for name in sys.modules}))"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_every_module_of_a_verb_is_in_the_table() -> None:
    modules = [import_module(f"musictag.cli.{name}") for _, name, _ in pkgutil.iter_modules(cli.__path__)
               if name != "__main__"]  # fmt: skip
    verbs = {module.__name__ for module in modules if hasattr(module, "run")}
    assert verbs == {module for _, module in commands()}
    assert all(words[-1] == module.rpartition(".")[2] for words, module in commands())


@pytest.mark.parametrize(("words", "module"), commands())
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


def test_the_help_lists_all_verbs(capsys: pytest.CaptureFixture[str]) -> None:
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
    help_of = "from musictag import cli\ntry:\n    cli.main({} + ['--help'])\nexcept SystemExit:\n    pass"
    alone = imported_by(help_of.format([]))
    assert not alone & HEAVY
    assert "rich" not in alone
    assert not imported_by(*(help_of.format(list(words)) for words, _ in commands())) & HEAVY


def test_one_verb_imports_no_other() -> None:
    code = (
        "import sys\nfrom musictag import cli\ntry:\n    cli.main(['data', 'check', '--help'])\nexcept SystemExit: pass"
    )
    program = f"{code}\nprint('\\n' + ' '.join(name for name in sys.modules if name.startswith('musictag.cli.')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert loaded & {module for _, module in commands()} == {"musictag.cli.check"}


def test_the_library_does_not_know_its_commands() -> None:
    package = Path(musictag.__file__).parent
    for path in package.rglob("*.py"):
        if (package / "cli") in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.startswith("musictag.cli") for name in names), path
