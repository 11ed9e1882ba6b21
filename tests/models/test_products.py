"""Products of matrices: the same with oneDNN and without it, for rows with gaps between them, too."""

from __future__ import annotations

import pytest
import torch

from musictag.models import products


@pytest.mark.parametrize("capability", ["AVX512", "AVX2", "without oneDNN"])
def test_products_are_those_of_the_matrices(capability: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    if capability == "without oneDNN":
        monkeypatch.setattr(products, "_LINEAR", None)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    memory = torch.randn(200)
    x, y, weight, bias = memory.as_strided((9, 5), (7, 1), 3), torch.randn(9, 4), torch.randn(4, 5), torch.randn(4)
    torch.testing.assert_close(products.linear(x, weight), x @ weight.T)
    torch.testing.assert_close(products.linear(x, weight, bias), x @ weight.T + bias)
    before = torch.randn(5, 4)
    found = before.clone()
    products.add_outer(found, x, y)
    torch.testing.assert_close(found, before + x.T @ y)
    double = x.double()  # which only the plain product knows
    torch.testing.assert_close(products.linear(double, weight.double()), double @ weight.double().T)
