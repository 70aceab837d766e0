"""Videos of which as little as possible is read: the same frames, from few bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest

from adafocus.video.decoder import Frame, FrameStream
from adafocus.video.probe import open_video
from tests.video.clips import GEOMETRY, claim_key_frames, make_clip, moov_first, named, order_16, read_frames

NOISY = {"g": "10", "bf": "2", "preset": "ultrafast", "qp": "8"}


class CountingReader(io.BytesIO):
    """Counts the bytes that are read; reading one twice counts twice."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def read_ranged(data: bytes, wanted: tuple[int, ...], most: int = 16) -> tuple[list[Frame], int, int]:
    """The first frames of those wanted, how many bytes were read for them, and how many packets were decoded."""
    reader = CountingReader(data)
    with open_video(reader, ranged=True) as video:
        stream = FrameStream(video, wanted, GEOMETRY)
        frames: list[Frame] = []
        while len(frames) < most and (frame := stream.next()) is not None:
            frames.append(frame)
        return frames, reader.count, stream.frames_decoded


def same(one: list[Frame], other: list[Frame]) -> bool:
    return [frame.index for frame in one] == [frame.index for frame in other] and all(
        np.array_equal(a.pixels, b.pixels) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("place", ["header first", "header last"])
@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_the_first_frame_takes_few_bytes_wherever_the_header_is(place: str, container: str) -> None:
    data = make_clip(300, size=(320, 240), container=container, **NOISY)
    data = moov_first(data) if place == "header first" else data
    wanted = order_16(300)
    frames, count, _ = read_ranged(data, wanted, most=1)
    assert same(frames, read_frames(data, wanted)[0][:1])
    assert count < len(data) / 4
    assert same(read_ranged(data, wanted)[0], read_frames(data, wanted)[0])


@pytest.mark.parametrize("name", ["open_gop_bpyramid.mp4", "mp4_faststart.mp4", "zeroed_middle.mp4", "rotate_90.mp4"])
def test_the_frames_are_those_that_are_read_anyway(name: str) -> None:
    data = named(name)
    wanted = order_16(len(read_frames(data)[0]))
    assert same(read_ranged(data, wanted)[0], read_frames(data, wanted)[0])


@pytest.mark.parametrize("codec", [{"codec": "libx264", "g": "600", "bf": "2", "sc_threshold": "0"}])
def test_a_header_that_lies_about_key_frames_costs_a_scan_and_no_frame(codec: dict[str, str]) -> None:
    honest = make_clip(120, **codec)
    lying = moov_first(claim_key_frames(honest, "mp4", every=10))
    wanted = order_16(120)
    frames, _, decoded = read_ranged(lying, wanted)
    assert same(frames, read_frames(honest, wanted)[0])
    assert decoded <= 2 * 120
