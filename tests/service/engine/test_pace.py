from __future__ import annotations

import math

from adafocus.service.engine.pace import Pace
from adafocus.service.engine.scheduler import ENDING


def test_nothing_is_expected_of_a_batch_whose_size_never_ran() -> None:
    pace = Pace()
    pace.submitted(8, 0.0)
    assert (pace.ends_at, pace.ending(1e9)) == (math.inf, False)
    pace.finished(8, 4.0)
    assert pace.ends_at == math.inf


def test_a_batch_is_expected_to_take_as_long_as_the_last_ones_of_its_size() -> None:
    pace = Pace()
    pace.submitted(8, 0.0)
    pace.submitted(8, 1.0)
    pace.submitted(2, 1.0)
    pace.finished(8, 4.0)
    assert pace.ends_at == 4.0 + ENDING * 4.0
    assert not pace.ending(6.9)
    assert pace.ending(7.0)
    pace.finished(8, 8.0)
    assert pace.ends_at == math.inf  # one of two rows runs, and how long that takes is not known
    pace.finished(2, 9.0)
    pace.submitted(2, 20.0)
    assert pace.ends_at == 20.0 + ENDING * 1.0


def test_an_outlier_changes_the_expectation_a_little() -> None:
    pace = Pace()
    now = 0.0
    for seconds in (1.0, 1.0, 11.0):
        pace.submitted(4, now)
        now += seconds
        pace.finished(4, now)
    pace.submitted(4, 0.0)
    assert pace.ends_at == ENDING * 3.0
