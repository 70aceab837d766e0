"""A bucket that refills evenly."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from adafocus.service.http import rate_limit
from adafocus.service.http.rate_limit import WINDOW_SECONDS, RateLimit


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_worth_may_be_spent_at_once_and_comes_back_evenly() -> None:
    clock = Clock()
    limit = RateLimit(3, clock)
    assert [limit.take("a").remaining for _ in range(3)] == [2, 1, 0]
    refused = limit.take("a")
    assert (refused.allowed, refused.remaining, refused.full_seconds, refused.wait_seconds) == (False, 0, 60, 20)
    clock.now += 19.9
    assert not limit.take("a").allowed
    clock.now += 0.2
    assert limit.take("a").allowed
    assert not limit.take("a").allowed


def test_callers_do_not_share() -> None:
    limit = RateLimit(1, Clock())
    assert limit.take("a").allowed
    assert limit.take("b").allowed
    assert not limit.take("a").allowed


def test_only_so_many_callers_are_remembered() -> None:
    limit = RateLimit(1, Clock())
    for number in range(rate_limit.MAX_CALLERS + 1):
        limit.take(str(number))
    assert limit.take("0").allowed
    assert not limit.take(str(rate_limit.MAX_CALLERS)).allowed


@example(1, [1.6871547931276263])  # told 61 s of a window of 60, when it counted in floats
@given(st.integers(1, 200), st.lists(st.floats(0, 40), min_size=1, max_size=300))
def test_never_more_than_twice_the_quota_in_a_window_and_never_less_than_promised(
    quota: int, pauses: list[float]
) -> None:
    clock = Clock()
    limit = RateLimit(quota, clock)
    taken: list[float] = []
    promised = quota
    for pause in pauses:
        clock.now += pause
        standing = limit.take("a")
        assert standing.allowed or promised == 0 or pause == 0
        if standing.allowed:
            taken.append(clock.now)
        assert 0 <= standing.remaining < quota
        assert 0 <= standing.full_seconds <= WINDOW_SECONDS
        assert (standing.wait_seconds > 0) is (standing.remaining == 0)
        promised = standing.remaining
    assert all(earlier <= later for earlier, later in pairwise(taken))
    for start in taken:
        assert sum(start <= moment < start + WINDOW_SECONDS for moment in taken) <= 2 * quota
