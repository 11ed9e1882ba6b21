"""docs/plugins.md: what it shows is what tests/plugin has, and what tests/experiment/test_plugins.py installs."""

from __future__ import annotations

import re

from tests.helpers.experiments import ROOT


def test_its_code_is_that_of_the_package() -> None:
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(python|yaml|toml)\n(.*?)^```", page, re.M | re.S)
    plugin = ROOT / "tests" / "plugin"
    assert len(blocks) >= 5
    for kind, block in blocks:
        suffix = {"python": "py"}.get(kind, kind)
        texts = [path.read_text(encoding="utf-8") for path in plugin.rglob(f"*.{suffix}")]
        assert any(block in text for text in texts), block
