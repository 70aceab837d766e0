from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.cli.load.plan import Plan, arrivals

RATES = st.lists(st.floats(0.5, 200), min_size=1, max_size=4).map(tuple)


def plan(rates: tuple[float, ...], step_seconds: float | None = None, requests: int = 50, seed: int = 0) -> Plan:
    return Plan("http://h", [b""], {}, requests, rates=rates, step_seconds=step_seconds, seed=seed)


@given(st.floats(0.01, 1e4), st.integers(1, 200), st.integers(0, 9))
def test_one_rate_makes_as_many_arrivals_as_were_asked_for_in_order(rate: float, requests: int, seed: int) -> None:
    made = list(arrivals(plan((rate,), requests=requests, seed=seed)))
    assert len(made) == requests
    assert made == sorted(made)
    assert {arrival.step for arrival in made} == {0}


@given(RATES, st.floats(0.1, 5))
def test_each_arrival_of_a_step_load_lies_within_its_step(rates: tuple[float, ...], seconds: float) -> None:
    made = list(arrivals(plan(rates, seconds)))
    assert made == sorted(made)
    for due, step in made:
        assert step * seconds <= due < (step + 1) * seconds
        assert 0 <= step < len(rates)


def test_a_step_has_about_as_many_arrivals_as_its_rate_says() -> None:
    made = list(arrivals(plan((100.0, 400.0), 10.0)))
    counts = [sum(step == number for _, step in made) for number in (0, 1)]
    assert counts == [pytest.approx(1000, rel=0.15), pytest.approx(4000, rel=0.15)]


def test_the_same_seed_gives_the_same_arrivals() -> None:
    assert list(arrivals(plan((5.0,), seed=3))) == list(arrivals(plan((5.0,), seed=3)))
    assert list(arrivals(plan((5.0,), seed=3))) != list(arrivals(plan((5.0,), seed=4)))


def test_several_rates_without_a_duration_are_refused() -> None:
    with pytest.raises(ValueError, match="step_seconds"):
        plan((1.0, 2.0))
