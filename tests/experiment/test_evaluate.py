"""`musictag evaluate`: a tagger on the test songs of a data set, its own or another."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import musictag
from musictag.cli import main
from musictag.common.errors import MusictagError
from musictag.data.manifest import Tag
from musictag.evaluation.calibration import calibrate
from musictag.evaluation.metrics import METRICS
from musictag.experiment.evaluation import common_tags, heard, read_names
from musictag.experiment.results.ensemble import make_ensemble
from musictag.experiment.robustness import CONDITIONS
from tests.helpers.experiments import SMALL, TINY, folders, run
from tests.helpers.notes import notes


@pytest.fixture
def trained(tiny_catalogue: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    words = ["data=catalogue", f"data.path={tiny_catalogue}", *folders(tmp_path)]
    return run(*words, *TINY)[0], [*words, "evaluation.bootstrap_resamples=20"]


def test_its_own_data_set_gives_the_scores_of_the_run(
    trained: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, words = trained
    before = json.loads((folder / "metrics.json").read_text())
    out = tmp_path / "out"
    command = ["evaluate", "--model", str(folder), *words, "--out", str(out), "--robustness"]
    assert main(command) == 0
    found = json.loads((out / "metrics.json").read_text())
    for key in METRICS:
        assert found["test"][key] == pytest.approx(before["test"][key], abs=1e-6), key
    assert found["calibration"] == pytest.approx(before["calibration"], abs=1e-6)
    assert found["trained_on"]["songs"] == before["songs"]["train"]
    with np.load(folder / "predictions.npz") as one, np.load(out / "predictions.npz") as other:
        np.testing.assert_allclose(one["scores"], other["scores"], atol=1e-6)
    assert list(found["robustness"]) == ["as it is", *CONDITIONS]
    rows = list(csv.DictReader((out / "robustness.csv").open()))
    assert {row["condition"] for row in rows} == set(found["robustness"])
    assert all(float(row["change"]) == 0 for row in rows if row["condition"] == "as it is")
    assert (out / "robustness.png").stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "MP3 at 32 kbit per s" in printed

    # finished work is not done again, and a lost condition is
    written = (out / "metrics.json").stat().st_mtime_ns
    assert main(command) == 0
    assert (out / "metrics.json").stat().st_mtime_ns == written
    (out / "metrics.json").unlink()
    (out / "the middle half" / "predictions.npz").unlink()
    kept = (out / "a semitone higher" / "predictions.npz").stat().st_mtime_ns
    assert main(command) == 0
    assert (out / "a semitone higher" / "predictions.npz").stat().st_mtime_ns == kept
    again = json.loads((out / "metrics.json").read_text())
    assert again["robustness"] == found["robustness"]
    speeds = [content["speed"]["test_audio_seconds_per_second"] for content in (found, again)]
    assert 0.02 < speeds[1] / speeds[0] < 50  # not of songs that were scored before
    # other intervals are asked for, of all that was scored
    assert (
        main(["evaluate", "--model", str(folder), *words[:-1], "evaluation.bootstrap_resamples=30", "--out", str(out)])
        == 0
    )
    again = json.loads((out / "metrics.json").read_text())
    assert again["test"]["resamples"] == again["robustness"]["the middle half"]["resamples"] == 30
    assert main(["evaluate", "--model", str(folder), *words, "--out", str(folder)]) == 1
    assert "has the results of something else" in capsys.readouterr().err


def test_a_beginning_of_another_model_is_not_continued(
    trained: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, words = trained
    monkeypatch.chdir(tmp_path)
    command = ["evaluate", "--model", str(folder), *words, "--out", "out"]  # a single part, whose lock is inside
    assert main(command) == 0
    assert not (tmp_path.parent / ".locks").exists()
    (tmp_path / "out" / "metrics.json").unlink()
    assert main([*command, "--hop", "0.7"]) == 1
    assert "has the results of something else" in capsys.readouterr().err
    assert main(command) == 0
    (tmp_path / "out" / "config.json").write_text("damaged")
    assert main(command) == 1
    assert "has the results of something else" in capsys.readouterr().err


def test_with_a_hop_the_same_tagger_is_another_system(
    trained: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, words = trained
    found = []
    for hop in ([], ["--hop", "0.7"], ["--hop", "0.8"]):
        assert main(["evaluate", "--model", str(folder), *words, *hop]) == 0
        path = Path(capsys.readouterr().out.split()[-1])
        found.append((path.name, np.load(path / "predictions.npz")["scores"]))
    assert [f"-hop-{hop}-" in name for (name, _), hop in zip(found[1:], ("0.7", "0.8"), strict=True)] == [True, True]
    assert "-hop-" not in found[0][0]
    assert not np.allclose(found[0][1], found[1][1], atol=1e-4)
    assert not np.allclose(found[1][1], found[2][1], atol=1e-4)
    assert (
        main(["evaluate", "--model", str(folder), *words, "--hop", "0.8", "--out", str(path.parent / found[1][0])]) == 1
    )
    assert "has the results of something else" in capsys.readouterr().err


def test_a_run_calibrates_its_tagger_on_validation_songs(
    trained: tuple[Path, list[str]], tiny_catalogue: Path, tmp_path: Path
) -> None:
    """Where they are the test songs instead: the splits of the catalogue change places."""
    folder, words = trained
    tagger, before = musictag.load(folder), json.loads((folder / "metrics.json").read_text())
    assert [tag["known"] for tag in tagger.calibration["tags"]] == [5, 5, 5]  # of 12, 5 and 7 songs
    assert tagger.calibration["familiarity"] is None
    assert tagger.facts["training"]["songs"] == 12
    assert tagger.facts["test_intervals"]["roc_auc"] == [before["test"]["roc_auc"][end] for end in ("low", "high")]
    text = tiny_catalogue.read_text(encoding="utf-8")
    swapped = text.replace(",validation,", ",-,").replace(",test,", ",validation,").replace(",-,", ",test,")
    assert swapped != text
    tiny_catalogue.write_text(swapped, encoding="utf-8")
    assert main(["evaluate", "--model", str(folder), *words, "--out", str(tmp_path / "out")]) == 0
    with np.load(tmp_path / "out" / "predictions.npz") as found, np.load(folder / "predictions.npz") as kept:
        np.testing.assert_allclose(found["scores"], kept["validation_scores"], atol=1e-6)
        np.testing.assert_array_equal(found["targets"], kept["validation_targets"])


def test_baselines_and_ensembles_are_calibrated_too(trained: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, words = trained
    baseline, metrics = run(*words, "baseline=logistic", *SMALL)
    assert [tag["known"] for tag in musictag.load(baseline).calibration["tags"]] == [5, 5, 5]
    assert metrics["calibration"]["error_before"] > 0
    other, _ = run(*words, *TINY, "seed=1")
    ensemble = make_ensemble([folder, other], tmp_path / "ensemble")
    tagger = musictag.load(tmp_path / "ensemble")
    with np.load(tmp_path / "ensemble" / "predictions.npz") as kept:
        expected = calibrate(kept["validation_scores"], kept["validation_targets"], tagger.tag_kinds)
    assert tagger.calibration == {"tags": expected, "familiarity": None}
    assert ensemble["calibration"]["bins"] == 10
    with pytest.raises(MusictagError, match="only a single network"):
        tagger.save_pretrained(tmp_path / "hub")


def test_tags_of_other_names_are_mapped_by_a_file(
    trained: tuple[Path, list[str]], tiny_catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, words = trained
    tags = musictag.load(folder).tag_names
    heading, *rows = tiny_catalogue.read_text(encoding="utf-8").splitlines()
    renamed = [f"my {name}" if name in tags else name for name in heading.split(",")]
    other = tiny_catalogue.with_name("other.csv")
    other.write_text("\n".join([",".join(renamed), *rows]) + "\n", encoding="utf-8")
    words = [word.replace(str(tiny_catalogue), str(other)) for word in words]
    command = ["evaluate", "--model", str(folder), *words, "--out", str(tmp_path / "out")]
    assert main(command) == 1
    assert "no tag in common" in capsys.readouterr().err
    table = tmp_path / "names.csv"
    table.write_text(f"tagger,data\n{tags[0]},my {tags[0]}\n", encoding="utf-8")
    assert main([*command, "--map", str(table)]) == 0
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    before = json.loads((folder / "metrics.json").read_text())
    (mapped,) = found["test"]["tags"]
    (same,) = (tag for tag in before["test"]["tags"] if tag["name"] == tags[0])
    assert mapped == same | {"name": f"my {tags[0]}"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("a,b\n1,2\n", "columns tagger and data"),
        ("tagger,data\nx,\n", "columns tagger and data"),
        ("tagger,data\nx,y\nx,z\n", "twice"),
        ("", "columns"),
    ],
)
def test_bad_tables_of_names(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "names.csv").write_text(content)
    with pytest.raises(MusictagError, match=why):
        read_names(tmp_path / "names.csv")


class _Named:
    tag_names = ("rock", "jazz", "speed")
    tag_kinds = ("classification", "classification", "regression")


class _Tags:
    def __init__(self, **kinds: str) -> None:
        self.tags = [Tag(name, kind) for name, kind in kinds.items()]


def test_common_tags_and_why_there_are_none() -> None:
    data = _Tags(Rock="classification", jazz="classification", fast="regression")
    assert common_tags(_Named, data, {"rock": "Rock"}) == {"Rock": "rock", "jazz": "jazz"}
    for names, why in (
        ({"pop": "Rock"}, "the tagger has no tag 'pop'"),
        ({"rock": "Pop"}, "the data set has no tag 'Pop'"),
        ({"rock": "jazz"}, "two tags of the tagger"),
        ({"rock": "fast"}, "'rock' is a classification tag"),
    ):
        with pytest.raises(MusictagError, match=why):
            common_tags(_Named, data, names)


def test_what_a_change_has_left_is_scored_at_any_rate() -> None:
    """The middle of a song may be silent, or shorter than a song may be: an evaluation does not end there."""
    for rate in (12_000, 16_000):
        assert len(heard(SimpleNamespace(sample_rate=rate), np.zeros(800, np.int16))) == rate // 20


def test_changes_are_what_they_are_called() -> None:
    song = notes(2, 3.0)
    changed = {name: change(song, 16000) for name, change in CONDITIONS.items()}
    assert all(values.dtype == np.int16 for values in changed.values())

    def level(values: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.square(values.astype(np.float64)))))

    def above_4khz(values: np.ndarray) -> float:
        power = np.square(np.abs(np.fft.rfft(values.astype(np.float64))))
        return float(power[len(power) * 5 // 8 :].sum() / power.sum())

    noise = changed["white noise at 20 dB"].astype(np.float64) - song
    assert 20 * np.log10(level(song) / level(noise)) == pytest.approx(20, abs=0.2)
    assert level(changed["20 dB quieter"]) == pytest.approx(level(song) / 10, rel=0.02)
    assert len(changed["tempo 10% faster"]) == pytest.approx(len(song) / 1.1, abs=2)
    assert len(changed["the middle half"]) == len(song) // 2
    assert len(changed["MP3 at 32 kbit per s"]) == len(changed["a semitone higher"]) == len(song)
    assert above_4khz(changed["white noise at 20 dB"]) > 100 * above_4khz(changed["nothing above 4 kHz"])
