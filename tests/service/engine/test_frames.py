from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.engine.frames import FrameStore, gather, nearest_positions, side_by_side
from adafocus.service.engine.huge_pages import HUGE_PAGE_BYTES, zeros
from adafocus.service.engine.runners.base import FramePlaces
from adafocus.service.frame_memory import FrameSegment, SharedFrame
from tests.service.engine.factory import CROP, make_frame


def shades(segment: FrameSegment, first: int) -> FrameSegment:
    """Fill every place with a shade of its own."""
    for place in range(len(segment.pixels)):
        segment.pixels[place] = first + place
    return segment


def test_frames_are_gathered_from_the_segments_that_they_lie_in() -> None:
    here, there = shades(FrameSegment.create(4, CROP), 0), shades(FrameSegment.create(4, CROP), 100)
    segments = {here.number: here, there.number: there}
    for numbers, places, expected in (
        ([here.number] * 3, [2, 0, 2], [2, 0, 2]),
        ([here.number, there.number, here.number], [1, 3, 0], [1, 103, 0]),
        ([], [], []),
    ):
        out = np.full((len(numbers), CROP, CROP, 3), 255, dtype=np.uint8)
        gather(out, segments, FramePlaces(np.array(numbers, dtype=np.int64), np.array(places, dtype=np.int64)))
        assert [(int(frame.min()), int(frame.max())) for frame in out] == [(shade, shade) for shade in expected]


def test_frames_that_lie_side_by_side_in_their_order_are_not_copied() -> None:
    here, there = shades(FrameSegment.create(4, CROP), 0), shades(FrameSegment.create(4, CROP), 100)
    segments = {here.number: here, there.number: there}
    for numbers, places, found in (
        ([there.number], [2], there.pixels[2:3]),
        ([here.number] * 3, [1, 2, 3], here.pixels[1:]),
        ([here.number] * 3, [1, 3, 2], None),
        ([here.number, there.number], [0, 1], None),
    ):
        where = FramePlaces(np.array(numbers, dtype=np.int64), np.array(places, dtype=np.int64))
        lying = side_by_side(segments, where)
        assert (lying is None) == (found is None)
        if lying is not None and found is not None:
            assert np.shares_memory(lying, found)
            np.testing.assert_array_equal(lying, found)


def test_another_mapping_sees_the_same_frames() -> None:
    segment = FrameSegment.create(2, CROP)
    assert segment.fd is not None
    other = FrameSegment.attach(segment.fd, 2, CROP, segment.number)
    segment.pixels[1] = 7
    assert (int(other.pixels[0].max()), int(other.pixels[1].min())) == (0, 7)


def test_a_stored_frame_keeps_its_place_until_it_is_released() -> None:
    store = FrameStore(CROP, places=2)
    kept = [store.put(make_frame(position, 10 * position)) for position in range(5)]
    assert len({(frame.segment.number, frame.place) for frame in kept}) == 5
    assert [int(frame.pixels.max()) for frame in kept] == [0, 10, 20, 30, 40]
    kept[1].release()
    again = store.put(make_frame(9, 99))
    assert (again.segment, again.place) == (kept[1].segment, kept[1].place)
    assert (again.position, again.index, again.time_s) == (9, 90, 9 / 5)
    store.close()


def test_a_frame_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        FrameStore(CROP + 1).put(make_frame(0, 1))


@given(
    glance=st.integers(1, 5),
    focus=st.integers(1, 5),
    data=st.data(),
)
def test_a_missing_frame_is_replaced_by_the_nearest_of_the_same_network(
    glance: int, focus: int, data: st.DataObject
) -> None:
    total = glance + focus
    have = sorted(data.draw(st.sets(st.integers(0, total - 1), min_size=1)))
    chosen = [have[index] for index in nearest_positions(np.array(have), glance, total)]
    for wanted, found in enumerate(chosen):
        same = [known for known in have if (known < glance) == (wanted < glance)]
        assert found in (same or have)
        assert abs(found - wanted) == min(abs(known - wanted) for known in same or have)


def test_memory_on_huge_pages_is_aligned_and_zero() -> None:
    array = zeros((3, 5), np.float32)
    assert array.ctypes.data % HUGE_PAGE_BYTES == 0
    assert array.shape == (3, 5)
    assert not array.any()
    array[:] = 1
    assert zeros((0, 4), np.int64).shape == (0, 4)


def test_a_shared_frame_is_a_frame() -> None:
    frame = FrameStore(CROP).put(make_frame(3, 5))
    assert isinstance(frame, SharedFrame)
    assert frame.index == make_frame(3, 5).index
