from __future__ import annotations

from adafocus.service.engine.active_callers import ACTIVE_SECONDS, MOST_CALLERS, ActiveCallers


def test_a_caller_alone_may_hold_all_slots() -> None:
    callers = ActiveCallers()
    assert callers.share(4, 0.0) == 4
    callers.seen("a", 0.0)
    assert callers.share(4, 0.0) == 4


def test_active_callers_share_and_nobody_gets_nothing() -> None:
    callers = ActiveCallers()
    for number in range(3):
        callers.seen(str(number), 0.0)
    assert callers.share(4, 0.0) == 1
    assert callers.share(2, 0.0) == 1
    assert callers.share(6, 0.0) == 2


def test_who_has_left_does_not_count() -> None:
    callers = ActiveCallers()
    callers.seen("a", 0.0)
    callers.seen("b", 0.0)
    callers.seen("a", ACTIVE_SECONDS)
    assert callers.share(4, ACTIVE_SECONDS + 0.1) == 4


def test_others_are_active_until_they_have_left() -> None:
    callers = ActiveCallers()
    assert not callers.others("a", 0.0)
    callers.seen("a", 0.0)
    assert not callers.others("a", 0.0)
    assert callers.others("b", 0.0)
    callers.seen("b", 1.0)
    assert callers.others("a", 1.0)
    assert not callers.others("b", ACTIVE_SECONDS + 0.1)


def test_callers_are_bounded() -> None:
    callers = ActiveCallers()
    for number in range(2 * MOST_CALLERS):
        callers.seen(str(number), 0.0)
    assert len(callers._last) == MOST_CALLERS
