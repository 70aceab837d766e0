"""A video whose first frame is not decoded for a look has the same frames, properties and errors as one whose is."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus.video.decoder import FrameStream
from adafocus.video.errors import VideoError
from adafocus.video.limits import MediaLimits
from adafocus.video.probe import VideoInfo, open_video
from adafocus.video.sampler import OrderName, visiting_order, wanted_frames
from tests.media.named import NAMES
from tests.video.clips import GEOMETRY, make_clip, named

ORDERS: tuple[OrderName, ...] = ("coarse_to_fine", "sequential")

Seen = tuple[list[tuple[int, int, float | None, bytes]], VideoInfo | None, str | None, int]
"""Frames, properties, the error's code, and packets decoded."""


def seen(data: bytes, order: OrderName, *, look: bool, most: int = 8) -> Seen:
    """What a decode worker would deliver of a video."""
    frames: list[tuple[int, int, float | None, bytes]] = []
    info, decoded = None, 0
    try:
        with open_video(io.BytesIO(data), MediaLimits(), look=look) as video:
            wanted = wanted_frames(video.index.frames, frames=most, order=visiting_order(most, order))
            stream = FrameStream(video, wanted, GEOMETRY)
            try:
                while (frame := stream.next()) is not None:
                    frames.append((frame.position, frame.index, frame.time_s, frame.pixels.tobytes()))
            finally:
                decoded = stream.frames_decoded
            info = video.info
    except VideoError as error:
        return frames, info, error.code, decoded
    return frames, info, None, decoded


def assert_the_same(data: bytes, what: str) -> None:
    for order in ORDERS:
        with_look, without = seen(data, order, look=True), seen(data, order, look=False)
        assert without[:3] == with_look[:3], f"{what}, {order}"


@pytest.mark.parametrize("name", NAMES)
def test_named_clips_are_the_same(name: str) -> None:
    assert_the_same(named(name), name)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from((("libx264", "0"), ("libx264", "2"), ("mpeg4", "1"))))
def test_damaged_clips_are_the_same(seed: int, encoder: tuple[str, str]) -> None:
    codec, between = encoder
    data = bytearray(make_clip(60, codec=codec, g="12", bf=between))
    chance = random.Random(seed)
    # A damaged picture of MPEG-4 may pass for a header, which a decoder that has seen it keeps for all that follows.
    begin = len(data) // 4 if codec == "mpeg4" else 0
    for _ in range(chance.randint(1, 4)):
        place, length = chance.randrange(begin, len(data)), chance.randint(1, 400)
        data[place : place + length] = chance.randbytes(min(length, len(data) - place))
    assert_the_same(bytes(data[: chance.randint(len(data) // 2, len(data))]), f"{codec}, damaged")


def test_clips_beside_the_project_are_the_same(shared_dir: Path) -> None:
    for folder in ("videos", "faults"):
        for path in sorted((shared_dir / folder).rglob("*.*")):
            if path.is_file() and path.stat().st_size < 4 << 20:
                assert_the_same(path.read_bytes(), path.name)


def test_a_first_frame_that_is_not_on_the_way_is_not_decoded() -> None:
    clip = make_clip(60, g="12", bf="0")
    assert seen(clip, "coarse_to_fine", look=False, most=1)[3] < seen(clip, "coarse_to_fine", look=True, most=1)[3]
