from __future__ import annotations

import pytest

from adafocus.service.engine.admission import Admission
from adafocus.service.engine.loop_lag import INTERVAL_SECONDS, LoopLag
from adafocus.service.engine.queue_limits import QueueLimits
from adafocus.service.errors import Overloaded
from tests.service.engine.factory import Recorder


async def test_lateness_is_told_and_fades() -> None:
    now, told = 0.0, list[float]()
    lag = LoopLag(told.append, lambda: now)
    lag.start()
    for late in (0.0, 0.8, 0.0, 0.0):
        now += INTERVAL_SECONDS + late
        lag.look()
    lag.stop()
    lag.stop()
    assert told == pytest.approx([0.0, 0.8, 0.4, 0.2])


async def test_a_loop_that_is_behind_lets_only_those_in_who_need_not_wait() -> None:
    admission = Admission(2, 9, Recorder(), lambda: 0.0, limits=QueueLimits(queue_seconds=0.5))
    admission.lag_seconds = 0.7
    with admission.place(), admission.place():
        with pytest.raises(Overloaded), admission.place():
            pytest.fail("there was room")
        admission.lag_seconds = 0.1
        with admission.place():
            assert admission.places_taken == 3
