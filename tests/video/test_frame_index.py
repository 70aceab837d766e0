from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.video.frame_index import UNKNOWN_TIME, FrameIndex, PacketTable, StreamTraits, build_index

NONE = UNKNOWN_TIME
PLAIN = StreamTraits(Fraction(1, 1000), codec="h264")
REORDERS = StreamTraits(Fraction(1, 1000), codec="h264", reorders=True)


def index(
    pts: Sequence[int],
    dts: Sequence[int] | None = None,
    traits: StreamTraits = PLAIN,
    *,
    keys: Sequence[int] = (0,),
    pictures: Sequence[int] | None = None,
    anchors: Sequence[bool] | None = None,
) -> FrameIndex:
    def column(values: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array(values, dtype=np.int64)

    table = PacketTable(
        pts=column(pts),
        dts=column(range(0, 40 * len(pts), 40) if dts is None else dts),
        sizes=column([100] * len(pts)),
        durations=column([40] * len(pts)),
        keys=column(keys),
        pictures=column(range(len(pts)) if pictures is None else pictures),
        anchors=None if anchors is None else np.array(anchors),
    )
    return build_index(table, traits)


def test_presentation_times_tell_the_order() -> None:
    found = index([80, 200, 160, 120, 240], traits=REORDERS)
    assert found.ordered
    assert found.order.tolist() == [0, 3, 2, 1, 4]
    assert found.frame_of.tolist() == [0, 3, 2, 1, 4]
    assert found.times_s is not None
    assert found.times_s.tolist() == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert found.seconds == pytest.approx(0.2)


def test_packets_that_show_nothing_are_no_frames() -> None:
    found = index([0, 40, 40, 80], pictures=[0, -1, 1, 2])
    assert (found.packets, found.frames, found.ordered) == (4, 3, True)
    assert found.order.tolist() == [0, 2, 3]
    assert found.frame_of.tolist() == [0, -1, 1, 2]


def test_two_packets_may_complete_one_frame() -> None:
    found = index([0, NONE, 40, NONE], pictures=[0, 0, 1, 1])
    assert found.ordered
    assert found.order.tolist() == [1, 3]
    assert found.frame_of.tolist() == [0, 0, 1, 1]
    assert found.seconds == pytest.approx(0.08)


@pytest.mark.parametrize(
    ("pts", "traits", "ordered"),
    [
        ([0, 40, 40, 120], PLAIN, True),
        ([0, 40, 40, 120], REORDERS, False),
        ([0, 80, 80, 40], PLAIN, False),
        ([0, NONE, 80, 120], PLAIN, False),
        ([0, NONE, 80, 120], StreamTraits(Fraction(1, 1000), codec="vp8"), True),
        ([NONE] * 4, PLAIN, False),
        ([0, 40, 80, 120], REORDERS, False),
        ([80, 120, 160, 200], REORDERS, True),
        ([80, 120, 160, 200], StreamTraits(Fraction(1, 1000), codec="h264", reorders=True, guesses_pts=True), False),
    ],
)
def test_order_is_told_only_where_it_is_certain(pts: list[int], traits: StreamTraits, ordered: bool) -> None:
    found = index(pts, traits=traits)
    assert found.ordered is ordered
    assert found.seekable is ordered
    assert found.times_s is not None
    assert found.times_s.tolist() == pytest.approx([0, 0.04, 0.08, 0.12], abs=0.021)


def test_the_types_of_pictures_outweigh_guessed_times() -> None:
    guessed = [40, 80, 120, 160, 200, 240]
    found = index(guessed, traits=StreamTraits(Fraction(1, 1000), "mpeg4", reorders=True), anchors=[1, 1, 0, 0, 1, 0])
    assert found.ordered
    assert found.order.tolist() == [0, 2, 3, 1, 5, 4]
    assert found.times_s is not None
    assert found.times_s.tolist() == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.2])


def test_without_any_time_nothing_is_told() -> None:
    found = index([NONE] * 3, [NONE] * 3)
    assert (found.ordered, found.times_s, found.seconds) == (False, None, None)


def test_a_broken_clock_is_no_place_to_seek_unless_the_container_expects_it() -> None:
    times = [1000, 1040, 0, 40]
    assert not index(times, times, keys=(0, 2)).seekable
    assert index(times, times, StreamTraits(Fraction(1, 1000), "h264", clock_may_leap=True), keys=(0, 2)).seekable


@given(
    st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1), st.sampled_from([-1, 0, 1])),
        min_size=1,
    ),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_any_packets_give_an_index(
    rows: list[tuple[int, int, int]], reorders: bool, leap: bool, with_anchors: bool
) -> None:
    pictures, count = [], 0
    for number, (_, _, kind) in enumerate(rows):
        new = kind == 1 or not number or not count
        count += new
        pictures.append(count - 1 if new or kind == 0 else -1)
    traits = StreamTraits(Fraction(1, 90_000), codec="mpeg4", reorders=reorders, clock_may_leap=leap)
    anchors = [number % 3 != 1 for number in range(count)] if with_anchors else None
    found = index([row[0] for row in rows], [row[1] for row in rows], traits, pictures=pictures, anchors=anchors)
    assert found.frames == count
    assert sorted(found.order.tolist()) == found.order[np.argsort(found.order)].tolist()
    assert set(found.frame_of.tolist()) - {-1} == set(range(count))
    assert all(found.frame_of[packet] == frame for frame, packet in enumerate(found.order))
