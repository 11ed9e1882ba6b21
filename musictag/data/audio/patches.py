"""How a song is cut into patches, for training, test and tagging alike.

The paper predicts a song as the mean over its patches (section 2). Legend: N samples.
"""

from __future__ import annotations

import numpy as np


def patch_starts(num_samples: int, patch_samples: int, hop_samples: int | None = None) -> np.ndarray:
    """First samples of the patches that cover a whole song: int64, ascending, at least one.

    Patches are ``hop_samples`` apart (default: ``patch_samples``, no overlap); the last one is aligned to the end, so
    that nothing is dropped or padded. A song shorter than a patch has one patch, starting at 0: it is repeated to the
    patch's length (see ``fit_length``).

    Raises ValueError for lengths or hops that are not positive.
    """
    hop = patch_samples if hop_samples is None else hop_samples
    if num_samples < 1 or patch_samples < 1 or hop < 1:
        raise ValueError(f"lengths must be positive: {num_samples=} {patch_samples=} hop_samples={hop}")
    last = max(num_samples - patch_samples, 0)
    starts = np.arange(0, last + 1, hop, dtype=np.int64)
    return starts if starts[-1] == last else np.append(starts, last)


def fit_length(audio: np.ndarray, patch_samples: int) -> np.ndarray:
    """``audio`` (N) itself if it fills a patch, else repeated up to ``patch_samples``."""
    return audio if len(audio) >= patch_samples else np.resize(audio, patch_samples)
