"""Windows of a video: which frames they hold, and reading one after the other from one open file."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adafocus.video.cursor import Cursor
from adafocus.video.decoder import Frame, FrameStream
from adafocus.video.probe import open_video
from adafocus.video.windows import Windows, count_windows
from tests.video.clips import GEOMETRY, make_clip, named, number_of, order_16, read_frames
from tests.video.test_decoder import FILES, GOP_CLIPS

LENGTHS = st.floats(0.05, 40.0, allow_nan=False)


def windows_of(frames: int, window_s: float, stride_s: float, fps: float = 25.0) -> Windows:
    return Windows(np.arange(frames) / fps, frames / fps, window_s, stride_s)


@settings(max_examples=300)
@given(st.integers(1, 400), LENGTHS, LENGTHS)
@example(270, 0.075, 0.075)  # the sum of 0.075, 144 times, is a little less than 10.8
def test_windows_reach_from_the_start_to_the_end(frames: int, window_s: float, stride_s: float) -> None:
    windows = windows_of(frames, window_s, stride_s)
    found = [windows.window(number) for number in range(windows.count)]
    assert found[0].start_s == 0
    assert [window.start_s for window in found] == [number * stride_s for number in range(len(found))]
    for window in found:
        assert window.frames >= 1
        assert 0 <= window.first <= window.first + window.frames <= frames
        assert window.start_s <= window.end_s <= windows.seconds
        assert window.end_s == pytest.approx(min(window.start_s + window_s, windows.seconds), abs=2e-6)
    if stride_s <= window_s:
        assert found[-1].end_s == windows.seconds
        held = {index for it in found for index in range(it.first, it.first + it.frames)}
        assert held == set(range(frames))
    for window in found[:-1]:
        assert window.end_s < windows.seconds, "a window that ends with the video is the last one"


@settings(max_examples=200)
@given(st.integers(1, 400), LENGTHS)
def test_without_overlap_each_frame_is_in_one_window(frames: int, window_s: float) -> None:
    windows = windows_of(frames, window_s, window_s)
    found = [windows.window(number) for number in range(windows.count)]
    for one, two in itertools.pairwise(found):
        # Where no picture begins in a window, it holds the one on display.
        on_display = windows.times_s[two.first] < two.start_s - 1e-6
        assert one.first + one.frames == two.first + on_display


@given(st.integers(1, 400), st.floats(0, 10))
def test_a_window_as_long_as_the_video_holds_all_of_it(frames: int, more: float) -> None:
    windows = windows_of(frames, frames / 25 + more, frames / 25 + more)
    assert windows.count == 1
    only = windows.window(0)
    assert (only.start_s, only.end_s, only.first, only.frames) == (0, frames / 25, 0, frames)


def test_a_window_in_a_pause_holds_the_picture_on_display() -> None:
    windows = Windows(np.array([0.0, 0.5, 9.0]), 10.0, 2.0, 2.0)
    assert [(windows.window(n).first, windows.window(n).frames) for n in range(5)] == [
        (0, 2),
        (1, 1),
        (1, 1),
        (1, 1),
        (2, 1),
    ]


@pytest.mark.parametrize(("window_s", "stride_s"), [(0, 1), (1, 0), (-1, 1), (float("nan"), 1), (1, float("inf"))])
def test_lengths_must_be_positive(window_s: float, stride_s: float) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        count_windows(10, window_s, stride_s)
    with pytest.raises(ValueError, match=r"0\.\.0"):
        windows_of(10, 1, 1).window(1)


def read_windows(data: bytes, wanted: Sequence[Sequence[int]], taken: Sequence[int]) -> tuple[list[list[Frame]], int]:
    """The first ``taken[i]`` frames of each list, from one open file; and how many packets were decoded."""
    with open_video(io.BytesIO(data)) as video:
        stream: FrameStream | None = None
        found, decoded = [], 0
        for number, indices in enumerate(wanted):
            later = wanted[number + 1] if number + 1 < len(wanted) else ()
            if stream is None:
                stream = FrameStream(video, indices, GEOMETRY, later=later)
            else:
                stream.go_on(indices, later)
            frames = []
            while len(frames) < taken[number] and (frame := stream.next()) is not None:
                frames.append(frame)
            found.append(frames)
            decoded += stream.frames_decoded
        assert decoded == video.cursor.decoded
        return found, decoded


@pytest.mark.parametrize("options", GOP_CLIPS.values(), ids=GOP_CLIPS)
@pytest.mark.parametrize("taken", [1, 16])
def test_windows_in_turn_hold_the_frames_asked_for(options: dict[str, str], taken: int) -> None:
    wanted = [[20 * n + index for index in order_16(20)] for n in range(3)]
    found, _ = read_windows(make_clip(60, **options), wanted, [taken] * 3)
    for frames, indices in zip(found, wanted, strict=True):
        assert [number_of(frame.pixels) for frame in frames] == indices[:taken]
        assert [frame.index for frame in frames] == indices[:taken]
        assert [frame.position for frame in frames] == list(range(taken))


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_frames_in_turn_are_those_of_a_scan_bit_for_bit(name: str, data: st.DataObject) -> None:
    clip = named(name)
    scan = {frame.index: frame.pixels for frame in read_frames(clip)[0]}
    there = sorted(scan)
    lists = st.lists(st.sampled_from(there), min_size=1, max_size=8)
    wanted = data.draw(st.lists(lists, min_size=2, max_size=4))
    taken = [data.draw(st.integers(0, len(indices))) for indices in wanted]
    found, _ = read_windows(clip, wanted, taken)
    for frames, indices, count in zip(found, wanted, taken, strict=True):
        assert [frame.index for frame in frames] == indices[:count]
        assert all(np.array_equal(frame.pixels, scan[frame.index]) for frame in frames)


@pytest.mark.parametrize("gop", ["600", "25", "7"])
@pytest.mark.parametrize("b_frames", ["0", "3"])
def test_reading_all_windows_costs_about_one_scan(gop: str, b_frames: str) -> None:
    clip = make_clip(300, g=gop, bf=b_frames, preset="ultrafast", sc_threshold="0")
    wanted = [[30 * n + index for index in order_16(30)] for n in range(10)]
    found, decoded = read_windows(clip, wanted, [16] * 10)
    assert [[number_of(frame.pixels) for frame in frames] for frames in found] == wanted
    # A window may begin within a group of pictures: then the head of that group is decoded for both windows.
    assert decoded <= 300 + 10 * (min(int(gop), 30) + int(b_frames))


def test_windows_that_exit_early_decode_little() -> None:
    clip = make_clip(300, g="10", bf="0", preset="ultrafast")
    wanted = [[30 * n + index for index in order_16(30)] for n in range(10)]
    _, decoded = read_windows(clip, wanted, [1] * 10)
    assert decoded <= 10 * 11


def test_windows_that_overlap_share_the_frames_that_both_want() -> None:
    clip = make_clip(100, g="600", bf="0", preset="ultrafast")
    wanted = [list(range(n, n + 20, 2)) for n in range(0, 80, 10)]
    found, decoded = read_windows(clip, wanted, [10] * 8)
    assert [[number_of(frame.pixels) for frame in frames] for frames in found] == wanted
    assert decoded <= 100


def test_a_container_that_cannot_seek_gives_the_same_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = named("open_gop_bpyramid.mp4")
    wanted = [[20 * n + index for index in order_16(20)] for n in range(3)]
    expected, _ = read_windows(clip, wanted, [3, 16, 16])
    monkeypatch.setattr(Cursor, "_seek", lambda *_: False)
    found, _ = read_windows(clip, wanted, [3, 16, 16])
    for one, two in zip(expected, found, strict=True):
        assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(one, two, strict=True))
