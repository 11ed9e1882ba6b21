"""What a long computation says of itself, where it has no terminal."""

from __future__ import annotations

import pytest

from musictag.common.progress import Progress


@pytest.mark.parametrize(("total", "said"), [(1, "tagging: 1 file in "), (2, "tagging: 2 files in ")])
def test_one_is_said_in_the_singular(total: int, said: str, capsys: pytest.CaptureFixture) -> None:
    with Progress("tagging", total, "files") as progress:
        progress.show(total)
    assert capsys.readouterr().err.startswith(said)
