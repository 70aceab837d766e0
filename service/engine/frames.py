"""Frames on their way into a batch: stored where the core can read them, and gathered side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

import numpy as np

from adafocus.service.engine.runners.base import FramePlaces, Int64, UInt8
from adafocus.service.frame_memory import FrameSegment, SharedFrame
from adafocus.video.decoder import Frame


class FrameStore:
    """Places for frames that came in memory of their own, which the engine's process may not see.

    Grows by a segment when it is full; the number of videos in flight and of frames prefetched for each bounds it.

    Args:
        side: of a frame, pixels.
        places: of each segment.
    """

    def __init__(self, side: int, places: int = 64) -> None:
        self._side = side
        self._places = places
        self._segments: list[FrameSegment] = []
        self._free: list[tuple[FrameSegment, int]] = []

    def put(self, frame: Frame) -> SharedFrame:
        """Copy a frame into a free place.

        Raises:
            OSError: there is no memory left.
            ValueError: the frame is of another size.
        """
        if not self._free:
            segment = FrameSegment.create(self._places, self._side)
            self._segments.append(segment)
            self._free += [(segment, place) for place in reversed(range(self._places))]
        segment, place = self._free.pop()
        segment.pixels[place] = frame.pixels
        give_back = partial(self._free.append, (segment, place))
        return SharedFrame(frame.position, frame.index, frame.time_s, segment, place, give_back)

    def close(self) -> None:
        """Give the memory back once nothing refers to it."""
        for segment in self._segments:
            if segment.fd is not None:
                os.close(segment.fd)
                segment.fd = None
        self._segments.clear()
        self._free.clear()


def gather(out: UInt8, segments: Mapping[int, FrameSegment], where: FramePlaces) -> None:
    """Copy frames side by side into a batch.

    Args:
        out: ``uint8 [B, side, side, 3]``, contiguous.
        segments: by number.
        where: B frames.
    """
    numbers, places = where.segments, where.places
    if len(numbers) and (numbers == numbers[0]).all():
        # One call copies them all. "clip" skips a check that would buffer the copy: the places are valid.
        np.take(segments[int(numbers[0])].pixels, places, axis=0, out=out, mode="clip")
        return
    for row, (number, place) in enumerate(zip(numbers.tolist(), places.tolist(), strict=True)):
        np.copyto(out[row], segments[number].pixels[place])


def side_by_side(segments: Mapping[int, FrameSegment], where: FramePlaces) -> UInt8 | None:
    """The frames as they lie, ``uint8 [B, side, side, 3]``, if each lies behind the one before it; None if not."""
    number, first, count = where.segments[0], int(where.places[0]), len(where.places)
    if count > 1 and not ((where.segments == number).all() and (np.diff(where.places) == 1).all()):
        return None
    return segments[int(number)].pixels[first : first + count]


def nearest_positions(have: Int64, glance_frames: int, total: int) -> Int64:
    """For every frame that a clip model wants, the index in ``have`` of the frame that stands for it.

    The frame itself if it could be decoded; else the nearest in position of the same network if it has any, else of
    the other.

    Args:
        have: ``[F]`` positions that are there, at least one.
        glance_frames: positions below are the glance's, the others the focus's.
        total: frames wanted, of both.

    Returns:
        ``[total]`` indices into ``have``.
    """
    wanted = np.arange(total)[:, None]
    other_network = (have[None] < glance_frames) != (wanted < glance_frames)
    distance = np.abs(have[None] - wanted) + np.where(other_network, 2 * total, 0)
    return np.asarray(distance.argmin(axis=1), dtype=np.int64)
