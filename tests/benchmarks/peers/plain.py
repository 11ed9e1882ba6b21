"""The same networks as plain PyTorch modules, written as public repositories write them: no trick, no detour.

Convolution, batch norm and ReLU as modules on B×C×T or B×C×F×T, a log-mel of torchaudio, probabilities out. Each has as
many weights as the preset of musictag that has its key in MODELS. Legend: B patches, C channels, F mel bands, T frames.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

_PLAIN = {"norm": "slaney", "mel_scale": "slaney"}


class Conv(nn.Module):
    """Convolution, then batch norm and ReLU, or ReLU and batch norm; max-pooling."""

    def __init__(self, wide_in, wide_out, kernel, stride=1, padding=0, pool=None, pool_stride=None, relu_first=False):
        super().__init__()
        two = isinstance(kernel, tuple)
        self.conv = (nn.Conv2d if two else nn.Conv1d)(wide_in, wide_out, kernel, stride, padding)
        self.bn = (nn.BatchNorm2d if two else nn.BatchNorm1d)(wide_out)
        self.relu = nn.ReLU()
        self.pool = (nn.MaxPool2d if two else nn.MaxPool1d)(pool, pool_stride) if pool else nn.Identity()
        self.relu_first = relu_first

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = self.bn(self.relu(x)) if self.relu_first else self.relu(self.bn(x))
        return self.pool(x)


class LogMel(nn.Module):
    """Log-mel B×1×F×T: of decibels, or log10(10000 x + 1)."""

    def __init__(self, n_fft=512, hop=256, mels=96, decibels=False, normed=True, **options):
        super().__init__()
        self.mel = MelSpectrogram(16000, n_fft=n_fft, hop_length=hop, n_mels=mels, **options)
        self.decibels = AmplitudeToDB() if decibels else None
        self.bn = nn.BatchNorm2d(1) if normed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.mel(x)
        x = self.decibels(x) if self.decibels else torch.log10(10000 * x + 1)
        return self.bn(x.unsqueeze(1))


class Head(nn.Module):
    """Dense layers with dropout, and a sigmoid."""

    def __init__(self, wide, hidden, tags):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(wide, hidden), nn.BatchNorm1d(hidden), nn.ReLU()) if hidden else None
        self.dropout = nn.Dropout(0.5)
        self.out = nn.Linear(hidden or wide, tags)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.out(self.dropout(self.hidden(x) if self.hidden else x)))


class PaperBackEnd(nn.Module):
    """Three convolutions over time, two of them residual; maximum and mean."""

    def __init__(self, wide, tags):
        super().__init__()
        self.conv1 = Conv(wide, 512, 7, relu_first=True)
        self.conv2, self.conv3 = nn.Conv1d(512, 512, 7, padding=3), nn.Conv1d(512, 512, 7, padding=3)
        self.bn2, self.bn3 = nn.BatchNorm2d(1), nn.BatchNorm2d(1)  # one scale for all filters, as in the paper's code
        self.relu, self.pool, self.dropout = nn.ReLU(), nn.MaxPool1d(2), nn.Dropout(0.5)
        self.dense, self.bn, self.out = nn.Linear(1024, 500), nn.BatchNorm1d(500), nn.Linear(500, tags)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = self.pool(x + self.bn2(self.relu(self.conv2(x)).unsqueeze(1)).squeeze(1))
        x = x + self.bn3(self.relu(self.conv3(x)).unsqueeze(1)).squeeze(1)
        x = self.dropout(torch.cat([x.max(-1).values, x.mean(-1)], 1))
        return torch.sigmoid(self.out(self.dropout(self.bn(self.relu(self.dense(x))))))


class Waveform(nn.Module):
    def __init__(self, tags):
        super().__init__()
        widths = (64, 64, 64, 128, 128, 128, 256)
        layers = [Conv(1, 64, 3, 3, relu_first=True)]
        layers += [Conv(a, b, 3, pool=3, relu_first=True) for a, b in pairwise(widths)]
        self.layers, self.back = nn.Sequential(*layers), PaperBackEnd(256, tags)

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.layers(x.unsqueeze(1)))


class Spectrogram(nn.Module):
    def __init__(self, tags):
        super().__init__()
        self.spec = LogMel(normed=False, **_PLAIN)
        self.vertical = nn.ModuleList(
            Conv(1, n, (height, width), padding=(0, width // 2), relu_first=True)
            for height in (86, 38)
            for width, n in ((7, 16), (3, 32), (1, 64))
        )
        self.horizontal = nn.ModuleList(
            Conv(1, n, length, padding="same", relu_first=True)
            for length, n in ((165, 16), (128, 32), (64, 64), (32, 128))
        )
        self.back = PaperBackEnd(464, tags)

    def forward(self, x: Tensor) -> Tensor:
        x = self.spec(x)
        vertical = [layer(x).max(2).values for layer in self.vertical]
        return self.back(torch.cat(vertical + [layer(x.mean(2)) for layer in self.horizontal], 1))


class SampleCNN(nn.Module):
    def __init__(self, tags):
        super().__init__()
        widths = (128, 128, 128, 256, 256, 256, 256, 256, 256, 512)
        blocks = [Conv(a, b, 3, 1, 1, pool=3) for a, b in pairwise(widths)]
        self.layers, self.head = nn.Sequential(Conv(1, 128, 3, 3), *blocks), Head(512, 512, tags)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x.unsqueeze(1)).squeeze(-1))


class Musicnn(nn.Module):
    def __init__(self, tags):
        super().__init__()
        self.spec = LogMel(**_PLAIN)
        shapes = [((38, 7), 204), ((67, 7), 204), ((1, 128), 51), ((1, 64), 51), ((1, 32), 51)]
        self.front = nn.ModuleList(
            nn.Sequential(nn.ZeroPad2d(((k[1] - 1) // 2, k[1] // 2, 0, 0)), Conv(1, n, k, relu_first=True))
            for k, n in shapes
        )
        self.mid = nn.ModuleList(Conv(wide, 64, 7, 1, 3, relu_first=True) for wide in (561, 64, 64))
        self.bn, self.dropout, self.head = nn.BatchNorm1d(1506), nn.Dropout(0.5), Head(1506, 200, tags)

    def forward(self, x: Tensor) -> Tensor:
        x = self.spec(x)
        x = torch.cat([layer(x).max(2).values for layer in self.front], 1)
        first = self.mid[0](x)
        second = self.mid[1](first) + first
        x = torch.cat([x, first, second, self.mid[2](second) + second], 1)
        return self.head(self.dropout(self.bn(torch.cat([x.max(-1).values, x.mean(-1)], 1))))


class Images(nn.Module):
    """3×3 convolutions with pooling, flattened or, with ``over_time``, their maximum over time."""

    def __init__(
        self, tags, spec, widths, pools, strides, wide, hidden, over_time=False, relu_first=False, dropout=0.0
    ):
        super().__init__()
        layers = []
        for (a, b), pool, stride in zip(pairwise((1, *widths)), pools, strides, strict=True):
            layers += [Conv(a, b, (3, 3), 1, 1, pool, stride, relu_first), nn.Dropout(dropout)]
        self.spec, self.layers, self.over_time = spec, nn.Sequential(*layers), over_time
        self.head = Head(wide, hidden, tags)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.spec(x))
        return self.head((x.amax(-1) if self.over_time else x).flatten(1))


def _short_chunk(tags: int) -> nn.Module:
    two = [(2, 2)] * 7
    spec = LogMel(mels=128, decibels=True)
    return Images(tags, spec, (128, 128, 256, 256, 256, 256, 512), two, two, 512, 512, over_time=True)


def _vgg(tags: int) -> nn.Module:
    pools, strides = [(1, 4), (2, 2), (2, 2), (2, 2), (4, 4)], [(2, 2)] * 4 + [(4, 4)]
    return Images(tags, LogMel(**_PLAIN), (128,) * 5, pools, strides, 256, 0, relu_first=True, dropout=0.25)


def _fcn(tags: int) -> nn.Module:
    pools = [(2, 4), (4, 5), (3, 8), (4, 8)]
    spec = LogMel(682, 341, decibels=True, f_max=6000.0, **_PLAIN)
    return Images(tags, spec, (128, 384, 768, 2048), pools, pools, 2048, 0, dropout=0.5)


#: By the preset of musictag: (module with a number of tags, seconds of a patch, samples of its input).
MODELS = {
    "pons_waveform": (Waveform, 3.0, 48000),
    "pons_spectrogram": (Spectrogram, 3.0, 48000),
    "samplecnn": (SampleCNN, 3.6905625, 59049),
    "musicnn": (Musicnn, 2.992, 47871),
    "vgg": (_vgg, 2.992, 47871),
    "short_chunk": (_short_chunk, 3.6905625, 59049),
    "fcn": (_fcn, 29.1, 465600),
}
