from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.video.sampler import (
    OrderName,
    intervals,
    sample_clip_indices,
    sample_indices,
    snapped,
    visiting_order,
    wanted_frames,
)
from tests.video.clips import FIXTURES

COUNTS = st.integers(1, 5000)
SAMPLES = st.integers(1, 64)
FIRST = st.integers(0, 40)


@pytest.fixture(scope="module")
def frame_model() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FIXTURES / "sampling_act.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def clip_model() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FIXTURES / "sampling_sth.json").read_text())
    return loaded


def test_the_visiting_order_is_the_released_code_s(frame_model: dict[str, Any]) -> None:
    for n, order in frame_model["input_order"].items():
        assert visiting_order(int(n), "coarse_to_fine") == tuple(order), n


def test_frame_indices_are_the_released_code_s(frame_model: dict[str, Any]) -> None:
    for samples, rows in frame_model["val_indices"].items():
        for count, indices in rows.items():
            assert [i + 1 for i in sample_indices(int(count), int(samples))] == indices, (samples, count)


def test_clip_model_indices_are_the_released_code_s(clip_model: dict[str, Any]) -> None:
    for count, rows in clip_model["val_indices"].items():
        assert [i + 1 for i in sample_clip_indices(int(count), 8)] == rows["glance"], count
        assert [i + 1 for i in sample_clip_indices(int(count), 12)] == rows["focus"], count


@given(st.integers(1, 600), st.sampled_from(["coarse_to_fine", "sequential"]))
def test_an_order_visits_every_position_once(n: int, name: OrderName) -> None:
    assert sorted(visiting_order(n, name)) == list(range(n))


@given(COUNTS, SAMPLES, FIRST)
def test_samples_go_forward_in_time_and_stay_inside(count: int, samples: int, first: int) -> None:
    for sample in (sample_indices, sample_clip_indices):
        indices = sample(count, samples, first)
        assert len(indices) == samples
        assert list(indices) == sorted(indices)
        assert indices[-1] < count
        assert indices[0] >= min(first, count - 1)


@given(COUNTS, SAMPLES, FIRST)
def test_frames_left_out_at_the_start_shift_the_rest(count: int, samples: int, first: int) -> None:
    shifted = sample_indices(count + first, samples, first)
    assert shifted == tuple(first + index for index in sample_indices(count, samples))


@given(st.integers(1, 64), st.integers(1, 64))
def test_a_short_video_gives_each_frame_then_repeats_the_last(count: int, samples: int) -> None:
    if count > samples:
        return
    indices = sample_indices(count, samples)
    assert indices == (*range(count), *[count - 1] * (samples - count))


def test_a_video_that_ends_before_the_first_frame_repeats_its_last() -> None:
    assert sample_indices(2, 4, first_frame=3) == (1, 1, 1, 1)


def test_wanted_frames_come_in_visiting_order() -> None:
    order = visiting_order(16, "coarse_to_fine")
    wanted = wanted_frames(100, frames=16, order=order)
    assert wanted == tuple(sample_indices(100, 16)[position] for position in order)


def test_a_clip_model_sees_the_glance_frames_then_the_focus_frames() -> None:
    wanted = wanted_frames(100, frames=8, order=range(8), focus_frames=12)
    assert wanted == sample_clip_indices(100, 8) + sample_clip_indices(100, 12)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: visiting_order(0, "sequential"), "at least 1 frame, got 0"),
        (lambda: visiting_order(4, "backwards"), "coarse_to_fine or sequential, got 'backwards'"),  # type: ignore[arg-type]
        (lambda: sample_indices(0, 4), "at least 1 frame, got 0"),
        (lambda: sample_indices(4, 0), "at least 1 frame must be sampled, got 0"),
        (lambda: sample_indices(4, 4, -1), "0 or more, got -1"),
        (lambda: wanted_frames(9, frames=2, order=(0, 0)), r"each of the 2 sampled frames once, got \(0, 0\)"),
    ],
)
def test_a_count_out_of_range_is_named(call: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


@given(COUNTS, SAMPLES, FIRST)
def test_intervals_divide_what_may_be_sampled_and_hold_one_sample_each(frames: int, samples: int, first: int) -> None:
    divided = intervals(frames, samples, first)
    start = min(first, frames - 1)
    if frames - start <= samples:
        assert divided == ()
        return
    assert [frame for interval in divided for frame in interval] == list(range(start, frames))
    assert max(map(len, divided)) - min(map(len, divided)) <= 1
    for interval, frame in zip(divided, sample_indices(frames, samples, first), strict=True):
        assert interval.start <= frame <= interval.stop


@given(COUNTS, SAMPLES, FIRST, st.sets(st.integers(0, 5000)))
def test_a_frame_moves_only_to_the_nearest_key_frame_of_its_interval(
    frames: int, samples: int, first: int, keys: set[int]
) -> None:
    order = visiting_order(samples, "sequential")
    key_frames = sorted(key for key in keys if key < frames)
    plain = wanted_frames(frames, frames=samples, order=order, first_frame=first)
    moved = wanted_frames(frames, frames=samples, order=order, first_frame=first, key_frames=key_frames)
    divided = intervals(frames, samples, first)
    if not divided:
        assert moved == plain
        return
    for interval, before, after in zip(divided, plain, moved, strict=True):
        inside = [key for key in key_frames if key in interval]
        assert after == (min(inside, key=lambda key: (abs(key - before), key)) if inside else before)


def test_the_earlier_of_two_key_frames_is_taken_and_moved_frames_are_visited_in_the_same_order() -> None:
    assert snapped((5, 15, 25), (range(10), range(10, 20), range(20, 30)), (3, 7, 20)) == (3, 15, 20)
    assert wanted_frames(30, frames=3, order=(1, 0, 2), key_frames=(3, 7, 20)) == (15, 3, 20)


def test_the_frames_of_a_clip_model_move_within_the_intervals_of_their_own_stage() -> None:
    found = wanted_frames(60, frames=2, order=(0, 1), focus_frames=3, key_frames=(0, 28, 45))
    assert found == (28, 45, 0, 28, 45)
    assert wanted_frames(2, frames=2, order=(0, 1), focus_frames=3, key_frames=(1,)) == (0,) * 5
