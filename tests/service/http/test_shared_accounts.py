"""Limits that several processes keep together give what one process would."""

import os

from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.http.rate_limit import RateLimit
from adafocus.service.http.shared_accounts import SharedAccounts


@given(
    turns=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from("abc"), st.floats(0, 30, allow_nan=False)), max_size=40
    ),
    per_minute=st.integers(1, 6),
)
def test_several_processes_allow_what_one_would(turns: list[tuple[int, str, float]], per_minute: int) -> None:
    now = [1000.0]
    fd = SharedAccounts.create()
    alone = RateLimit(per_minute, lambda: now[0])
    together = [RateLimit(per_minute, lambda: now[0], SharedAccounts(fd)) for _ in range(3)]
    for process, caller, later in turns:
        now[0] += later
        assert together[process].take(caller) == alone.take(caller)
    os.close(fd)


def test_more_callers_than_are_remembered_each_have_a_limit() -> None:
    fd = SharedAccounts.create()
    limit = RateLimit(1, lambda: 1000.0, SharedAccounts(fd))
    for number in range(20_000):
        assert limit.take(f"caller {number}").allowed
    assert not limit.take("caller 19999").allowed
    os.close(fd)
