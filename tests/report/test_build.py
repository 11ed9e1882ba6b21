"""`musictag report`, from finished runs to files."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musictag.cli import main
from musictag.evaluation.metrics import METRICS
from musictag.experiment import run as experiment
from musictag.experiment.builders import build_data, build_source
from musictag.report.build import make_report
from musictag.report.page.songs import choose_songs, excerpts
from musictag.report.study import read_study
from tests.helpers.catalogues import write_catalogue
from tests.helpers.experiments import TINY, compose_config, folders
from tests.helpers.studies import SYSTEMS, WITH_TREES, System, write_run, write_study

FEW = ["--resamples", "100", "--songs", "4"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_study(folder, sizes=(250, 500, 1000), seeds=(0, 1), songs=80, tags=6)
    return folder


def test_everything_is_written_and_the_answers_are_printed(runs, tmp_path, capsys):
    assert main(["report", str(runs), "--study", "sizes", "--out", str(tmp_path / "out"), *FEW]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"ROC-AUC: (waveform|spectrogram)_small", printed)
    assert f"{tmp_path / 'out' / 'report.html'}  everything on one page" in printed
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "report.html", "report.md", "tables.tex", "runs.csv", "scores.csv", "fits.csv", "crossings.csv",
        "differences.csv", "tag_gains.csv", "popularity.csv", "exclusive.csv", "scaling.png", "scaling.svg",
        "tag_gains.png", "tag_gains.svg", "popularity.png", "popularity.svg", "laws.csv", "laws.png", "laws.svg",
        "held_out.csv", "prospects.csv", "slopes.csv", "tag_outlook.csv", "variance.csv", "overlap.csv",
        "checklist.csv",
    }  # fmt: skip
    markdown = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert all(f"]({name})" in markdown for name in names if name.endswith(".png"))
    assert "### Test scores on songbook (80 songs)" in markdown
    latex = (tmp_path / "out" / "tables.tex").read_text(encoding="utf-8")
    labels = re.findall(r"\\label\{tab:(\w+)\}", latex)
    assert labels[0] == "scores"
    assert len(labels) == len(set(labels)) == latex.count(r"\begin{table}") == latex.count(r"\end{table}")
    with (tmp_path / "out" / "differences.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3 * len(METRICS)  # three sizes
    make_report(read_study(runs, "sizes"), tmp_path / "again", songs=4, resamples=100)
    for name in ("report.md", "tables.tex", "crossings.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_the_folder_follows_from_the_study(tmp_path, capsys):
    write_study(tmp_path / "runs", sizes=(250,), seeds=(0,), songs=60, tags=4, study="first")
    assert main(["report", str(tmp_path / "runs"), "--no-audio", *FEW]) == 0
    page = (tmp_path / "runs" / "report-first" / "report.html").read_text(encoding="utf-8")
    assert "There is no audio: the report was made with --no-audio." in page
    assert "<title>first: musictag report</title>" in page
    assert len(read_study(tmp_path / "runs").runs) == 2  # its own files are no runs


def test_several_studies_are_listed(tmp_path, capsys):
    write_study(tmp_path / "a", seeds=(0,), songs=60, tags=4, sizes=(250, 500), study="sizes")
    write_study(tmp_path / "b", seeds=(0,), songs=60, tags=4, sizes=(64, 128), study="widths", factor="backend.filters")
    write_run(tmp_path / "c", "waveform_small", "waveform", 0.7, songs=60, tags=4, study=None)
    assert main(["report", str(tmp_path), *FEW]) == 1
    said = capsys.readouterr().err
    assert "choose one with --study NAME" in said
    assert "sizes: 4 finished runs of waveform_small and spectrogram_small; varies: training songs" in said
    assert "widths: 4 finished runs of waveform_small and spectrogram_small; varies: back-end filters" in said
    assert "(unnamed: cannot be chosen): 1 finished runs of waveform_small" in said
    assert not list(tmp_path.glob("report-*"))


def test_what_cannot_be_reported(runs, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert main(["report", str(tmp_path / "nowhere"), *out]) == 1
    assert "there is no folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / "empty"), *out]) == 1
    assert "there are no finished runs" in capsys.readouterr().err
    assert main(["report", str(runs), *out, *FEW, "--compare", "waveform_small", "vgg"]) == 1
    assert "there is no system vgg; the study has waveform_small, spectrogram_small" in capsys.readouterr().err
    assert main(["report", str(runs), *out, "--resamples", "10"]) == 1
    assert "use at least 100" in capsys.readouterr().err
    for target, why in (
        ("f1=0.5", "--target f1: the study has curves of roc_auc, pr_auc, rmse"),
        ("pr_auc=1.5", "--target pr_auc=1.5: the metric goes from 0 to 1"),
    ):
        assert main(["report", str(runs), *out, *FEW, "--target", target]) == 1
        assert why in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["report", str(runs), *out, "--target", "pr_auc"])
    assert "'pr_auc' is not a metric and a score, such as pr_auc=0.45" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["report", str(runs), *FEW, "--out", str(tmp_path / "file")]) == 1
    assert "choose another folder with --out" in capsys.readouterr().err


def test_a_workspace_needs_a_key_before_any_work_is_done(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert main(["report", str(runs), "--out", str(tmp_path / "out"), "--wandb-workspace"]) == 1
    assert "musictag: a workspace" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_report_is_logged_offline_where_its_runs_are(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert main(["report", str(runs), "--out", str(tmp_path / "out"), "--wandb", *FEW]) == 0
    assert "wandb sync" in capsys.readouterr().out
    assert list((tmp_path / "out").glob("wandb/offline-run-*/*.wandb"))


def test_two_of_several_systems_are_compared(tmp_path, capsys):
    write_study(tmp_path / "runs", sizes=(250, 500), systems=WITH_TREES, seeds=(0,), songs=60, tags=4)
    assert (
        main(["report", str(tmp_path / "runs"), "--out", str(tmp_path), *FEW, "--compare", "gbt", "waveform_small"])
        == 0
    )
    with (tmp_path / "differences.csv").open(newline="") as file:
        assert {(row["system"], row["other"]) for row in csv.DictReader(file)} == {("gbt", "waveform_small")}
    assert "Paired test, gbt minus waveform_small with 500 training songs" in capsys.readouterr().out


def test_of_many_systems_only_the_best_meet_the_others(tmp_path):
    many = {f"net{i}": System("waveform" if i < 3 else "spectrogram", 0.6 + 0.03 * i, 0.0) for i in range(6)}
    write_study(tmp_path / "runs", sizes=(250,), systems=many, seeds=(0,), songs=60, tags=4)
    report = make_report(read_study(tmp_path / "runs"), tmp_path / "out", songs=2, resamples=100)
    met = {(d.system, d.other) for d in report.differences}
    leaders = {name for pair in report.gains[0].system_gains for name in pair}
    assert len(leaders) == 2
    assert all(leaders & set(pair) for pair in met)
    assert len(met) == 9  # two against four, and against each other
    assert report.figures["cost"].is_file()  # an architecture study: PR-AUC against parameters and speed
    assert report.curves == {}


@pytest.mark.parametrize(
    ("factor", "sizes"),
    [
        ("backend.filters", (64, 128)),
        pytest.param("data.patch_seconds", (1.5, 3.0), marks=pytest.mark.slow),
        pytest.param("evaluation.mode", (), marks=pytest.mark.slow),
    ],
)
def test_studies_of_something_else_than_size(tmp_path, factor, sizes):
    if sizes:
        write_study(tmp_path / "runs", sizes=sizes, systems=WITH_TREES, seeds=(0, 1), songs=60, tags=4, factor=factor)
    else:
        for mode in ("patches", "whole"):
            for name, system in SYSTEMS.items():
                settings = {factor: mode}
                write_run(tmp_path / "runs", name, system.family, 0.7, settings=settings, songs=60, tags=4)
    report = make_report(read_study(tmp_path / "runs"), tmp_path / "out", songs=2, resamples=100)
    assert report.study.factors == [factor]
    assert list(report.figures) == ["conditions", "tag_gains", "popularity"]
    assert report.crossings == []
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Scores under each condition" in page
    assert report.tables["scores"].columns[2] == factor


def test_a_study_of_one_system_without_classification_tags(tmp_path):
    one = {"waveform_small": SYSTEMS["waveform_small"]}
    write_study(tmp_path / "runs", systems=one, seeds=(0,), songs=60, tags=0, regression_tags=3)
    report = make_report(read_study(tmp_path / "runs"), tmp_path / "out", songs=3, resamples=100)
    assert report.study.metrics == ["rmse"]
    assert report.differences == report.popularity == []
    assert "popularity" not in report.figures
    assert any(
        sentence.startswith("Best by RMSE: waveform_small (2,000 training songs)") for sentence in report.answers
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trained runs of one study, with their prepared audio, all below one folder that relative paths start from."""
    place = tmp_path_factory.mktemp("trained")
    tiny = ["data=catalogue", f"data.path={write_catalogue(place / 'music')}", *TINY, *folders(place), "study=sizes"]
    for size in (8, 12):
        experiment.run(compose_config(*tiny, f"data.train_songs={size}"))
    return place / "runs" / "catalogue"


