"""A front-end with the song as context around a patch gets the same samples in training and tagging."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

import musictag
from musictag.data.audio.decode import to_float
from musictag.experiment import run as experiment
from musictag.inference.network_tagger import NetworkTagger
from musictag.models.factory import build
from musictag.models.frontends import FrontEnd
from musictag.models.network import TaggingNetwork
from tests.helpers.catalogues import ready
from tests.helpers.experiments import TINY, compose_config, folders

SMALL = ("frontend.timbral_filters=2", "frontend.temporal_filters=1", "frontend.num_mels=16", "backend.filters=4")


@pytest.mark.parametrize("mode", ["patches", "whole"])
def test_the_test_of_a_run_and_tagging_a_file_agree(mode: str, tiny_catalogue: Path, tmp_path: Path) -> None:
    rest = [word for word in TINY if not word.startswith(("frontend", "backend"))]
    config = compose_config(
        "data=catalogue", f"data.path={tiny_catalogue}", "model=musicnn", *rest, *SMALL, *folders(tmp_path),
        f"evaluation.mode={mode}", "data.num_workers=1",
    )  # fmt: skip
    experiment.run(config)
    folder = experiment.results_folder(config)
    tagger = musictag.load(folder / "tagger.safetensors")
    network = tagger.network
    before, after = network.frontend.margin_samples
    assert (before, after) == (256, 0)
    rows = {row["song_id"]: row["path"] for row in csv.DictReader(tiny_catalogue.open())}
    with np.load(folder / "predictions.npz") as predictions:
        for song_id, scores in zip(predictions["song_ids"], predictions["scores"], strict=True):
            path = tiny_catalogue.parent / rows[str(song_id)]
            if mode == "patches":
                tagged = tagger.tag(path)
                expected = [tagged[name] for name in tagger.tag_names]
            else:
                whole = torch.from_numpy(to_float(tagger.read(path)))[None]
                with torch.inference_mode():
                    logits = network(torch.nn.functional.pad(whole, (before, after)))
                expected = network.probabilities(logits)[0]
            np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_every_batch_has_the_margins(tiny_catalogue: Path) -> None:
    data = ready(tiny_catalogue, patch_seconds=0.5)
    bare = [[batch["audio"] for batch in loader()] for loader in (data.train_dataloader, data.val_dataloader)]
    data.margin_samples = (300, 100)
    wide = [[batch["audio"] for batch in loader()] for loader in (data.train_dataloader, data.val_dataloader)]
    for narrow_batches, wide_batches in zip(bare, wide, strict=True):
        for narrow, padded in zip(narrow_batches, wide_batches, strict=True):
            assert padded.shape[1] == 8000 + 400
            assert torch.equal(padded[:, 300:-100], narrow)
    assert {block.shape[1] for block in data.normalisation_waveforms()} == {8400}


def test_consecutive_patches_see_the_frames_of_the_song() -> None:
    """The taggram of a song is what a spectrogram of the whole song, cut into patches, gives."""
    config = compose_config("model=musicnn", *SMALL, "data.patch_seconds=0.32")
    network = TaggingNetwork(config["frontend"], config["backend"], [{"name": "a"}, {"name": "b"}], 0.32).eval()
    rng = np.random.default_rng(0)
    song = (3000 * rng.standard_normal(16000)).astype(np.int16)
    taggram = NetworkTagger(network).taggram((song, 16000))
    centred = build(config["frontend"] | {"pad_mode": "constant"}, FrontEnd)
    centred.load_state_dict(network.frontend.state_dict())
    with torch.inference_mode():
        whole = centred.eval().spectrogram(torch.from_numpy(to_float(song))[None])
        frames = network.patch_samples // 256
        patches = torch.cat([whole[:, :, i * frames : (i + 1) * frames] for i in range(3)])
        logits = network.backend(network.frontend.features(patches))
    np.testing.assert_allclose(taggram.scores[:3], network.probabilities(logits), atol=1e-5)
