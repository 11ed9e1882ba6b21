"""docs/claims.md lists the paper's claims, each with a study that exists, and its numbers are those of the tables."""

from __future__ import annotations

import csv
import re
import shlex

import pytest
from omegaconf import read_write

from musictag.experiment.sweeps import study
from musictag.report import paper
from musictag.report.statistics.crossing import number
from musictag.report.wording import signed
from tests.helpers.experiments import ROOT
from tests.helpers.sweeps import sweep_config

PAGE = (ROOT / "docs/claims.md").read_text()
#: What the claims are about, by words that their rows must have.
CLAIMS = (
    "trees beat both networks", "overtake the trees", "largest in PR-AUC", "spectrogram is ahead of waveform",
    "waveform gains faster", "waveform overtakes spectrogram", "linearly with log N", "front-end matters little",
    "back-end matters little", "small back-end does as well", "mean over patches beats", "shorter patches",
    "popular tags", "exclude each other", "squared error serves classification and regression tags jointly",
)  # fmt: skip


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its own headings."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


STUDIES = {name.strip("*"): (commands, runs) for name, commands, runs in rows("The studies")}


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_the_runs_that_the_page_counts(name: str) -> None:
    commands, counted = STUDIES[name]
    words = [shlex.split(command) for command in re.findall(r"`([^`]+)`", commands)]
    if name == "paper":
        assert words == [["python", "-m", "musictag.report.paper", "sweep/results/paper"]]
        assert counted.startswith("none")
        return
    *trainings, report = words
    sizes, sweeps = [], []
    for training in trainings:
        assert training[:2] == ["python", "train.py"]
        overrides = [word for word in training[2:] if not word.startswith("tuning.study=")]
        chosen = [word for word in overrides if word.startswith("sweep=")]
        config = sweep_config(*chosen)
        with read_write(config.hydra):
            config.hydra.overrides.task = overrides
        sizes.append(len(study.job_overrides(config)))
        sweeps.append(config.study)
        assert (ROOT / "sweep" / "data" / f"{config.study}_songbook.yaml").exists()  # 1,000 test songs
        steps = {"tuning_small": 2560, "dataset_size_small": 20480}.get(config.study, 5120)
        assert (config.data.test_songs, config.trainer.max_epochs * config.data.patches_per_epoch) == (1000, steps * 16)
    assert sizes == [int(size) for size in re.findall(r"(?:^|; )(\d+)", counted)]
    assert report[:5] == ["musictag", "report", "runs/songbook", "--study", sweeps[-1]]
    if len(trainings) == 2:
        assert trainings[1][-1] == f"tuning.study={sweeps[0]}"


def test_every_claim_has_a_row_with_everything_in_it() -> None:
    table = rows("The claims")
    claims = [row[0] for row in table]
    for words in CLAIMS:
        assert sum(words.lower() in claim.lower() for claim in claims) == 1, words
    assert len(claims) == len(CLAIMS)
    written = (ROOT / "docs/report.md").read_text()
    for claim, original, decided, outcome, verdict in table:
        assert re.search(r"digest|seen|three sizes|all three", original), claim
        (name,) = re.findall(r"^\*([\w -]+)\*, ", decided)
        assert name in STUDIES, claim
        files = re.findall(r"`(\w+\.csv)`", decided)
        assert files, claim
        assert all(f"`{file}`" in written for file in files), claim
        assert verdict.startswith(("holds", "does not", "undecided here: ")), claim
        assert (outcome == "not run yet") == ("not run yet" in verdict), claim
        assert outcome == "not run yet" or re.search(r"\(.+ to .+\)|interval", outcome), claim


def test_the_numbers_of_every_outcome_are_those_of_its_tables() -> None:
    checked = 0
    for claim, _, decided, outcome, _ in rows("The claims"):
        if outcome == "not run yet":
            continue
        (name,) = re.findall(r"^\*([\w -]+)\*, ", decided)
        folder = ROOT / "sweep/results/songbook" / re.findall(r"--study (\w+)", STUDIES[name][0])[0]
        cells = [
            cell
            for file in re.findall(r"`(\w+\.csv)`", decided)
            for row in csv.reader((folder / file).read_text(encoding="utf-8").splitlines())
            for cell in row
        ]
        known = [abs(float(cell)) for cell in cells if re.fullmatch(r"-?\d+\.?\d*(e-?\d+)?", cell)]
        for said in re.findall(r"(?<![\w.])\d+\.\d+", outcome):
            decimals = len(said.partition(".")[2])
            assert any(f"{value:.{decimals}f}" == said for value in known), (claim, said)
            checked += 1
    assert checked > 20


def test_what_is_said_of_the_papers_table_is_what_its_three_sizes_give() -> None:
    section = " ".join(PAGE.split("\n## The paper's figure, drawn again\n")[1].split("\n## ")[0].split())
    networks = [paper.crossings(metric, fit)[0] for fit in paper.FITS for metric in paper.METRICS]
    numbers = [number(crossing.size) for crossing in networks]
    assert "at {} songs by ROC-AUC and at {} by PR-AUC, those over the songs themselves at {} and {}.".format(
        *numbers
    ) in section  # fmt: skip
    assert all(crossing.undecided == [(None, None)] for crossing in networks)
    kept = csv.DictReader((ROOT / "sweep/results/paper/fits.csv").read_text().splitlines())
    words = {
        row["metric"]: "{} ({} to {})".format(*(signed(100 * float(row[key]), 2) for key in ("slope", "low", "high")))
        for row in kept
        if (row["of"], row["fit"]) == ("waveform minus spectrogram", "log-linear")
    }
    assert f"per doubling, is {words['roc_auc']} in ROC-AUC and {words['pr_auc']} in PR-AUC" in section
    (row,) = (row for row in rows("The claims") if row[0].startswith("Waveform gains faster"))
    assert f"ROC-AUC {words['roc_auc']}, PR-AUC {words['pr_auc']}" in row[1]
    by_roc, by_pr = (paper.crossings(metric, "log-linear")[-1] for metric in paper.METRICS)
    assert (
        f"at {number(by_roc.size)} songs by ROC-AUC ({number(by_roc.low)} to {number(by_roc.high)}), at "
        f"{number(by_pr.size)} by PR-AUC (up to {number(by_pr.high)})" in section
    )
    difference = {
        metric: paper.scores_of("waveform", metric) - paper.scores_of("spectrogram", metric) for metric in paper.METRICS
    }
    roc, pr = (100 * abs(difference[metric]) for metric in paper.METRICS)
    assert (
        f"by {roc[0]:.2f} in ROC-AUC and {pr[0]:.2f} in PR-AUC), spectrogram at 500,000 ({roc[1]:.2f}; {pr[1]:.2f})"
        in section
    )
    assert f"waveform at a million ({roc[2]:.2f}; {pr[2]:.2f})" in section
