"""A recurrent back-end, for input of any length. Legend: B patches, C channels, T frames, K tags, H units."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.models.backends import BackEnd, check_layers
from musictag.models.layers import check_choice, full_precision

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


class Recurrent(BackEnd):
    """Recurrent layers read the frames in order; their final state predicts the tags.

    The recurrent half of Choi et al. 2017, "Convolutional recurrent neural networks for music classification": two
    layers of 32 gated recurrent units, dropout, output. Initialised as in their code: Glorot's initialiser for the
    input, orthogonal matrices from frame to frame, zero biases. Their Keras version applies the reset gate before the
    recurrent matrix, and a piecewise-linear sigmoid in the gates; torch's cells, which have GPU kernels, do neither.

    ``cell="lstm"`` uses long short-term memory, with a bias of 1 for the forget gate (also Keras's default).
    ``bidirectional`` also reads the frames backwards and concatenates both final states: H is twice ``units``.

    Variable length: ``in_frames`` is not used; at least two frames, as a single one has no predecessor. Always
    float32, also under autocast. Raises MusictagError for an unknown cell and for sizes below 1.
    """

    min_frames = 2
    fixed_length = False

    def __init__(
        self,
        in_channels: int,
        in_frames: int,
        num_tags: int,
        cell: str = "gru",
        units: int = 32,
        num_layers: int = 2,
        bidirectional: bool = False,
        dropout: float = 0.3,
    ):
        super().__init__()
        check_choice("backend.cell", cell, CELLS)
        check_layers(num_layers)
        if units < 1:
            raise MusictagError(f"backend.units={units} must be at least 1")
        if not isinstance(bidirectional, bool):
            raise MusictagError(f"backend.bidirectional is {bidirectional!r}; allowed: true, false")
        self.directions = 2 if bidirectional else 1
        self.recurrent = CELLS[cell](in_channels, units, num_layers, batch_first=True, bidirectional=bidirectional)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.directions * units, num_tags)
        self._initialise()

    def forward(self, features: Tensor) -> Tensor:
        if features.shape[-1] < self.min_frames:
            raise RuntimeError(f"{features.shape[-1]} frames, but this back-end needs {self.min_frames}")
        with full_precision(features):
            _, last = self.recurrent(features.float().transpose(1, 2))
        state = last[0] if isinstance(self.recurrent, nn.LSTM) else last  # (layers · directions)×B×H
        return self.output(self.dropout(state[-self.directions :].transpose(0, 1).flatten(1)))

    @torch.no_grad()
    def _initialise(self) -> None:
        units = self.recurrent.hidden_size
        for name, parameter in self.recurrent.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
                if isinstance(self.recurrent, nn.LSTM) and name.startswith("bias_ih"):
                    nn.init.ones_(parameter[units : 2 * units])  # order of the gates: input, forget, cell, output
            else:
                for gate in parameter.split(units):  # each gate has its own matrix
                    nn.init.xavier_uniform_(gate) if name.startswith("weight_ih") else nn.init.orthogonal_(gate)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)
