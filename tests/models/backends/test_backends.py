"""Back-ends of every family: parameter counts as published, and export with custom settings."""

from __future__ import annotations

import pytest
import torch
from torch.export import Dim

from musictag.models.backends.convolutional import FullyConvolutional
from musictag.models.backends.dense import Dense
from musictag.models.backends.pooling import Pooling
from musictag.models.backends.recurrent import Recurrent
from musictag.models.backends.self_attention import SelfAttention
from tests.helpers.models import make_backend, num_parameters


@pytest.mark.parametrize(
    ("name", "in_channels", "in_frames", "expected"),
    [
        # 3 * 4 features to 100 units to 50 tags
        ("dense", 3, 4, 100 * 12 + 100 + 50 * 100 + 50),
        # the last layer of the public re-implementation of Choi et al. 2016: 64 channels, one frame
        ("vgg", 64, 1, 3_250),
        # SampleCNN: the convolution of width 1 (262,656), its batch norm (1,024), the output (25,650)
        ("samplecnn", 512, 1, 289_330),
        # resemul: dense 1,024 to 1,024 (1,049,600), batch norm (2,048), output (51,250)
        ("samplecnn_se", 1024, 5, 1_102_898),
        # the public short-chunk CNN after its maximum over time
        ("short_chunk", 512, 5, 289_330),
        # three convolutions (393,728 + 2 * 786,944), three batch norms (3,072), output (25,650)
        ("convolutional", 256, 27, 1_996_338),
        # counted in the public CRNN in torch: two layers (15,552 + 6,336) and the output (1,650)
        ("recurrent", 128, 15, 23_538),
        # counted in the authors' code: encoder, pooler and output
        ("self_attention", 512, 30, 6_593_074),
        # and their projection from the 464 channels of the paper's front-end: 238,080 and a batch norm of 1,024
        ("self_attention", 464, 30, 6_593_074 + 239_104),
        # counted in the public code of the re-evaluation, after its convolutions
        ("self_attention_2020", 256, 30, 1_658_162),
        # score and output
        ("attention_pool", 64, 30, 65 + 3_250),
        # one alpha per channel, and output
        ("auto_pool", 64, 30, 64 + 3_250),
        ("pooling", 64, 30, 3_250),
        ("mean_pool", 64, 30, 3_250),
    ],
)
def test_number_of_parameters(name, in_channels, in_frames, expected):
    with torch.device("meta"):
        backend = make_backend(name, in_channels, in_frames, num_tags=50)
    assert num_parameters(backend) == expected


SMALL = {
    "dense": (Dense, {"hidden_units": [6, 5], "batch_norm": True}),
    "convolutional": (FullyConvolutional, {"filters": 6}),
    **{name: (Pooling, {"pooling": name, "hidden_units": [6]}) for name in ("max", "mean", "max_mean")},
    **{name: (Pooling, {"pooling": name, "hidden_units": []}) for name in ("attention", "auto")},
    "gru": (Recurrent, {"units": 6}),
    "lstm": (Recurrent, {"cell": "lstm", "units": 6, "bidirectional": True}),
    "self_attention": (SelfAttention, {"hidden_units": 8, "num_heads": 2}),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's warning about exporting its own recurrent layers
@pytest.mark.parametrize("name", SMALL)
def test_exported_back_end_gives_the_same(name):
    torch.manual_seed(0)
    cls, settings = SMALL[name]
    backend = cls(7, 12, 3, **settings).eval()
    # torch unrolls recurrent layers on export, which fixes their number of frames
    any_length = not backend.fixed_length and cls is not Recurrent
    sizes = {0: Dim("B", max=64)} | ({2: Dim("T", min=backend.min_frames, max=500)} if any_length else {})
    exported = torch.export.export(backend, (torch.randn(2, 7, 12),), dynamic_shapes=(sizes,)).module()
    others = torch.randn(5, 7, 29 if any_length else 12)
    torch.testing.assert_close(exported(others), backend(others), atol=1e-5, rtol=1e-4)
