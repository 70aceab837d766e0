"""Events out of the scores of windows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus.service.events import HOLD_SHARE, Event, EventMerger, ScoredWindow, events_of

WINDOW_S = 10.0


def windows(*scores: Sequence[float], stride_s: float = WINDOW_S) -> list[ScoredWindow]:
    return [ScoredWindow(n * stride_s, n * stride_s + WINDOW_S, row) for n, row in enumerate(scores)]


def spans(events: list[Event]) -> list[tuple[float, float, int, int]]:
    return [(event.start_s, event.end_s, event.index, event.windows) for event in events]


A, B, UNSURE, HOLDS_A = (0.9, 0.1), (0.1, 0.9), (0.3, 0.3), (0.4, 0.45)


def test_windows_with_one_label_are_one_event() -> None:
    found = events_of(windows(A, A, B))
    assert spans(found) == [(0, 20, 0, 2), (20, 30, 1, 1)]
    assert [event.score for event in found] == pytest.approx([0.9, 0.9])


def test_an_event_holds_on_though_its_label_is_not_the_best_for_a_moment() -> None:
    assert spans(events_of(windows(A, HOLDS_A, A))) == [(0, 30, 0, 3)]
    assert spans(events_of(windows(HOLDS_A, A))) == [(10, 20, 0, 1)], "it does not begin like that"


def test_another_label_over_the_threshold_ends_it() -> None:
    assert spans(events_of(windows(A, (0.45, 0.55), A))) == [(0, 10, 0, 1), (10, 20, 1, 1), (20, 30, 0, 1)]


def test_where_nothing_is_certain_there_is_no_event() -> None:
    assert events_of(windows(UNSURE, UNSURE)) == []
    assert spans(events_of(windows(A, UNSURE, A))) == [(0, 10, 0, 1), (20, 30, 0, 1)]


def test_short_events_are_left_out_and_short_interruptions_bridged() -> None:
    assert spans(events_of(windows(A, A, B, A, A), least_seconds=15)) == [(0, 50, 0, 4)]
    assert spans(events_of(windows(A, B, B, A), least_seconds=15)) == [(10, 30, 1, 2)]
    assert spans(events_of(windows(A, A, B, B, A, A), least_seconds=15)) == [
        (0, 20, 0, 2),
        (20, 40, 1, 2),
        (40, 60, 0, 2),
    ]


def test_windows_that_overlap_meet_in_the_middle() -> None:
    assert spans(events_of(windows(A, B, stride_s=5))) == [(0, 7.5, 0, 1), (7.5, 15, 1, 1)]


def test_windows_with_gaps_between_them_are_one_event_all_the_same() -> None:
    assert spans(events_of(windows(A, A, stride_s=60))) == [(0, 70, 0, 2)]


def test_an_event_is_told_as_soon_as_it_is_certain() -> None:
    merger = EventMerger(least_seconds=10)
    first, second, third, fourth = windows(A, B, B, B)
    assert merger.add(first) == merger.add(second) == []
    assert spans(merger.add(third)) == []
    assert spans(merger.add(fourth)) == [(0, 10, 0, 1)]
    assert spans(merger.finish()) == [(10, 40, 1, 3)]


@pytest.mark.parametrize(("threshold", "least"), [(0, 0), (1.1, 0), (float("nan"), 0), (0.5, -1), (0.5, float("nan"))])
def test_arguments_must_be_in_range(threshold: float, least: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        EventMerger(threshold, least)


rows = st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), max_size=40)


@settings(max_examples=500)
@given(rows, st.floats(0.05, 1), st.floats(0, 60), st.floats(1, 20))
def test_events_are_in_order_apart_and_supported(
    scores: list[list[float]], threshold: float, least: float, stride_s: float
) -> None:
    given_windows = windows(*scores, stride_s=stride_s)
    found = events_of(given_windows, threshold, least)
    for event in found:
        assert event.end_s - event.start_s >= least
        assert event.end_s > event.start_s
        inside = [it for it in given_windows if it.start_s < event.end_s and it.end_s > event.start_s]
        assert any(it.scores[event.index] >= threshold for it in inside)
        assert HOLD_SHARE * threshold <= event.score + 1e-9 <= 1 + 1e-6
        assert 1 <= event.windows <= len(inside)
    for one, two in pairwise(found):
        assert one.end_s <= two.start_s
        # Both ends of a short gap have different labels; otherwise it had been bridged.
        assert one.index != two.index or two.start_s - one.end_s > least or least == 0


@given(rows)
def test_without_a_least_length_each_certain_window_is_in_an_event_of_its_label(scores: list[list[float]]) -> None:
    given_windows = windows(*scores)
    found = events_of(given_windows)
    for window in given_windows:
        best = max(window.scores)
        if best < 0.5:
            continue
        over = [event for event in found if event.start_s <= window.start_s and window.end_s <= event.end_s]
        assert len(over) == 1
        assert window.scores[over[0].index] == best or sum(it >= 0.5 for it in window.scores) > 1


@given(st.integers(0, 2), st.integers(1, 30), st.floats(0, 50))
def test_a_video_of_one_label_is_one_event_if_it_is_long_enough(index: int, count: int, least: float) -> None:
    row = [0.0, 0.0, 0.0]
    row[index] = 1.0
    found = events_of(windows(*[row] * count), least_seconds=least)
    assert spans(found) == ([(0, count * WINDOW_S, index, count)] if count * WINDOW_S >= least else [])


def test_the_present_event_is_known_once_it_is_long_enough() -> None:
    merger = EventMerger(least_seconds=15)
    seen = []
    for window in windows(A, A, B, A, B, B):
        merger.add(window)
        present = merger.present
        seen.append(None if present is None else (present.index, present.start_s))
    # The second run of A goes on with the first one, because the interruption was short.
    assert seen == [None, (0, 0), None, (0, 0), None, (1, 40)]
