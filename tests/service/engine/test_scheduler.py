from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from service.engine.scheduler import PATIENCE_SECONDS, next_rows, steps_of


@dataclass(frozen=True)
class Candidate:
    arrived: float
    deadline: float | None = None


times = st.floats(0, 1000)
candidates = st.lists(st.builds(Candidate, arrived=times, deadline=st.none() | times), max_size=20)


@given(candidates, st.integers(-1, 25))
def test_takes_as_many_as_fit_and_invents_nobody(waiting: list[Candidate], places: int) -> None:
    taken = next_rows(waiting, places)
    assert len(taken) == min(len(waiting), max(0, places))
    remaining = list(waiting)
    for candidate in taken:
        remaining.remove(candidate)


@given(st.lists(times, min_size=1, max_size=20))
def test_without_deadlines_first_come_is_first_served(arrivals: list[float]) -> None:
    taken = next_rows([Candidate(at) for at in arrivals], len(arrivals))
    assert [candidate.arrived for candidate in taken] == sorted(arrivals)


@given(st.lists(st.floats(0, PATIENCE_SECONDS), min_size=1, max_size=20))
def test_the_earliest_deadline_comes_first(deadlines: list[float]) -> None:
    taken = next_rows([Candidate(0.0, due) for due in deadlines], len(deadlines))
    assert [candidate.deadline for candidate in taken] == sorted(deadlines)


def test_urgent_ones_cannot_hold_back_a_patient_one_for_ever() -> None:
    patient = Candidate(0.0)
    rounds = 0
    now = 0.0
    while True:  # every round brings two urgent newcomers and serves one
        newcomers = [Candidate(now, now + 0.5), Candidate(now, now + 0.5)]
        if next_rows([patient, *newcomers], 1) == [patient]:
            break
        rounds += 1
        now += 0.1
        assert rounds < 1000, "the patient one starves"
    assert now <= PATIENCE_SECONDS


def test_only_a_lone_video_looks_ahead() -> None:
    assert [steps_of(alone=True, at_once=steps) for steps in range(5)] == [1, 1, 2, 3, 4]
    assert {steps_of(alone=False, at_once=steps) for steps in range(5)} == {1}
