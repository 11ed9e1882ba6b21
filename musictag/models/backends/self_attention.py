"""A Transformer encoder as back-end. Legend: B patches, C channels, T frames, K tags, H units, N heads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.models.backends import BackEnd, check_layers
from musictag.models.layers import check_choice, conv_norm_relu

FEED_FORWARD = 4  # times as many units inside the feed-forward half of a layer
LAYER_NORM_EPS = 1e-12  # BERT's
NORM_EPS = 1e-5  # torch's, in the projection
LONGEST_PERIOD = 10000.0  # longest period of the sinusoids, over 2 pi, in frames


class SelfAttention(BackEnd):
    """Every frame attends to every other; the state of an extra first token predicts the tags.

    Won, Chun & Serra 2019, "Toward interpretable music tagging with self-attention", following their code: the frames
    are projected to ``hidden_units`` channels (convolution of width 1, batch norm, ReLU; omitted if C is that number
    already), sinusoids of their position are added, two layers of BERT's encoder with eight heads follow, and the
    token's final state passes a dense layer with tanh, dropout, and the output. The token is drawn once, uniformly from
    [0, 1), and is not trained; it has no position. Initialised by torch's defaults.

    Won et al. 2020 re-evaluated it with ``hidden_units=256``, ``positions="none"`` and ``attention_dropout=0.5``.
    ``encoder_dropout`` is applied after both halves of a layer, ``attention_dropout`` to the attention weights,
    ``dropout`` before the output.

    Variable length: ``in_frames`` is not used, and sinusoids extend to any position. The cost of attention grows with
    T². Raises MusictagError for unknown positions and for units that cannot be divided among the heads.
    """

    min_frames = 1
    fixed_length = False

    def __init__(
        self,
        in_channels: int,
        in_frames: int,
        num_tags: int,
        hidden_units: int = 512,
        num_layers: int = 2,
        num_heads: int = 8,
        positions: str = "sinusoidal",
        encoder_dropout: float = 0.4,
        attention_dropout: float = 0.4,
        dropout: float = 0.5,
        norm_momentum: float = 0.1,
    ):
        super().__init__()
        check_choice("backend.positions", positions, ("sinusoidal", "none"))
        check_layers(num_layers)
        if min(hidden_units, num_heads) < 1:
            raise MusictagError(f"must be at least 1: backend.hidden_units={hidden_units} .num_heads={num_heads}")
        if hidden_units % num_heads:
            raise MusictagError(
                f"backend.hidden_units={hidden_units} cannot be divided among backend.num_heads={num_heads}; "
                f"use a multiple, for example backend.hidden_units={num_heads * (hidden_units // num_heads + 1)}"
            )
        if not 0 <= attention_dropout < 1:
            raise MusictagError(f"backend.attention_dropout={attention_dropout} must be at least 0 and less than 1")
        self.positions = positions
        self.projection = nn.Identity()
        if in_channels != hidden_units:
            self.projection = conv_norm_relu(nn.Conv1d(in_channels, hidden_units, 1), norm_momentum, NORM_EPS)
        self.register_buffer("token", torch.rand(hidden_units))
        self.encoder = nn.Sequential(
            *(EncoderLayer(hidden_units, num_heads, encoder_dropout, attention_dropout) for _ in range(num_layers))
        )
        self.dense = nn.Linear(hidden_units, hidden_units)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_units, num_tags)

    def forward(self, features: Tensor) -> Tensor:
        frames = self.projection(features).transpose(1, 2)
        if self.positions == "sinusoidal":
            frames = frames + sinusoids(frames.shape[1], frames.shape[2], frames.device)
        token = self.token.to(frames.dtype).expand(frames.shape[0], 1, -1)
        summary = self.encoder(torch.cat([token, frames], dim=1))[:, 0]
        return self.output(self.dropout(self.dense(summary).tanh()))


class EncoderLayer(nn.Module):
    """B×T×H -> B×T×H: self-attention and a feed-forward half, each added to its input and then layer-normalised.

    BERT's layer (Devlin et al. 2019). torch's own differs: it has one more dropout, a single rate for all of them, and
    another initialisation of the attention.
    """

    def __init__(self, units: int, num_heads: int, dropout: float, attention_dropout: float):
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(units, 3 * units)
        self.attended = nn.Linear(units, units)
        self.norm1 = nn.LayerNorm(units, eps=LAYER_NORM_EPS)
        self.widen = nn.Linear(units, FEED_FORWARD * units)
        self.narrow = nn.Linear(FEED_FORWARD * units, units)
        self.norm2 = nn.LayerNorm(units, eps=LAYER_NORM_EPS)
        self.dropout, self.attention_dropout = nn.Dropout(dropout), nn.Dropout(attention_dropout)

    def forward(self, frames: Tensor) -> Tensor:
        heads = self.query_key_value(frames).unflatten(-1, (3, self.num_heads, -1))  # B×T×3×N×(H/N)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind()
        rate = self.attention_dropout.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=rate).transpose(1, 2).flatten(2)
        frames = self.norm1(frames + self.dropout(self.attended(mixed)))
        return self.norm2(frames + self.dropout(self.narrow(F.gelu(self.widen(frames)))))


def sinusoids(num_frames: int, units: int, device: torch.device) -> Tensor:
    """T×H float32: sine and cosine of the position (from 1 on) in turn, with growing periods (Vaswani et al. 2017)."""
    position = torch.arange(1, num_frames + 1, device=device, dtype=torch.float32).unsqueeze(1)
    column = torch.arange(units, device=device)
    angle = position * LONGEST_PERIOD ** (-2 * (column // 2) / units)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())
