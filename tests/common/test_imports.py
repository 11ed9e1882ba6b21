"""What is not imported: onnxruntime and transformers, where torchmetrics would do so."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

_PROGRAM = """
import sys
import musictag
import torchmetrics
print(*(name for name in ("onnxruntime", "transformers") if name in sys.modules))
"""


@pytest.mark.skipif(find_spec("transformers") is None, reason="pip install 'musictag[encoders]'")
def test_torchmetrics_imports_neither_onnxruntime_nor_transformers():
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
