"""Tiny encoders of every family, made from their configurations and saved as folders, as no hub can be reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from musictag.models.factory import build
from musictag.models.frontends import FrontEnd
from musictag.models.frontends.encoder import described, load_weights
from musictag.models.frontends.huggingface import HuggingFace

#: Of the largest feature, where float32 has about 1e-7.
TOLERANCE = 2e-6
TRANSFORMER = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
}  # fmt: skip
WAV2VEC2 = TRANSFORMER | {
    "conv_dim": [8, 8, 8], "conv_kernel": [10, 3, 2], "conv_stride": [5, 4, 2], "num_conv_pos_embeddings": 6,
    "num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 3,
}  # fmt: skip
CLAP = {
    "patch_embeds_hidden_size": 8, "spec_size": 64, "num_mel_bins": 16, "window_size": 4, "depths": [1, 1, 1],
    "num_attention_heads": [1, 2, 2], "num_hidden_layers": 3, "hidden_size": 32, "enable_fusion": False,
}  # fmt: skip
CLAP_FEATURES = {
    "feature_size": 16, "sampling_rate": 24000, "hop_length": 96, "max_length_s": 1, "fft_window_size": 1024,
    "frequency_min": 50, "frequency_max": 12000,
}  # fmt: skip
#: The classes of a model and its feature extraction, and the settings of both.
SETTINGS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "hubert": ("Hubert", WAV2VEC2, "Wav2Vec2", {"sampling_rate": 24000, "do_normalize": True}),
    "wav2vec2": (
        "Wav2Vec2", WAV2VEC2 | {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}, "Wav2Vec2",
        {"sampling_rate": 16000, "do_normalize": False},
    ),
    "data2vec": ("Data2VecAudio", WAV2VEC2 | {"conv_pos_kernel_size": 3}, "Wav2Vec2", {"sampling_rate": 16000}),
    "ast": (
        "AST", TRANSFORMER | {"max_length": 64, "num_mel_bins": 32}, "AST",
        {"max_length": 64, "num_mel_bins": 32, "mean": -3.0, "std": 2.0},
    ),
    "clap": ("ClapAudio", CLAP, "Clap", CLAP_FEATURES | {"truncation": "rand_trunc"}),
    "fused_clap": (
        "ClapAudio", CLAP | {"enable_fusion": True}, "Clap",
        CLAP_FEATURES | {"hop_length": 480, "truncation": "fusion", "padding": "repeat"},
    ),
    "whisper": (
        "Whisper",
        {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_layers": 1,
         "decoder_attention_heads": 2, "decoder_ffn_dim": 16, "max_source_positions": 50, "num_mel_bins": 20,
         "vocab_size": 30, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
        "Whisper", {"feature_size": 20, "chunk_length": 1},
    ),
}  # fmt: skip
CARD = "---\nlicense: cc-by-nc-4.0\ntags:\n- music\n---\n\n# An encoder\n"


def make(family: str, folder: Path, card: str | None = CARD, **changes: Any) -> nn.Module:
    """Save a tiny model of ``family`` with random weights in ``folder``; returns it."""
    name, settings, extractor, features = SETTINGS[family]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**settings | changes)
    model = getattr(transformers, f"{name}Model")(config)
    for parameter in model.parameters():  # some begin at zero
        nn.init.normal_(parameter, std=0.2) if parameter.dim() > 1 else nn.init.uniform_(parameter, -0.3, 1.0)
    model.eval().save_pretrained(folder)
    getattr(transformers, f"{extractor}FeatureExtractor")(**features).save_pretrained(folder)
    if card is not None:
        (folder / "README.md").write_text(card)
    return model


def spec(folder: Path | str, **settings: Any) -> dict[str, Any]:
    return {"_target_": "musictag.models.frontends.huggingface.HuggingFace", "name": str(folder), **settings}


def loaded(folder: Path | str, **settings: Any) -> HuggingFace:
    """The front-end around the encoder in ``folder``, with its weights."""
    frontend = build(described(spec(folder, **settings)), FrontEnd).eval()
    load_weights(frontend, str(folder))
    return frontend


def close(made: torch.Tensor, expected: torch.Tensor) -> None:
    """Assert that features are the same up to rounding."""
    torch.testing.assert_close(made, expected, rtol=0, atol=TOLERANCE * float(expected.abs().max()))
