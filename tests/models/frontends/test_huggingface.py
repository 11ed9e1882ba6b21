"""Encoders of transformers: the features that their own library makes, of any layer, rate and length."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from musictag import testing
from tests.helpers.encoders import SETTINGS, close, loaded, make, spec

FAMILIES = list(SETTINGS)


def rate(family: str) -> int:
    return SETTINGS[family][3].get("sampling_rate", 16000)


@torch.no_grad()
def by_the_library(folder: Path, model, family: str, waveform: torch.Tensor, **arguments):
    """What the library makes of a waveform at the encoder's rate, with its own feature extraction."""
    extractor = getattr(transformers, f"{SETTINGS[family][2]}FeatureExtractor").from_pretrained(folder)
    given = extractor(list(waveform.numpy()), sampling_rate=rate(family), return_tensors="pt")
    (key,) = [key for key in given if key.startswith("input_")]
    if family == "fused_clap":  # of audio that is no longer than its window
        arguments["is_longer"] = torch.zeros(len(waveform), 1, dtype=torch.bool)
    return given[key], getattr(model, "encoder", model)(given[key], **arguments) if family == "whisper" else model(
        given[key], **arguments
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("check", testing.FRONTEND_CHECKS)
def test_contract(check, family, models):
    check(spec(models[family][0], layers=-1 if "clap" in family else "mix"))


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_features_are_those_of_the_library(family, models):
    folder, model = models[family]
    frontend = loaded(folder, sample_rate=rate(family))
    torch.manual_seed(1)
    waveform = 0.1 * torch.randn(2, frontend.input.window_samples or 9000)
    for num_samples in (waveform.shape[1], waveform.shape[1] // 3):
        given, out = by_the_library(folder, model, family, waveform[:, :num_samples])
        close(frontend.input(waveform[:, :num_samples]), given)
        whole = out.last_hidden_state
        if family == "ast":  # two tokens for the whole, then those of bands and times
            whole = whole[:, 2:].reshape(2, 2, -1, 16).mean(1)
        expected = whole.mean(2) if "clap" in family else whole.transpose(1, 2)
        made = frontend(waveform[:, :num_samples])
        assert made.shape[2] == frontend.num_frames(num_samples)
        close(made, expected[..., : made.shape[2]])
    assert made.shape[2] < expected.shape[2] or frontend.input.window_samples is None


@pytest.mark.parametrize("family", ["hubert", "wav2vec2", "data2vec", "whisper"])
@torch.no_grad()
def test_layers(family, models):
    folder, model = models[family]
    waveform = 0.1 * torch.randn(2, 8000)
    out = by_the_library(folder, model, family, waveform, output_hidden_states=True)[1]
    # the last is the output: some hidden states lack the norm after the last block
    states = [state.transpose(1, 2) for state in (*out.hidden_states[:-1], out.last_hidden_state)]
    count = {layer: sum(p.numel() for p in loaded(folder, layers=layer).parameters()) for layer in (0, 1, -1)}
    assert count[0] < count[1] < count[-1]  # without blocks that are not needed
    for layers, chosen in ((0, [0]), (1, [1]), (-2, [-2]), ([-1], [-1]), ([0, 2], [0, 2]), ("mix", range(len(states)))):
        frontend = loaded(folder, layers=layers, sample_rate=rate(family))
        made = frontend(waveform)
        close(made, torch.stack([states[i] for i in chosen]).mean(0)[..., : made.shape[2]])
    frontend.mix[1] = 50.0
    close(frontend(waveform), states[1][..., : made.shape[2]])


@torch.no_grad()
def test_audio_is_resampled_to_the_encoders_rate(models):
    folder, model = models["hubert"]
    at_16k, at_24k = (torch.sin(700 * torch.arange(n) / n)[None] for n in (16000, 24000))
    frontend = loaded(folder)
    made, expected = frontend(at_16k), by_the_library(folder, model, "hubert", at_24k)[1].last_hidden_state
    assert made.shape == (1, 16, frontend.num_frames(16000)) == (1, 16, expected.shape[1])
    assert frontend.hop_samples == 27  # 40 samples at 24 kHz
    torch.testing.assert_close(made[..., 9:-9], expected.transpose(1, 2)[..., 9:-9], atol=0.02, rtol=0)


@pytest.mark.parametrize("family", ["ast", "clap", "fused_clap", "whisper"])
@torch.no_grad()
def test_long_patches_are_heard_window_by_window(family, models):
    frontend = loaded(models[family][0], sample_rate=rate(family))
    window, step, frames = (
        getattr(frontend.input, f"{name}") for name in ("window_samples", "step_samples", "window_frames")
    )
    waveform = 0.1 * torch.randn(1, 2 * step + window // 2)
    made = frontend(waveform)
    assert made.shape[2] == frontend.num_frames(waveform.shape[1]) > 2 * frames
    for number in (0, 1):
        close(
            made[..., number * frames : (number + 1) * frames],
            frontend(waveform[:, number * step : number * step + window]),
        )
    close(made[..., 2 * frames :], frontend(waveform[:, 2 * step :]))


def test_gradients_reach_the_waveform(models):
    for folder, _ in models.values():
        waveform = (0.1 * torch.randn(1, 16000)).requires_grad_()
        loaded(folder)(waveform).square().sum().backward()
        assert waveform.grad.abs().sum() > 0


@pytest.mark.parametrize("family", ["hubert", "whisper"])
def test_training_draws_only_dropout(family, tmp_path):
    """Neither are layers left out, which would be missing from a mix, nor frames masked by numpy's generator."""
    still = dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout", "dropout"), 0.0)
    make(family, tmp_path, **still, layerdrop=1.0, encoder_layerdrop=1.0, mask_time_prob=0.9, mask_time_length=2)
    frontend = loaded(tmp_path, layers="mix")
    assert "masked_spec_embed" not in frontend.encoder.state_dict()
    waveform = torch.randn(2, 16000)
    close(frontend.train()(waveform).detach(), frontend.eval()(waveform).detach())
