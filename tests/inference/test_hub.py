"""The layout of the Hugging Face Hub: the same tagger back, and a card for people."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import musictag
from musictag.common.errors import MusictagError
from musictag.inference.tagger import Tagger
from tests.inference.test_ensemble import AUDIO, write
from tests.inference.test_familiarity import calibration
from tests.inference.test_familiarity import write as write_with


def test_a_saved_tagger_is_the_same_and_its_card_is_filled_from_the_run(tmp_path: Path) -> None:
    facts = {"test": {"roc_auc": 0.8}, "test_intervals": {"roc_auc": [0.75, 0.85]}, "calibration": calibration(None)}
    facts["training"] = {"data": "songbook", "songs": 3, "fingerprint": "ab"}
    tagger = write_with(tmp_path / "tagger.safetensors", **facts)
    tags = [{"name": "rock", "pr_auc": 0.345}, {"name": "rare", "pr_auc": None}, {"name": "speed"}]
    (tmp_path / "metrics.json").write_text(json.dumps({"test": {"songs": 1234, "tags": tags}}))
    tagger.save_pretrained(tmp_path / "hub", licence="cc-by-4.0")
    assert {path.name for path in (tmp_path / "hub").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    for again in (Tagger.from_pretrained(tmp_path / "hub"), musictag.load(tmp_path / "hub")):
        assert again.tag(AUDIO) == tagger.tag(AUDIO)
        assert again.calibration == tagger.calibration
        assert again.facts["licence"] == "cc-by-4.0"
    card = (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
    front = card.split("---")[1]
    assert "license: cc-by-4.0" in front
    assert "library_name: musictag" in front
    for words in ("1,234 test songs", "| roc_auc | 0.8000 | 0.7500 to 0.8500 |", "3 songs of songbook"):
        assert words in card
    threshold = tagger.calibration["tags"][0]["precision_threshold"]
    assert f"| rock | classification | 40 | {threshold:.3g} | 0.345 |" in card
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert (config["library_name"], config["tags"]) == ("musictag", tagger.tags)


def test_metrics_of_something_else_are_no_scores(tmp_path: Path) -> None:
    tagger = write_with(tmp_path / "tagger.safetensors")
    for text in ("[]", '{"accuracy": 1}', "{"):
        (tmp_path / "metrics.json").write_text(text)
        tagger.save_pretrained(tmp_path / "hub")
        assert "Scores on" not in (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    for name, seconds in (("one", 1.0), ("other", 2.0)):
        musictag.load(write(tmp_path / "t.safetensors", seconds=seconds)).save_pretrained(tmp_path / name)
    (tmp_path / "one" / "config.json").write_bytes((tmp_path / "other" / "config.json").read_bytes())
    with pytest.raises(MusictagError, match=r"config\.json does not describe model\.safetensors"):
        Tagger.from_pretrained(tmp_path / "one")
    (tmp_path / "one" / "config.json").unlink()
    with pytest.raises(MusictagError, match=r"config\.json cannot be read"):
        Tagger.from_pretrained(tmp_path / "one")
    assert np.isfinite(list(Tagger.from_pretrained(tmp_path / "other").tag(AUDIO).values())).all()
    with pytest.raises(MusictagError, match="there is no tagger"):
        Tagger.from_pretrained(tmp_path / "nowhere")
