"""Weights & Biases, recorded for real, offline."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musictag import experiment
from musictag.tracking import has_api_key, precision_recall_rows

from .experiments import TINY, compose_config, folders


@pytest.fixture(autouse=True)
def nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_without_a_key_a_run_records_offline_and_says_where(
    tiny_catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("data=manifest", f"data.path={tiny_catalogue}")
    config = compose_config(*data, *TINY, *folders(tmp_path), "logger=wandb", "logger.audio_songs=3", "study=a study")
    experiment.run(config)
    run_dir = experiment.results_folder(config)
    assert f"recording offline in {run_dir / 'wandb'}" in capsys.readouterr().out
    (record,) = (run_dir / "wandb").glob("offline-run-*")
    tables = [json.loads(path.read_text()) for path in record.glob("files/media/table/**/*.json")]
    by_columns = {tuple(table["columns"]): table["data"] for table in tables}
    songs = by_columns["song", "audio", "true tags", "predicted tags"]
    assert len(songs) == 3
    assert len(by_columns["tag", "recall", "precision"]) > 0
    (tags,) = [data for columns, data in by_columns.items() if columns[:2] == ("name", "kind")]
    assert len(tags) == len(experiment.results(config)["test"]["tags"])
    staged = (path for path in (run_dir / "wandb" / "artifacts").rglob("*") if path.is_file())
    clips = [path for path in staged if path.read_bytes()[:4] == b"RIFF"]
    assert len(clips) == 3
    assert all(soundfile.info(clip).samplerate == 16000 for clip in clips)
    log = (record / f"run-{run_dir.name.replace('_', '-')}.wandb").read_bytes()
    for words in (b"a study", b"val_roc_auc", b"test_roc_auc", b"learning_rate"):
        assert words in log


def test_a_key_is_found_where_wandb_login_puts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_api_key()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password 0123456789\n")
    assert has_api_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not has_api_key()
    monkeypatch.setenv("WANDB_API_KEY", "0123456789")
    assert has_api_key()


def test_precision_and_recall_of_a_ranking() -> None:
    scores = np.array([[0.9], [0.8], [0.7], [0.1], [0.5]])
    targets = np.array([[1.0], [0.0], [1.0], [0.0], [np.nan]])
    rows = precision_recall_rows(scores, targets, [{"name": "a", "pr_auc": 0.8}])
    assert rows == [("a", 0.5, 1.0), ("a", 0.5, 0.5), ("a", 1.0, pytest.approx(2 / 3)), ("a", 1.0, 0.5)]
    assert precision_recall_rows(scores, targets, [{"name": "a", "pr_auc": None}]) == []
