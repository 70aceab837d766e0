from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.engine.scheduler import (
    BACKGROUND_PATIENCE_SECONDS,
    MAX_BATCHES_IN_FLIGHT,
    PATIENCE_SECONDS,
    due_time,
    most_urgent,
    nearly_full,
    of_the_foreground,
    rows_short,
    rows_to_run,
    steps_together,
)

Candidate = tuple[float, float]
"""When it arrived, and its deadline."""

times = st.floats(0, 1000)
candidates = st.lists(st.tuples(times, times | st.just(math.inf)), max_size=20)


def chosen(waiting: list[Candidate], places: int) -> list[int]:
    arrived = np.array([at for at, _ in waiting], dtype=np.float64)
    due = np.array([due_time(at, deadline) for at, deadline in waiting], dtype=np.float64)
    return [int(index) for index in most_urgent(due, arrived, places)]


@given(candidates, st.integers(-1, 25))
def test_takes_as_many_as_fit_and_each_once(waiting: list[Candidate], places: int) -> None:
    taken = chosen(waiting, places)
    assert len(taken) == min(len(waiting), max(0, places))
    assert len(set(taken)) == len(taken)
    assert set(taken) <= set(range(len(waiting)))


@given(candidates, st.integers(0, 25))
def test_nobody_left_behind_is_more_urgent_than_one_who_was_taken(waiting: list[Candidate], places: int) -> None:
    def due(index: int) -> tuple[float, float]:
        arrived, deadline = waiting[index]
        return min(deadline, arrived + PATIENCE_SECONDS), arrived

    taken = chosen(waiting, places)
    left = set(range(len(waiting))) - set(taken)
    assert [due(index) for index in taken] == sorted(due(index) for index in taken)
    assert all(due(behind) >= due(index) for behind in left for index in taken)


@given(st.lists(times, min_size=1, max_size=20))
def test_without_deadlines_first_come_is_first_served(arrivals: list[float]) -> None:
    taken = chosen([(at, math.inf) for at in arrivals], len(arrivals))
    assert [arrivals[index] for index in taken] == sorted(arrivals)


def test_ties_keep_their_order() -> None:
    assert chosen([(1.0, 5.0)] * 4, 3) == [0, 1, 2]


def test_urgent_ones_cannot_hold_back_a_patient_one_for_ever() -> None:
    now = 0.0
    while True:  # every round brings two urgent newcomers and serves one
        newcomer = (now, now + 0.5)
        if chosen([(0.0, math.inf), newcomer, newcomer], 1) == [0]:
            break
        now += 0.1
        assert now < 100, "the patient one starves"
    assert now <= PATIENCE_SECONDS


@given(st.integers(0, 100), st.integers(1, 64), st.integers(0, MAX_BATCHES_IN_FLIGHT), st.booleans())
def test_an_idle_device_runs_what_is_ready_and_a_busy_one_is_given_full_batches_until_its_own_ends(
    ready: int, max_batch: int, in_flight: int, ending: bool
) -> None:
    rows = rows_to_run(ready=ready, max_batch=max_batch, in_flight=in_flight, ending=ending)
    assert rows <= min(ready, max_batch)
    if in_flight == 0:
        assert rows == min(ready, max_batch)
    elif in_flight < MAX_BATCHES_IN_FLIGHT:
        enough = nearly_full(max_batch) if ending else max_batch
        assert rows == (min(ready, max_batch) if ready >= enough else 0)
    else:
        assert rows == 0


@given(st.integers(0, 40), st.integers(1, 16), st.integers(0, 1), st.integers(0, 40))
def test_fewer_videos_than_are_short_change_nothing(ready: int, max_batch: int, in_flight: int, further: int) -> None:
    def rows(ready: int, *, ending: bool) -> int:
        return rows_to_run(ready=ready, max_batch=max_batch, in_flight=in_flight, ending=ending)

    ready %= 1 if in_flight == 0 else max_batch  # so many that the next batch waits
    short = rows_short(ready=ready, max_batch=max_batch, in_flight=in_flight)
    assert short >= (in_flight > 0)
    if further < short:
        assert not rows(ready + further, ending=False)
        assert not rows(ready + further, ending=True) or ready >= nearly_full(max_batch)


def test_only_a_lone_video_looks_ahead() -> None:
    assert [steps_together(alone=True, available=steps) for steps in range(5)] == [1, 1, 2, 3, 4]
    assert {steps_together(alone=False, available=steps) for steps in range(5)} == {1}


def test_a_single_row_never_shuts_others_out() -> None:
    assert [nearly_full(rows) for rows in (1, 2, 4, 8, 32)] == [2, 2, 3, 6, 24]


NOW = 100.0


def allowed(rows: list[tuple[bool, float]], *, others_in_flight: bool, shares: bool = False) -> list[int]:
    """Which rows may run; of each, whether it is in the background and for how long it has been ready."""
    background = np.array([behind for behind, _ in rows], dtype=np.bool_)
    since = NOW - np.array([seconds for _, seconds in rows], dtype=np.float64)
    return of_the_foreground(background, since, NOW, others_in_flight=others_in_flight, shares=shares).tolist()


def test_a_row_of_the_foreground_shares_no_batch_with_the_background() -> None:
    assert allowed([(True, 0.1), (False, 0.0), (True, 0.2), (False, 0.1)], others_in_flight=True) == [1, 3]


def test_while_others_are_in_flight_the_background_runs_row_by_row_the_oldest_first() -> None:
    assert allowed([(True, 0.1), (True, 0.2)], others_in_flight=True) == [1]
    assert allowed([(True, 0.1), (True, 0.2)], others_in_flight=False) == [0, 1]


def test_a_device_whose_rows_share_its_time_runs_them_all() -> None:
    assert allowed([(True, 0.1), (False, 0.0)], others_in_flight=True, shares=True) == [0, 1]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 2)), min_size=1, max_size=8), st.booleans(), st.booleans())
def test_something_always_runs_and_nothing_waits_in_the_background_for_ever(
    rows: list[tuple[bool, float]], others_in_flight: bool, shares: bool
) -> None:
    chosen = allowed(rows, others_in_flight=others_in_flight, shares=shares)
    assert chosen
    patient = [index for index, (_, seconds) in enumerate(rows) if seconds > BACKGROUND_PATIENCE_SECONDS]
    assert set(patient) <= set(chosen)
    assert {index for index, (behind, _) in enumerate(rows) if not behind} <= set(chosen)
