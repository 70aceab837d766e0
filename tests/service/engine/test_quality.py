"""The quality controller: its rules, and what it saves in a simulated overload. No clock is read."""

from __future__ import annotations

import heapq
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.engine.quality import LOWER_BOUND, LOWER_SECONDS, RAISE_SECONDS, QualityController, point_at
from tests.bundle.factory import make_manifest

TARGET = 0.5
FAST, SLOW = 0.1, 2.0


def controller(most: int = 2) -> QualityController:
    return QualityController(TARGET, most)


def test_a_long_queue_lowers_the_quality_one_point_at_a_time() -> None:
    quality = controller()
    levels = [quality.observe(now, SLOW) for now in np.arange(0.0, 2.0, LOWER_SECONDS / 2).tolist()]
    assert levels == [0, 0, 1, 1, 2, 2, 2, 2]


def test_one_slow_request_changes_nothing() -> None:
    quality = controller()
    for now in range(10):
        assert quality.observe(float(now), SLOW if now == 3 else FAST) == 0


def test_between_the_bounds_the_quality_stays_as_it_is() -> None:
    quality = controller()
    quality.observe(0.0, SLOW)
    assert quality.observe(LOWER_SECONDS, SLOW) == 1
    for now in range(1, 100):
        assert quality.observe(LOWER_SECONDS + now, (LOWER_BOUND + 0.1) * TARGET) == 1


def test_a_short_queue_raises_it_again_after_a_while_and_idleness_counts() -> None:
    quality = controller()
    for now in (0.0, LOWER_SECONDS, 2 * LOWER_SECONDS):
        quality.observe(now, SLOW)
    assert quality.level == 2
    assert quality.observe(2.0, FAST) == 2
    assert quality.observe(2.0 + RAISE_SECONDS, FAST) == 1
    assert quality.observe(500.0, FAST) == 0


def test_a_target_of_zero_never_lowers_the_quality() -> None:
    quality = QualityController(0.0, 3)
    assert {quality.observe(now / 10, 100.0) for now in range(100)} == {0}


def test_it_tries_less_often_where_every_try_failed() -> None:
    quality, now, raised = controller(1), 0.0, []
    for _ in range(6000):
        now += 0.1
        before = quality.level
        quality.observe(now, SLOW if quality.level == 0 else FAST)
        if quality.level < before:
            raised.append(now)
    gaps = [later - earlier for earlier, later in pairwise(raised)]
    assert gaps[-1] > 6 * gaps[0]


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5)), max_size=80), st.integers(0, 4))
def test_the_level_moves_by_one_down_the_ladder_and_never_leaves_it(rows: list[tuple[float, float]], most: int) -> None:
    quality, now = controller(most), 0.0
    for wait, delay in rows:
        before = quality.level
        now += wait
        level = quality.observe(now, delay)
        assert 0 <= level <= most
        assert level <= before + 1
        assert level <= before or delay > TARGET
        assert level >= before or delay < LOWER_BOUND * TARGET


@given(st.integers(0, 9), st.lists(st.sampled_from("abcdef"), unique=True, max_size=5))
def test_a_point_is_never_dearer_than_asked(level: int, cheaper: list[str]) -> None:
    found = point_at(level, "asked", cheaper)
    if not level or not cheaper:
        assert found == "asked"
    else:
        assert found == cheaper[min(level, len(cheaper)) - 1]


def test_cheaper_points_are_calibrated_ones_the_dearest_first() -> None:
    manifest = make_manifest()
    assert manifest.cheaper_points("full") == ("balanced",)
    assert manifest.cheaper_points("balanced") == ()


def simulate(load: float, *, degrades: bool, seconds: float = 60.0) -> tuple[int, int, int]:
    """Two servers, three points of 100, 40 and 25 ms, a queue of 16; ``load`` in shares of the capacity at the first.

    Returns:
        Requests, answers within a second, and refusals.
    """
    random = np.random.default_rng(7)
    costs, servers, room = (0.1, 0.04, 0.025), 2, 16
    quality = QualityController(0.25 if degrades else 0.0, len(costs) - 1)
    arrivals = np.cumsum(random.exponential(costs[0] / (servers * load), int(load * servers / costs[0] * seconds)))
    free, starts = [0.0] * servers, list[float]()
    good = refused = 0
    for arrived in arrivals.tolist():
        starts = [start for start in starts if start > arrived]
        if len(starts) >= room:
            refused += 1
            continue
        start = max(arrived, heapq.heappop(free))
        finished = start + costs[quality.observe(start, start - arrived)]
        heapq.heappush(free, finished)
        starts.append(start)
        good += finished - arrived <= 1.0
    return len(arrivals), good, refused


@pytest.mark.parametrize(("load", "gain"), [(2.0, 1.8), (4.0, 3.0)])
def test_a_degraded_service_answers_what_it_would_have_refused(load: float, gain: float) -> None:
    requests, good, refused = simulate(load, degrades=True)
    _, plain_good, plain_refused = simulate(load, degrades=False)
    assert good >= gain * plain_good
    assert refused < 0.3 * plain_refused
    assert good / requests > 0.8


def test_without_overload_nothing_is_degraded_or_refused() -> None:
    requests, good, refused = simulate(0.6, degrades=True)
    assert (good, refused) == (requests, 0)
