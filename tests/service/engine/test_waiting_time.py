"""The queue in time, with a clock of the test: many requests come, and those let in must not wait for long."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.engine.waiting_time import WaitingTime

LIMIT_SECONDS = 0.5


def waits(slots: int, service_seconds: Iterator[float], every_seconds: float, arrivals: int) -> list[float]:
    """How long each request that is let in waits for a slot, first come, first served."""
    estimate = WaitingTime(slots)
    free_at = [0.0] * slots
    starts: list[float] = []
    ends: list[tuple[float, float]] = []
    found = []
    for number in range(arrivals):
        now = number * every_seconds
        while ends and ends[0][0] <= now:
            estimate.held(heapq.heappop(ends)[1])
        starts = [start for start in starts if start > now]
        if min(free_at) > now and len(starts) >= estimate.most_waiting(LIMIT_SECONDS):
            continue
        held = next(service_seconds)
        start = max(now, heapq.heappop(free_at))
        heapq.heappush(free_at, start + held)
        heapq.heappush(ends, (start + held, held))
        starts.append(start)
        found.append(start - now)
    return found


@given(
    slots=st.integers(1, 16),
    held=st.floats(0.005, 3.0),
    overload=st.floats(1.5, 10.0),
)
def test_whoever_is_let_in_waits_no_longer_than_the_limit_or_than_a_video_takes(
    slots: int, held: float, overload: float
) -> None:
    settled = waits(slots, itertools.repeat(held), held / slots / overload, 3000)[200:]
    assert settled
    # Slots that became busy together become free together, so who waits may wait for one more round.
    assert max(settled) <= 1.2 * max(LIMIT_SECONDS, held) + held
    assert max(settled) >= 0.5 * min(LIMIT_SECONDS, held)  # and the queue is used


@given(st.integers(1, 8), st.lists(st.floats(0.01, 0.2), min_size=4, max_size=40))
def test_videos_of_different_lengths_wait_a_bounded_time(slots: int, lengths: list[float]) -> None:
    settled = waits(slots, itertools.cycle(lengths), 0.001, 3000)[100:]
    assert max(settled, default=0.0) <= max(4 * LIMIT_SECONDS, 20 * max(lengths))


def test_the_estimate_follows_what_videos_take() -> None:
    estimate = WaitingTime(4)
    for _ in range(100):
        estimate.held(2.0)
    assert abs(estimate.seconds(0) - 0.5) < 0.01
    assert abs(estimate.seconds(7) - 4.0) < 0.05
    assert estimate.most_waiting(0.1) == 4
    assert estimate.most_waiting(float("inf")) > 1000
    for _ in range(200):
        estimate.held(0.02)
    assert 90 <= estimate.most_waiting(LIMIT_SECONDS) <= 101
