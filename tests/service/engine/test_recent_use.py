from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.engine.recent_use import FADING_SECONDS, MOST_CALLERS, RecentUse


def test_nobody_has_used_anything_at_first() -> None:
    assert RecentUse().part("a", 0.0) == 0.0


def test_parts_are_those_of_what_was_used() -> None:
    use = RecentUse()
    use.add("a", 1.0, 0.0)
    use.add("b", 3.0, 0.0)
    assert use.part("a", 10.0) == pytest.approx(0.25)
    assert use.part("b", 10.0) == pytest.approx(0.75)
    assert use.part("c", 10.0) == 0.0


def test_what_was_used_earlier_counts_less() -> None:
    use = RecentUse()
    use.add("a", 1.0, 0.0)
    use.add("b", 1.0, 10 * FADING_SECONDS)
    assert use.part("a", 10 * FADING_SECONDS) < 1e-4


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 10), st.floats(0, 100)), min_size=1, max_size=50))
def test_parts_add_up_to_one(uses: list[tuple[int, float, float]]) -> None:
    use, now = RecentUse(), 0.0
    for caller, seconds, after in uses:
        now += after
        use.add(str(caller), seconds + 0.001, now)
    assert sum(use.part(str(caller), now) for caller in range(4)) == pytest.approx(1.0)


def test_callers_are_bounded() -> None:
    use = RecentUse()
    for number in range(2 * MOST_CALLERS):
        use.add(str(number), 1.0, 0.0)
    assert len(use._used) == MOST_CALLERS
