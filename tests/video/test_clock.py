from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.video.clock import UNKNOWN_TIME, Clock, continuous, display_times, median_step, without_strays

LEAPING = Clock(Fraction(1, 1000), may_leap=True)
STEADY = Clock(Fraction(1, 1000), may_leap=False)
HOUR = 3_600_000


def joined(
    dts: list[int], clock: Clock = LEAPING, pts: list[int] | None = None, starts: tuple[int, ...] = ()
) -> list[int]:
    """Presentation times on one clock; the decoding times stand for them if they are omitted."""
    times = np.array(dts if pts is None else pts, dtype=np.int64)
    marks = np.isin(np.arange(len(dts)), [0, *starts])
    return list(continuous(times, np.array(dts, dtype=np.int64), marks, clock).times)


def test_regular_times_stay_as_they_are() -> None:
    for clock in (LEAPING, STEADY):
        assert joined([0, 40, 80, 121, 160], clock) == [0, 40, 80, 121, 160]


@pytest.mark.parametrize("restart", [0, 13, -5000])
@pytest.mark.parametrize("clock", [LEAPING, STEADY], ids=["leaping", "steady"])
def test_a_clock_that_restarts_goes_on(restart: int, clock: Clock) -> None:
    assert joined([1000, 1040, 1080, 1120, restart, restart + 40], clock, starts=(4,)) == [
        1000, 1040, 1080, 1120, 1160, 1200,
    ]  # fmt: skip


def test_a_leap_is_a_pause_only_where_the_container_permits_no_other_clock() -> None:
    leap = [0, 40, 80, 120 + HOUR, 160 + HOUR]
    assert joined(leap, LEAPING) == [0, 40, 80, 120, 160]
    assert joined(leap, STEADY) == leap


def test_a_pause_of_seconds_is_believed_everywhere() -> None:
    pause = [0, 40, 80, 9_000, 9_040]
    assert joined(pause, LEAPING) == pause


def test_a_picture_every_minute_is_no_leap() -> None:
    slow = [0, 60_000, 120_000, 180_000]
    assert joined(slow, LEAPING) == slow


def test_several_restarts_follow_each_other() -> None:
    assert joined([0, 40, 0, 40, 7000, 7040, 3], starts=(2, 4, 6)) == [0, 40, 80, 120, 7080, 7120, 7160]
    assert joined([0, 40, HOUR, HOUR + 40, 0, 40], starts=(2, 4)) == [0, 40, 80, 120, 160, 200]


def test_a_clock_that_restarts_all_the_time_tells_nothing() -> None:
    assert set(joined([5000, 0] * 2000)) == {UNKNOWN_TIME}


def test_a_single_stray_time_costs_no_duration() -> None:
    assert joined([0, 40, HOUR, 120, 160], STEADY) == [0, 40, 80, 120, 160]


def test_a_part_that_begins_a_little_too_early_is_told_from_a_stray_time() -> None:
    assert joined([0, 40, 80, 120, 80, 120, 160], starts=(4,)) == [0, 40, 80, 120, 160, 200, 240]
    assert joined([0, 40, 80, 120, 80, 200, 240], starts=(4,)) == [0, 40, 80, 120, 80, 200, 240]


def test_reordered_pictures_keep_their_order_across_a_restart() -> None:
    pts = [80, 40, 160, 120, 80, 40, 160, 120]
    dts = [0, 40, 80, 120, 0, 40, 80, 120]
    found = joined(dts, pts=pts, starts=(4,))
    assert found == [80, 40, 160, 120, 240, 200, 320, 280]


def test_a_clock_that_leaps_amid_a_group_goes_on_by_decoding_times() -> None:
    pts = [80, 40, 160, 120 + HOUR, 240 + HOUR, 200 + HOUR]
    dts = [0, 40, 80, 120 + HOUR, 160 + HOUR, 200 + HOUR]
    assert joined(dts, pts=pts) == [80, 40, 160, 120, 240, 200]
    assert not continuous(np.array(pts), np.array(dts), np.zeros(6, dtype=bool), LEAPING).at_starts


def test_missing_times_are_filled_in() -> None:
    none = UNKNOWN_TIME
    assert joined([0, none, 80, none, none], pts=[0, none, 80, none, none]) == [0, 40, 80, 120, 160]
    assert joined([none, none, 80, 120], pts=[none, none, 80, 120]) == [0, 40, 80, 120]
    assert joined([none, none], pts=[none, none]) == [none, none]


def test_a_time_far_from_its_decoding_time_is_none() -> None:
    pts, dts = np.array([0, HOUR, 80]), np.array([0, 40, 80])
    assert list(without_strays(pts, dts, LEAPING)) == [0, UNKNOWN_TIME, 80]
    assert list(without_strays(pts, dts, STEADY)) == [0, HOUR, 80]


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        ([0, 40, 80], [0, 40, 80]),
        ([80, 0, 40], [0, 40, 80]),
        ([0, 40, 40, 120], [0, 40, 80, 120]),
        ([0, 40, 40, 80], [0, 40, 60, 80]),
        ([0, 40, 40, 40, 160], [0, 40, 80, 120, 160]),
        ([0, 0, 0, 120, 160], [0, 40, 80, 120, 160]),
        ([0, 40, 80, 80], [0, 40, 80, 120]),
        ([0, 40, 80, 80, 5000], [0, 40, 80, 120, 5000]),
    ],
)
def test_equal_times_are_spread_up_to_the_next(times: list[int], shown: list[int]) -> None:
    found = display_times(np.array(times))
    assert found is not None
    assert list(found) == shown


def test_one_time_for_all_is_none() -> None:
    assert display_times(np.array([7, 7, 7])) is None
    assert display_times(np.array([UNKNOWN_TIME, UNKNOWN_TIME])) is None
    assert display_times(np.array([7])) is not None


def test_a_typical_step_is_never_nothing() -> None:
    assert median_step(np.array([0, -3, 40, 41, 42])) == 41
    assert median_step(np.array([], dtype=np.int64)) == 1


@given(
    st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1), st.booleans()), min_size=1),
    st.booleans(),
)
def test_no_times_break_it(rows: list[tuple[int, int, bool]], may_leap: bool) -> None:
    pts, dts = (np.array(column, dtype=np.int64) for column in list(zip(*rows, strict=True))[:2])
    starts = np.array([row[2] for row in rows])
    clock = Clock(Fraction(1, 90_000), may_leap)
    found = continuous(without_strays(pts, dts, clock), dts, starts, clock)
    shown = display_times(found.times)
    assert len(found.times) == len(rows)
    assert shown is None or (np.diff(shown) >= 0).all()
