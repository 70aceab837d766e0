"""Shorthands to read any clip, and those of `tests.media` that make clips for it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from adafocus.video.decoder import Frame, FrameStream
from adafocus.video.errors import VideoError
from adafocus.video.limits import MediaLimits
from adafocus.video.probe import OpenVideo, VideoInfo, open_video
from adafocus.video.sampler import visiting_order, wanted_frames
from adafocus.video.transform import Geometry, Resizer
from tests.media.clips import make_clip
from tests.media.damage import claim_key_frames, moov_first
from tests.media.named import named
from tests.media.pictures import numbered_picture, read_number

__all__ = [
    "FIXTURES",
    "GEOMETRY",
    "claim_key_frames",
    "info_of",
    "make_clip",
    "moov_first",
    "named",
    "number_of",
    "numbered_picture",
    "order_16",
    "outcome",
    "read_frames",
    "reader",
]

FIXTURES = Path(__file__).parent.parent / "fixtures" / "video"
GEOMETRY = Geometry(resize=64, crop=56)


def number_of(pixels: NDArray[np.uint8], geometry: Geometry = GEOMETRY) -> int | None:
    """The number that a frame shows after resizing and cropping; None if it cannot be read."""
    return read_number(pixels, zoom=geometry.resize / geometry.crop)


def order_16(frames: int) -> tuple[int, ...]:
    """Sixteen frames of a video, coarse to fine."""
    return wanted_frames(frames, frames=16, order=visiting_order(16, "coarse_to_fine"))


def read_frames(
    data: bytes | Path, wanted: Sequence[int] | None = None, geometry: Geometry | Resizer = GEOMETRY
) -> tuple[list[Frame], FrameStream, OpenVideo]:
    """All wanted frames of a video; all of its frames, in order of time, if ``wanted`` is omitted."""
    with reader(data) as opened, open_video(opened) as video:
        stream = FrameStream(video, range(video.index.frames) if wanted is None else wanted, geometry)
        frames = []
        while (frame := stream.next()) is not None:
            frames.append(frame)
        return frames, stream, video


def reader(data: bytes | Path) -> BinaryIO:
    """The bytes as a file."""
    return data.open("rb") if isinstance(data, Path) else io.BytesIO(data)


def info_of(data: bytes | Path, limits: MediaLimits | None = None) -> VideoInfo:
    """What a video is."""
    with reader(data) as opened, open_video(opened, limits) as video:
        return video.info


def outcome(data: bytes | Path, limits: MediaLimits | None = None) -> str:
    """``"ok"`` if sixteen frames can be read, ``"partial"`` if fewer, else the error's code."""
    try:
        with reader(data) as opened, open_video(opened, limits) as video:
            wanted = order_16(video.index.frames)
            stream = FrameStream(video, wanted, GEOMETRY)
            given = 0
            while stream.next() is not None:
                given += 1
            return "ok" if given == len(wanted) else "partial"
    except VideoError as error:
        return error.code