def test_songs_of_real_runs_can_be_heard(trained, tmp_path):
    assert main(["report", str(trained), "--out", str(tmp_path), "--resamples", "100"]) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="song-data">(.*?)</script>', page, re.S)[1])
    assert len(data["songs"]) == read_study(trained).test_songs
    for song in data["songs"]:
        kind, _, mp3 = song["audio"].partition(",")
        assert kind == "data:audio/mpeg;base64"
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(mp3)), always_2d=True)
        assert rate == 16000
        assert samples.shape[1] == 1
        assert len(samples) > 8000
    assert "Each has an excerpt of up to ten seconds." in page


def test_an_excerpt_sounds_like_the_middle_of_its_song(trained):
    study = read_study(trained)
    config = study.runs[0].config
    data = build_data(config, build_source(config))
    data.prepare_data()
    data.setup()
    chosen = choose_songs(study, 50)
    sounds, why = excerpts(study, chosen, seconds=1.0)
    assert why == ""
    for song in chosen:
        whole = data.audio("test", song.row).astype(np.float64) / 32768
        first = max(0, (len(whole) - 16000) // 2)
        wanted = whole[first : first + 16000]
        heard, _ = soundfile.read(io.BytesIO(sounds[song.song_id]))
        assert len(heard) == pytest.approx(len(wanted), abs=1200)
        spectra = [np.abs(np.fft.rfft(part, 16000))[50:6000] for part in (wanted, heard)]
        assert np.corrcoef(*spectra)[0, 1] > 0.9


def test_runs_that_were_made_elsewhere_find_their_audio_beside_them(trained, tmp_path, monkeypatch):
    """data_dir and runs_dir are relative in the runs' configurations: to where they were made, not to here."""
    for path in trained.glob("*/metrics.json"):
        metrics = json.loads(path.read_text())
        metrics["config"] |= {"data_dir": "data", "runs_dir": "runs"}
        path.write_text(json.dumps(metrics))
    monkeypatch.chdir(tmp_path)
    study = read_study(trained)
    sounds, why = excerpts(study, choose_songs(study, 2))
    assert len(sounds) == 2, why
    (trained.parents[1] / "data").rename(trained.parents[1] / "gone")
    sounds, why = excerpts(study, choose_songs(study, 2))
    assert sounds == {}
    assert "there is no prepared audio in" in why
    (trained.parents[1] / "gone").rename(trained.parents[1] / "data")
