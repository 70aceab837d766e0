"""The pace of answers to callers that get very many refusals or errors."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.http import pace as pace_module
from adafocus.service.http.pace import ALONE, ERRORS, MOST_CALLERS, REFUSALS, TICK_SECONDS, AnswerPace, Rate

RATES = (ALONE, REFUSALS, ERRORS)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("rate", RATES)
def test_few_answers_are_sent_at_once(rate: Rate) -> None:
    pace = AnswerPace(Clock())
    few = int(rate.per_second * rate.burst_seconds) - 1
    assert {pace.delay("a", rate) for _ in range(few)} == {0.0}


@pytest.mark.parametrize("rate", RATES)
def test_many_to_one_caller_are_spread_evenly_and_held_for_a_bounded_time(rate: Rate) -> None:
    clock = Clock()
    pace = AnswerPace(clock)
    delays = [pace.delay("a", rate) for _ in range(1000)]
    assert delays == sorted(delays)
    assert max(delays) == pytest.approx(rate.longest_delay_seconds, abs=TICK_SECONDS)
    assert len(set(delays)) < 15, "several at a time"
    assert pace.delay("b", rate) == 0.0
    clock.now += rate.longest_delay_seconds + rate.burst_seconds
    assert pace.delay("a", rate) == 0.0


def test_refusals_do_not_delay_errors() -> None:
    pace = AnswerPace(Clock())
    for _ in range(1000):
        pace.delay("a", REFUSALS)
    assert pace.delay("a", ERRORS) == 0.0


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(RATES), st.floats(0, 1)), max_size=200))
def test_no_delay_is_longer_than_the_bound(answers: list[tuple[int, Rate, float]]) -> None:
    clock = Clock()
    pace = AnswerPace(clock)
    for caller, rate, after in answers:
        clock.now += after
        assert 0.0 <= pace.delay(str(caller), rate) <= rate.longest_delay_seconds + TICK_SECONDS + 1e-9


def test_callers_are_forgotten() -> None:
    pace = AnswerPace(Clock())
    for number in range(2 * MOST_CALLERS):
        pace.delay(str(number), ALONE)
    assert len(pace._next) == MOST_CALLERS


async def test_only_so_many_answers_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module, "MOST_WAITING", 3)
    pace, slow = AnswerPace(Clock()), Rate(1e-3, 0.0, 3600.0)
    waiting = [asyncio.create_task(pace.wait("a", slow)) for _ in range(3)]
    await asyncio.sleep(0)
    await pace.wait("a", slow)  # would take an hour
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert pace._waiting == 0
