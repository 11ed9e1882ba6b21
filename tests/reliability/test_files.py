"""Files of a run that are damaged when it is started: each is named with what to do, and doing it mends the run."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from musictag.experiment.results.files import read_results
from tests.helpers.reliability import Bench, check_whole, only

DAMAGES = {
    "garbage": lambda content: bytes(reversed(content)),
    "cut short": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
}


@pytest.fixture(scope="module")
def stopped(run: Bench) -> Path:
    """The runs_dir of the run, killed after its second epoch."""
    failure = {"do": "kill", "file": "last.ckpt", "step": "renamed", "nth": 2}
    assert run.lab.run(*run.words("stopped"), failure=failure)[0] == -signal.SIGKILL
    return run.folder / "stopped"


def damage(path: Path, how: str) -> None:
    path.write_bytes(DAMAGES[how](path.read_bytes()))


def refusal(run: Bench, words: list[str]) -> str:
    """What the command says that does not begin."""
    status, said = run.lab.run(*words)
    assert status == 1
    assert "Traceback" not in said
    assert "train_loss" not in said
    last = said.splitlines()[-1]
    assert last.startswith("musictag: ")
    return last


HOW = ["garbage", *(pytest.param(how, marks=pytest.mark.slow) for how in ("cut short", "empty"))]


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
def test_a_damaged_last_checkpoint_is_named_and_nothing_is_trained_on_it(run: Bench, stopped: Path, how: str) -> None:
    runs = run.folder / f"{how} last"
    shutil.copytree(stopped, runs)
    folder = only(runs)
    damage(folder / "last.ckpt", how)
    damaged = (folder / "last.ckpt").read_bytes()
    said = refusal(run, run.words(runs))
    assert f"{folder / 'last.ckpt'} is damaged" in said
    assert "Delete it to train from the start" in said
    assert (folder / "last.ckpt").read_bytes() == damaged  # for whoever wants to look
    (folder / "last.ckpt").unlink()
    assert run.lab.run(*run.words(runs))[0] == 0
    check_whole(folder, run.whole)


@pytest.mark.slow
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_best_checkpoint_is_named_and_never_scored(run: Bench, stopped: Path, how: str) -> None:
    """Its epoch is the best one, so no later one replaces it."""
    runs = run.folder / f"{how} best"
    shutil.copytree(stopped, runs)
    folder = only(runs)
    damage(folder / "tagger.safetensors", how)
    status, said = run.lab.run(*run.words(runs))
    assert status == 1
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith(
        f"musictag: {folder / 'tagger.safetensors'} is not a tagger of musictag, or is damaged: "
    )
    assert "Delete the folder to train again" in said.splitlines()[-1]
    assert not (folder / "metrics.json").exists()
    assert said.splitlines()[-1] == f"musictag: {(folder / 'error.txt').read_text().strip()}"
    shutil.rmtree(folder)
    assert run.lab.run(*run.words(runs))[0] == 0
    check_whole(folder, run.whole)


@pytest.mark.slow
@pytest.mark.parametrize("after", ["its second epoch", "its last epoch"])
def test_what_is_written_again_anyway_may_be_damaged(run: Bench, stopped: Path, after: str) -> None:
    """The history of a run lives in its checkpoint, too."""
    runs = run.folder / f"damaged after {after}"
    if after == "its second epoch":
        shutil.copytree(stopped, runs)
    else:
        failure = {"do": "kill", "file": "metrics.json", "step": "written", "nth": 1}
        assert run.lab.run(*run.words(runs), failure=failure)[0] == -signal.SIGKILL
    folder = only(runs)
    for name in ("history.csv", "config.json", "predictions.npz", "curves.png", "tags.png"):
        (folder / name).write_bytes(b"\xff\x00 garbage")
    status, said = run.lab.run(*run.words(runs))
    assert status == 0, said
    check_whole(folder, run.whole)
    assert (folder / "config.json").read_text().count('"seed"') == 1


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b'{"test": ', b"[]", b"null", b"{}"], ids=repr)
def test_finished_results_that_are_damaged_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(Exception, match=r"metrics.json is damaged: .* Delete it and rerun the command") as said:
        read_results(tmp_path)
    assert type(said.value).__name__ == "MusictagError"


@pytest.mark.slow
def test_a_finished_run_without_its_metrics_makes_them_again(run: Bench) -> None:
    runs = run.folder / "finished"
    shutil.copytree(run.folder / "undisturbed", runs)
    folder = only(runs)
    damage(folder / "metrics.json", "cut short")
    said = refusal(run, run.words(runs))
    assert f"{folder / 'metrics.json'} is damaged" in said
    (folder / "metrics.json").unlink()
    status, said = run.lab.run(*run.words(runs))
    assert status == 0
    assert "train_loss" not in said  # nothing is trained again
    check_whole(folder, run.whole)


@pytest.mark.slow
def test_a_damaged_index_of_the_prepared_audio_is_named(run: Bench) -> None:
    shutil.copytree(run.folder / "data", run.folder / "damaged data")
    (index,) = (run.folder / "damaged data").glob("*/index.parquet")
    damage(index, "garbage")
    said = refusal(run, run.words("on damaged data", data="damaged data"))
    assert str(index) in said
    assert "delete" in said
    shutil.rmtree(index.parent)
    assert run.lab.run(*run.words("on damaged data", data="damaged data"))[0] == 0
    check_whole(only(run.folder / "on damaged data"), run.whole)


@pytest.mark.slow
def test_status_goes_on_where_files_of_one_job_are_damaged(run: Bench) -> None:
    """As after a crash of the machine: one job's files say nothing, those of the others do."""
    runs = run.folder / "damaged study"
    status, said = run.lab.run("-m", *run.words(runs), "study=damaged", "seed=0")
    assert status == 0, said
    (listed,) = runs.glob("*/study-damaged.json")
    text = listed.read_text()
    copies = [f"{run.whole.name}{letter}" for letter in "ab"]
    for name in copies:
        shutil.copytree(run.whole, listed.parent / name)
    (listed.parent / copies[0] / "metrics.json").write_bytes(b"\xff")
    (listed.parent / copies[1] / "metrics.json").unlink()
    (listed.parent / copies[1] / "history.csv").write_bytes(b"\xff\x00")
    (start, job, end) = text.partition(text[text.index("    {") : text.rindex("    }") + 5])
    listed.write_text(start + ",\n".join(job.replace(run.whole.name, name) for name in (run.whole.name, *copies)) + end)
    status, said = run.lab.run("status", str(runs), program="musictag.cli")
    assert status == 1
    assert "3 jobs: 1 done, 2 failed" in said
    assert f"{copies[0]}/metrics.json is damaged" in said
    assert f"{copies[1]}/history.csv is damaged" in said
    assert "Traceback" not in said
