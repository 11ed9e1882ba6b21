from __future__ import annotations

import time

from musictag.common.timing import median_seconds


def test_the_median_of_five_warm_calls() -> None:
    waits = iter([0.5, 0.01, 0.01, 0.05, 0.3, 0.3])
    assert 0.05 <= median_seconds(lambda: time.sleep(next(waits))) < 0.25
    assert next(waits, None) is None
