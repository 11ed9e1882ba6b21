"""The page of a report: one file, nothing fetched, nothing run that a name brought along, readable without eyes."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from musictag.evaluation.weighting import label_ranking_precision
from musictag.report.build import make_report
from musictag.report.page.songs import TOP_TAGS, choose_songs, excerpts, song_data, start_condition
from musictag.report.study import read_study
from tests.helpers.studies import SYSTEMS, WITH_TREES, write_run, write_study

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "\"'><b>&amp;",
    "a\u2028b `${c}` {{ d }} {% e %}",
)


class Elements(HTMLParser):
    """Every element with its attributes; the texts of scripts, styles and headings."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, sizes=(250, 1000), systems=WITH_TREES, seeds=(0, 1), songs=80, tags=12)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("out")
    make_report(read_study(folder, "sizes"), out, songs=6, resamples=100, command="musictag report runs --study sizes")
    return (out / "report.html").read_text(encoding="utf-8")


def embedded(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="song-data">(.*?)</script>', page, re.S)[1])


def test_nothing_is_fetched(page):
    elements = Elements(page)
    sources = [attributes[key] for _, attributes in elements.found for key in ("src", "href") if key in attributes]
    assert len(sources) > 5
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not re.search(r"https?://|@import|url\(", page)
    assert {tag for tag, _ in elements.found} & {"iframe", "object", "embed", "base", "meta"} == {"meta"}


def test_the_policy_lets_run_what_stands_there_and_nothing_else(page):
    elements = Elements(page)
    (policy,) = [meta["content"] for meta in elements.all("meta") if "http-equiv" in meta]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for tag, text in (("script", elements.texts["script"][-1]), ("style", elements.texts["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not any(
        "style" in attributes or any(key.startswith("on") for key in attributes) for _, attributes in elements.found
    )
    assert len(elements.all("script")) == 2  # the songs, which are data, and the script


def test_hostile_names_stay_text(folder, tmp_path):
    runs = tmp_path / "runs"
    systems = {HOSTILE[0]: SYSTEMS["waveform_small"], HOSTILE[1]: SYSTEMS["spectrogram_small"]}
    for number, (name, system) in enumerate(systems.items()):
        written = write_run(
            tmp_path / str(number), "system", system.family, system.roc_auc, songs=60, tags=4, study="s"
        )
        run = runs / str(number)
        runs.mkdir(exist_ok=True)
        written.rename(run)
        metrics = json.loads((run / "metrics.json").read_text())
        metrics["config"]["names"]["model"] = name
        for tag, hostile in zip(metrics["test"]["tags"], HOSTILE, strict=False):
            tag["name"] = hostile
        (run / "metrics.json").write_text(json.dumps(metrics))
        with np.load(run / "predictions.npz") as arrays:
            changed = dict(arrays)
        changed["tags"] = np.array([*HOSTILE, *changed["tags"][len(HOSTILE) :]])
        changed["song_ids"] = np.array([f"{HOSTILE[row % 4]} {row}" for row in range(60)])
        np.savez(run / "predictions.npz", **changed)
    make_report(read_study(runs), tmp_path / "out", songs=8, resamples=100)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    elements = Elements(page)
    assert len(elements.all("script")) == 2
    assert all(image["src"].startswith("data:") for image in elements.all("img"))
    assert not elements.all("b") or all(text.strip() for text in elements.texts["b"])
    songs = embedded(page)
    assert songs["tags"][:4] == list(HOSTILE)
    assert {song["id"].rpartition(" ")[0] for song in songs["songs"]} <= set(HOSTILE)
    shown = html.unescape(page)
    assert all(name in shown for name in HOSTILE)
    assert page.count("<script>alert") == page.count("onerror=alert(2)>") == 0
    # nor do they break the tables that are written beside the page
    markdown = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "<script>" not in markdown.replace("\\<", "&lt;")


def test_it_can_be_used_without_seeing_it(page):
    elements = Elements(page)
    assert elements.all("html")[0]["lang"] == "en"
    assert len(elements.all("h1")) == 1
    assert all(image["alt"] for image in elements.all("img"))
    labels = {label.get("for") for label in elements.all("label")}
    controls = [*elements.all("input"), *elements.all("select")]
    assert {control["id"] for control in controls} <= labels
    ids = [attributes["id"] for _, attributes in elements.found if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for _, attributes in elements.found:
        for key in ("aria-labelledby", "data-rows"):
            assert attributes.get(key) is None or attributes[key] in ids
    anchors = [link["href"][1:] for link in elements.all("a")]
    assert set(anchors) <= set(ids)
    headings = [attributes for attributes in elements.all("th") if attributes.get("scope") == "col"]
    # every column is sorted by a button, which the keyboard reaches
    assert len(headings) == len([b for b in elements.all("button") if b["type"] == "button"]) > 20


def test_the_first_section_answers_and_says_what_it_rests_on(page):
    shown = html.unescape(page)
    first = shown[: shown.index('id="scores"')]
    assert "<b>12</b> finished runs" in first
    assert "<b>80</b> test songs" in first
    assert re.search(r"PR-AUC: .*(overtakes|no crossing)", first)
    assert "Best by ROC-AUC" in first
    assert "Paired test, waveform_small minus spectrogram_small with 1,000 training songs" in first
    assert "musictag report runs --study sizes" in shown[shown.index('id="making"') :]
    assert "torch 2.14.1" in shown


def test_songs_show_what_each_system_answers(folder):
    study = read_study(folder, "sizes")
    chosen = choose_songs(study, 6)
    songs = song_data(study, chosen, {})
    assert songs["conditions"] == ["250 training songs", "1,000 training songs"]
    assert songs["start"] == 1
    first = study.runs[0].predictions
    for song, shown in zip(chosen, songs["songs"], strict=True):
        truth = {songs["tags"][k] for k in shown["true"]}
        assert truth == {str(t) for t, v, kind in zip(first.tags, first.targets[song.row], first.kinds, strict=True)
                         if v == 1 and kind == "classification"}  # fmt: skip
        for condition, answers in zip(study.conditions, shown["systems"], strict=True):
            for system, answer in zip(study.systems, answers, strict=True):
                scores = study.cell(system, condition)[0].predictions.scores[song.row]
                assert [score for _, score in answer["top"]] == sorted(
                    (round(float(scores[k]), 3) for k in range(12)), reverse=True
                )[:TOP_TAGS]
                top = {k for k, _ in answer["top"]}
                assert {k for k, _ in answer["missed"]} == set(shown["true"]) - top
                assert len(answer["numbers"]) == 2


def test_songs_are_spread_or_differ_and_are_the_same_again(folder):
    study = read_study(folder, "sizes")
    chosen = choose_songs(study, 8)
    assert chosen == choose_songs(study, 8)
    assert len({song.row for song in chosen}) == 8
    differing = [song for song in chosen if "differ" in song.why]
    assert len(differing) == 4
    runs = {system: study.cell(system, (1000,))[0] for system in study.systems}
    precisions = np.stack(
        [
            label_ranking_precision(run.predictions.scores[:, :12], run.predictions.targets[:, :12])
            for run in runs.values()
        ]
    )
    gaps = np.nan_to_num(np.ptp(precisions, axis=0))
    assert min(gaps[song.row] for song in differing) > np.median(gaps)
    winners = {int(precisions[:, song.row].argmax()) for song in differing}
    assert len(winners) == 3  # each of the three systems has its turn
    spread = sorted(song.row for song in chosen if "spread" in song.why)
    assert spread[0] < 20 < 60 < spread[-1]
    assert len(choose_songs(study, 500)) == 80


def test_a_system_without_a_run_somewhere_has_no_answer_there(tmp_path):
    folders = write_study(tmp_path, sizes=(250, 1000), seeds=(0,), songs=60, tags=4)
    for path in folders["spectrogram_small", 1000, 0].iterdir():
        path.unlink()
    study = read_study(tmp_path)
    assert start_condition(study) == (250,)
    songs = song_data(study, choose_songs(study, 2), {})
    assert [system is None for system in songs["songs"][0]["systems"][1]] == [False, True]
    assert songs["start"] == 0


def test_without_prepared_audio_there_are_no_players_and_the_page_says_so(folder, page):
    study = read_study(folder, "sizes")
    sounds, why = excerpts(study, choose_songs(study, 3))
    assert sounds == {}
    assert why
    assert "There is no audio" in page
    assert {song["audio"] for song in embedded(page)["songs"]} == {None}
