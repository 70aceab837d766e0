from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.engine.step_plan import NO_CAP, affordable_steps, certain_steps, exit_reason, prefetch_targets

NEVER, ALWAYS = math.inf, -math.inf

rows = st.lists(st.sampled_from((NEVER, 0.5)), max_size=12).map(lambda row: (*row, ALWAYS))


@given(rows, st.integers(0, 14))
def test_a_step_is_certain_if_no_exit_lies_before_it_and_it_is_paid_for(
    thresholds: tuple[float, ...], affordable: int
) -> None:
    for step, certain in enumerate(certain_steps(thresholds, affordable)):
        assert 1 <= certain <= len(thresholds) - step
        assert certain == 1 or step + certain <= affordable
        assert all(threshold == NEVER for threshold in thresholds[step : step + certain - 1])
        following = step + certain
        if following < min(len(thresholds), affordable):
            assert thresholds[following - 1] != NEVER


@given(rows, st.integers(0, 14), st.data())
def test_no_step_that_may_end_after_its_glance_runs_together_with_another(
    thresholds: tuple[float, ...], affordable: int, data: st.DataObject
) -> None:
    size = len(thresholds)
    glances = tuple(data.draw(st.lists(st.sampled_from((NEVER, 0.5)), min_size=size, max_size=size)))
    without = certain_steps(thresholds, affordable)
    for step, certain in enumerate(certain_steps(thresholds, affordable, glances)):
        assert 1 <= certain <= without[step]
        assert certain == 1 or all(value == NEVER for value in glances[step : step + certain])
    assert certain_steps(thresholds, affordable, (NEVER,) * size) == without


@pytest.mark.parametrize(("cap", "steps"), [(None, NO_CAP), (0, 0), (9, 0), (10, 1), (39, 3), (40, 4)])
def test_a_cap_pays_for_whole_steps(cap: int | None, steps: int) -> None:
    assert affordable_steps(cap, 10) == steps


def test_a_frame_is_prefetched_where_the_video_probably_goes_on() -> None:
    assert prefetch_targets((0.9, 0.5, 0.4, 0.0), (1, 1, 1, 1)) == (2, 2, 1, 1)
    assert prefetch_targets((), (1, 1, 1)) == (2, 2, 2)


def test_frames_of_certain_steps_are_prefetched() -> None:
    assert prefetch_targets((), (4, 3, 2, 1)) == (4, 3, 2, 2)
    assert prefetch_targets((0.1,) * 3, (3, 2, 1)) == (3, 2, 1)
    assert prefetch_targets((0.1,) * 3, (1, 1, 1)) == (1, 1, 1)


@pytest.mark.parametrize(
    ("at_end", "short", "confident", "reason"),
    [
        (True, False, True, "all_steps"),  # the last step's threshold is always reached
        (True, True, True, "end_of_video"),
        (False, False, True, "confident"),
        (False, False, False, "max_gflops"),
    ],
)
def test_the_end_of_the_steps_goes_before_confidence(at_end: bool, short: bool, confident: bool, reason: str) -> None:
    assert exit_reason(at_end=at_end, short=short, confident=confident) == reason
