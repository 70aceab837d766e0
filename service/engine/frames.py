"""Frames in memory that decoders write and the engine reads: where they lie, how they are handed over and gathered.

A decoder writes a frame into a place of a segment and hands over a `SharedFrame`. The engine reads it once, when it
gathers a batch, and calls ``release``; the place may then be written again. Nothing is copied in between.
"""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from service.engine.runners.base import Int64, UInt8
from video.decoder import Frame

_NUMBERS = itertools.count(1)
_CHANNELS = 3


class FrameSegment:
    """Memory for a fixed number of frames of one size, which another process can map.

    Args:
        fd: of the memory; the segment does not own it. None: the memory is this process's own.
        pixels: ``uint8 [places, side, side, 3]``, a view of the memory.
        number: distinguishes the segments of one process; None: the next one.
    """

    def __init__(self, fd: int | None, pixels: UInt8, number: int | None = None) -> None:
        self.fd = fd
        self.pixels = pixels
        self.number = next(_NUMBERS) if number is None else number

    @classmethod
    def create(cls, places: int, side: int) -> FrameSegment:
        """New memory, of which only what is written is taken from the system. The caller closes its ``fd``.

        Raises:
            OSError: there is none.
        """
        fd = os.memfd_create("adafocus-engine-frames", os.MFD_CLOEXEC)
        os.ftruncate(fd, places * side * side * _CHANNELS)
        return cls(fd, _frames_in(mmap.mmap(fd, 0), places, side))

    @classmethod
    def attach(cls, fd: int, places: int, side: int, number: int) -> FrameSegment:
        """Memory that another process has created.

        Raises:
            OSError: it cannot be mapped.
        """
        return cls(None, _frames_in(mmap.mmap(fd, 0), places, side), number)


class SharedFrame(NamedTuple):
    """A frame that lies in memory shared with its decoder; otherwise as `video.decoder.Frame`.

    Attributes:
        position: place in the visiting order, from 0.
        index: place in the video, from 0.
        time_s: seconds after the video's first frame; None if that is not known.
        segment: where it lies.
        place: which place of the segment.
        release: called once, when the engine has read the frame or will not; the place may then be written again.
    """

    position: int
    index: int
    time_s: float | None
    segment: FrameSegment
    place: int
    release: Callable[[], object]

    @property
    def pixels(self) -> UInt8:
        """``uint8 [side, side, 3]``, a view of the shared memory until ``release`` is called."""
        pixels: UInt8 = self.segment.pixels[self.place]
        return pixels


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


def gather(out: UInt8, segments: Mapping[int, FrameSegment], numbers: Int64, places: Int64) -> None:
    """Copy frames side by side into a batch.

    Args:
        out: ``uint8 [B, side, side, 3]``, contiguous.
        segments: by number.
        numbers: ``[B]``, the segment of each frame.
        places: ``[B]``, its place there.
    """
    if len(numbers) and (numbers == numbers[0]).all():
        # One call copies them all. "clip" skips a check that would buffer the copy: the places are valid.
        np.take(segments[int(numbers[0])].pixels, places, axis=0, out=out, mode="clip")
        return
    for row, (number, place) in enumerate(zip(numbers.tolist(), places.tolist(), strict=True)):
        np.copyto(out[row], segments[number].pixels[place])


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


def _frames_in(memory: mmap.mmap, places: int, side: int) -> UInt8:
    count = places * side * side * _CHANNELS
    return np.frombuffer(memory, dtype=np.uint8, count=count).reshape(places, side, side, _CHANNELS)
