"""The plan alone, against a decoder that only counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus.video.frame_index import FrameIndex
from adafocus.video.plan import PacketRange, key_frames, plan
from tests.video.clips import order_16


def make_index(groups: Sequence[tuple[int, int]], *, ordered: bool = True) -> FrameIndex:
    """A file of groups of pictures, each given as (frames, how many of them are stored after its key frame but shown
    before it)."""
    pts: list[int] = []
    keys: list[int] = []
    start = 0
    for size, leading in groups:
        leading = min(leading, size - 1) if pts else 0
        keys.append(len(pts))
        pts.append(start + leading)
        # Stored with the later one first, as B-pictures are.
        pts += sorted(range(start, start + leading), key=lambda time: time ^ 1)
        pts += sorted(range(start + leading + 1, start + size), key=lambda time: time ^ 1)
        start += size
    times = np.array(pts, dtype=np.int64)
    return FrameIndex(
        ordered=ordered,
        seekable=ordered,
        pts=times,
        dts=np.arange(len(pts), dtype=np.int64),
        sizes=np.ones(len(pts), dtype=np.int64),
        keys=np.array(keys, dtype=np.int64),
        order=np.argsort(times, kind="stable"),
        frame_of=times,
        times_s=times / 25,
        seconds=len(pts) / 25,
    )


@dataclass
class CountingDecoder:
    """What a decoder that follows a plan has in hand, and what it cost."""

    index: FrameIndex
    decoded: int

    def __post_init__(self) -> None:
        self.begun, self.at = 0, self.decoded
        self.has = set(range(self.decoded))
        self.jumps = 0

    def run(self, stretch: PacketRange) -> None:
        if stretch.start != self.at:
            assert stretch.start in self.index.keys, "a jump must end at a key frame"
            self.begun, self.at = stretch.start, stretch.start
            self.jumps += 1
        packets = range(stretch.start, stretch.stop)
        self.has |= {p for p, key in zip(packets, key_frames(self.index, packets), strict=True) if key >= self.begun}
        self.decoded += len(packets)
        self.at = stretch.stop


def follow(index: FrameIndex, wanted: Sequence[int], decoded: int = 0) -> tuple[CountingDecoder, list[int]]:
    """Runs a plan; returns the decoder and what had been decoded when each wanted frame was there."""
    decoder = CountingDecoder(index, decoded)
    stretches = list(plan(index, wanted, decoded))
    spent = []
    for position, frame in enumerate(wanted):
        while stretches and stretches[0].position <= position:
            decoder.run(stretches.pop(0))
        assert index.order[frame] in decoder.has, (position, frame)
        spent.append(decoder.decoded)
    assert not stretches
    return decoder, spent


groups_of_pictures = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 4)), min_size=1, max_size=7)


@settings(max_examples=400)
@given(groups_of_pictures, st.data())
def test_every_wanted_frame_comes_within_one_scan(groups: list[tuple[int, int]], data: st.DataObject) -> None:
    index = make_index(groups)
    wanted = data.draw(st.lists(st.integers(0, index.frames - 1), min_size=1, max_size=40))
    decoded = data.draw(st.integers(0, min(4, index.packets)))
    decoder, _ = follow(index, wanted, decoded)
    assert decoder.decoded <= index.packets


@given(groups_of_pictures)
def test_wanting_everything_backwards_costs_one_scan(groups: list[tuple[int, int]]) -> None:
    index = make_index(groups)
    decoder, _ = follow(index, range(index.frames - 1, -1, -1))
    assert decoder.decoded == index.packets


def test_one_key_frame_means_one_scan_that_stops_at_the_last_wanted() -> None:
    index = make_index([(100, 0)])
    decoder, spent = follow(index, (50, 10, 90, 30, 70))
    assert spent == [52, 52, 92, 92, 92]
    assert decoder.jumps == 0


def test_the_first_wanted_frame_is_reached_by_seeking() -> None:
    index = make_index([(250, 0)] * 20)
    wanted = order_16(index.frames)
    decoder, spent = follow(index, wanted, decoded=1)
    assert spent[0] <= 1 + 250
    assert decoder.decoded < index.packets / 2


def test_a_group_is_left_unfinished_only_while_that_is_affordable() -> None:
    index = make_index([(10, 0), (10, 0)])
    # Frame 15 first: going there directly and back to 5 is cheap, because some frames are not wanted.
    _, spent = follow(index, (15, 5))
    assert spent[0] == 5
    # With every frame wanted there is no slack: the head of a group decoded twice would be one too many.
    decoder, _ = follow(index, (15, 5, *range(20)))
    assert decoder.decoded == 20


def test_pictures_shown_before_their_key_frame_need_the_group_before() -> None:
    index = make_index([(6, 0), (6, 2)])
    assert list(index.pts) == [0, 1, 3, 2, 5, 4, 8, 7, 6, 9, 11, 10]
    assert key_frames(index, [6, 7, 8, 9]) == [6, 0, 0, 6]


def test_without_believable_times_there_is_one_scan() -> None:
    index = make_index([(5, 0), (5, 0)], ordered=False)
    assert plan(index, (7, 2), decoded=1) == (PacketRange(1, 10, 0),)


def test_nothing_is_planned_for_what_was_decoded_already() -> None:
    assert plan(make_index([(5, 0)]), (0, 1), decoded=3) == ()
