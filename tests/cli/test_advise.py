"""`musictag advise`: the schedule is even and fits into the time, and what is finished is kept."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
import soundfile

from musictag.cli import main
from musictag.cli.advise.schedule import Schedule, expected_seconds, load, plan, save, sizes
from musictag.cli.advise.session import Session, _until
from musictag.common.errors import MusictagError
from musictag.experiment.sweeps.jobs import run_to_completion
from musictag.training.signals import Stopped
from tests.helpers.catalogues import synthetic_song, write_table

SPEEDS = {"spectrogram_small": 100.0, "waveform_small": 50.0}
BASELINES = ["baseline_logistic", "baseline_gbt"]


def test_the_sizes_are_nested_and_large_enough() -> None:
    assert sizes(1000) == [1000, 500, 250, 125]
    assert sizes(100) == [100, 50]
    with pytest.raises(MusictagError, match=r"59 training songs are too few .* 60 are needed"):
        sizes(59)


@pytest.mark.parametrize("hours", [0.5, 2, 8])
def test_networks_get_the_same_patches_and_fit_into_the_time(hours: float) -> None:
    scored = (300.0, 300.0)
    chosen = plan(1000, SPEEDS, BASELINES, hours * 3600, scored)
    assert chosen.networks == list(SPEEDS)
    runs = [expected_seconds(chosen, speed, scored) for speed in SPEEDS.values()]
    total = chosen.seeds * len(chosen.sizes) * sum(runs)
    assert total <= 0.8 * hours * 3600
    assert chosen.patches_per_epoch % 16 == 0
    jobs = [words for seed in range(chosen.seeds) for *_, words in chosen.jobs(seed)]
    budgets = {word for words in jobs for word in words if word.startswith("data.patches_per_epoch")}
    assert budgets == {f"data.patches_per_epoch={chosen.patches_per_epoch}"}
    assert len(jobs) == chosen.seeds * len(chosen.sizes) * 4


def test_the_final_tagger_has_the_settings_that_were_compared() -> None:
    chosen = plan(300, SPEEDS, BASELINES, 7200, (300.0, 300.0))
    for model in chosen.models:
        (compared,) = {tuple(words[3:]) for seed in (0, 1) for name, _, words in chosen.jobs(seed) if name == model}
        assert tuple(chosen.training(model)) == compared
        longer = [f"trainer.max_epochs={times * chosen.epochs}" for times in (1, 2) if model in chosen.networks]
        assert {*chosen.training(model, 2)} ^ {*compared} == {*longer}
    assert chosen.training("baseline_gbt") == ["model=baseline_gbt", "baseline.min_child_samples=9"]


def test_less_time_means_fewer_seeds_then_sizes_then_no_networks() -> None:
    found = [plan(1000, SPEEDS, BASELINES, 3600 * hours, (300.0, 300.0)) for hours in (8, 1.5, 0.2, 0.01)]
    assert [(len(one.sizes), len(one.networks)) for one in found] == [(4, 2), (4, 2), (2, 2), (4, 0)]
    assert [one.seeds for one in found[:3]] == [3, 1, 1]
    assert all(one.patches >= 4000 for one in found[:3])


def test_a_plan_stays_until_there_is_time_for_more(tmp_path: Path) -> None:
    path, about = tmp_path / "runs" / "advise.json", {"songs": 1000}
    short, long = (plan(1000, SPEEDS, BASELINES, 3600 * hours, (300.0, 300.0)) for hours in (0.01, 2))
    assert load(path, about, 2) is None
    save(short, path, about, 0.01)
    assert load(path, about, 0.005) == short
    assert load(path, about, 2) is None  # it left the networks out
    save(long, path, about, 2)
    assert load(path, about, 0.5) == load(path, about, 8) == long
    assert load(path, {"songs": 1001}, 2) is None


def test_what_a_run_takes_is_known_when_a_plan_goes_on(tmp_path: Path) -> None:
    chosen = Schedule([100], ["waveform_small"], [], 20, 160, 1, expected={"waveform_small": 900.0})
    save(chosen, tmp_path / "advise.json", {}, 2)
    again = load(tmp_path / "advise.json", {}, 2)
    session = Session([], 2, ["waveform_small"])
    assert session._seconds("waveform_small", again) == 900
    session.seconds["waveform_small"] = 700.0
    assert session._seconds("waveform_small", again) == 700


def test_a_run_that_failed_is_not_missing_for_lack_of_time() -> None:
    chosen = Schedule([100, 50], ["waveform_small"], [], 20, 160, 1)
    session = Session([], 2, ["waveform_small"], failed=["waveform_small with 100 songs, seed 0"])
    assert session.missing(chosen) == ["waveform_small with 50 songs, seed 0", "seed 1", "seed 2"]


def test_a_run_is_stopped_when_the_time_is_over() -> None:
    began = time.monotonic()
    with pytest.raises(Stopped), _until(0.3):
        time.sleep(20)
    with pytest.raises(Stopped), _until(0.3):
        run_to_completion(["sleep", "20"], dict(os.environ))
    assert time.monotonic() - began < 15
    with _until(0.01 + 1000):
        pass
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def catalogue(folder: Path, songs: int) -> Path:
    rows = []
    for number in range(songs):
        high, noisy = number % 2 == 0, number % 3 == 0
        soundfile.write(folder / f"{number}.wav", synthetic_song(1.0, high, noisy, 0.5, number), 16000)
        rows.append({"path": f"{number}.wav", "high": int(high), "noisy": int(noisy), "luck": int(number % 7 < 3)})
    return write_table(folder / "catalogue.csv", rows)


@pytest.mark.slow
def test_an_evening_ends_in_advice_and_goes_on_where_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    table = catalogue(tmp_path, 120)
    words = ["advise", str(table), "data.split_fractions=[0.5,0.25,0.25]", "evaluation.bootstrap_resamples=20"]
    words += ["--models", "baseline_logistic", "--hours"]
    assert main([*words, "0.0001"]) == 1
    assert "no run is finished" in capfd.readouterr().out
    assert main([*words, "1"]) == 0
    printed = capfd.readouterr().out
    for question in ("Which one now?", "What would twice the songs bring?", "Which tags want more examples?"):
        assert question in printed
    text = (tmp_path / "runs" / "catalogue" / "advice" / "advice.md").read_text()
    (command,) = re.findall(r"^ +python train.py (.*?)  ", text, re.M)
    assert re.search(r"data.path=\S*catalogue.csv .*model=baseline_logistic", command), command
    assert "<h2>What would a GPU change?</h2>" in (tmp_path / "runs/catalogue/advice/advice.html").read_text()
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/*/metrics.json")}
    assert len(finished) == 3 * 2  # seeds, sizes
    assert main([*words, "1"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/*/metrics.json")} == finished


def test_impossible_times_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for hours in ("0", "inf"):  # no timer takes the latter
        assert main(["advise", "songs.csv", "--hours", hours]) == 1
        assert f"--hours {hours} must be positive, and less than a million" in capsys.readouterr().err
