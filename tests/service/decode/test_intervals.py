"""Sets of byte positions, against Python's own sets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.decode.intervals import Intervals

pairs = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=20)


@given(pairs, st.integers(0, 60), st.integers(0, 60))
def test_it_is_a_set_of_positions(added: list[tuple[int, int]], start: int, stop: int) -> None:
    intervals, positions = Intervals(), set()
    for one, two in added:
        intervals.add(one, two)
        positions |= set(range(one, two))
    assert intervals.covers(start, stop) == (set(range(start, stop)) <= positions)
    end = intervals.end_of(start)
    assert end not in positions
    assert set(range(start, end)) <= positions
    later = [position for position in positions if position > start and position - 1 not in positions]
    assert intervals.next_start(start) == (min(later) if later else None)
    runs = sum(position - 1 not in positions for position in positions)
    assert len(intervals) == runs
