"""The list of deliberate faults stays in step with the code, and what runs them tells who survives."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.experiments import ROOT
from tests.mutants.__main__ import ERROR, KILLED, SURVIVED, Result, chosen, try_all
from tests.mutants.faults import Fault, all_faults, mutated, problems

#: Packages of which a careless edit would change results.
PACKAGES = sorted(path.parent.relative_to(ROOT) for path in (ROOT / "musictag").glob("**/__init__.py"))
#: Those that compute nothing: what they show, name or check is computed elsewhere.
WITHOUT_FAULTS = {Path("musictag", name) for name in ("", "common", "report/figures", "report/wandb", "testing")}


def test_every_fault_can_be_put_in_and_its_tests_are_there() -> None:
    faults = all_faults()
    assert problems(ROOT, faults) == []
    assert len(faults) >= 60
    assert {Path(fault.file).parent for fault in faults} >= set(PACKAGES) - WITHOUT_FAULTS


def test_a_list_that_has_fallen_behind_says_how(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "code.py").write_text("a = 1\nb = a + a\n")
    (tmp_path / "tests" / "test_code.py").write_text("def test_b():\n    pass\n")
    good = Fault("b is off", "code.py", "a + a", "a - a", "test_code.py::test_b[0] test_code.py::test_b")
    assert problems(tmp_path, [good]) == []
    assert mutated("b = a + a", good) == "b = a - a"
    for changes, words in (
        ({"file": "gone.py"}, ["b is off: the text to replace stands 0 times in gone.py: 'a + a'"]),
        ({"old": "c"}, ["b is off: the text to replace stands 0 times in code.py: 'c'"]),
        ({"old": "b = "}, []),
        ({"old": "a"}, ["b is off: the text to replace stands 3 times in code.py: 'a'"]),
        ({"new": "a -"}, ["b is off: code.py is no Python any more (invalid syntax)"]),
        ({"new": "a + a  # b"}, ["b is off: it changes nothing of code.py"]),
        ({"tests": ""}, ["b is off: no test is named"]),
        ({"tests": "test_code.py::test_c"}, ["b is off: there is no test tests/test_code.py::test_c"]),
        ({"tests": "test_gone.py"}, ["b is off: there is no test tests/test_gone.py"]),
    ):
        assert problems(tmp_path, [good._replace(**changes)]) == words, changes
    assert problems(tmp_path, [good, good]) == ["two faults are called 'b is off'"]


def test_survivors_are_told_from_those_that_are_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A little tree of its own, with a package of this name: the copy's is imported, by subprocesses, too."""
    for folder in ("musictag", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tmp_path / "musictag" / "__init__.py").write_text("def double(x):\n    return 2 * x\n\n\nunused = 1\n")
    (tmp_path / "tests" / "test_double.py").write_text(
        "import subprocess, sys, time\nimport pytest\nimport musictag\n\n\n"
        "def test_here():\n    assert musictag.double(3) == 6\n\n\n"
        "def test_elsewhere():\n"
        "    code = 'import musictag, sys; sys.exit(musictag.double(3) - 6)'\n"
        "    assert subprocess.run([sys.executable, '-c', code]).returncode == 0\n\n\n"
        "def test_forever():\n    while musictag.double(0):\n        time.sleep(0.1)\n\n\n"
        "def test_skipped():\n    pytest.skip('not here')\n"
    )
    file = "musictag/__init__.py"
    faults = [
        Fault("half", file, "2 * x", "x / 2", "test_double.py::test_here"),
        Fault("thrice", file, "2 * x", "3 * x", "test_double.py::test_elsewhere"),
        Fault("unused", file, "= 1", "= 2", "test_double.py"),
        Fault("endless", file, "2 * x", "x + 1", "test_double.py::test_forever"),
        Fault("skipped", file, "2 * x", "3 * x", "test_double.py::test_skipped"),
    ]
    before = (tmp_path / file).read_text()

    def attempt(names: set[str], seconds: float, check_first: bool = False) -> dict[str, Result]:
        tried = [fault for fault in faults if fault.what in names]
        return {result.fault.what: result for result in try_all(tmp_path, tried, 1, seconds, check_first, ["pytest"])}

    found = attempt({"half", "thrice", "unused", "skipped"}, 120) | attempt({"endless"}, 1.5)
    assert {what: result.status for what, result in found.items()} == {
        "half": KILLED, "thrice": KILLED, "unused": SURVIVED, "skipped": SURVIVED, "endless": ERROR,
    }  # fmt: skip
    assert "assert musictag.double(3) == 6" in found["half"].words
    assert found["endless"].words.endswith("longer than 2 s")
    assert (tmp_path / file).read_text() == before
    assert "SURVIVED" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"test_skipped: skipped without any fault"):
        attempt({"skipped"}, 120, check_first=True)
    attempt({"half"}, 120, check_first=True)


def test_faults_can_be_chosen_by_a_word() -> None:
    faults = all_faults()
    assert chosen(faults, []) == faults
    some = chosen(faults, ["Weight Decay", "musictag/training/losses.py"])
    assert {fault.file for fault in some} >= {"musictag/training/losses.py", "musictag/training/module.py"}
    assert 4 < len(some) < len(faults) / 4
