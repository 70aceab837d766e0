"""Frames in memory that decoders write and the engine reads: where they lie, and how they are handed over.

A decoder writes a frame into a place of a segment and hands over a `SharedFrame`. The engine reads it, when it puts a
batch together or while the batch runs, and calls ``release``; the place may then be written again. Nothing is copied in
between.
"""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]

_NUMBERS = itertools.count(1)
_CHANNELS = 3


def number_segments_from(first: int) -> None:
    """Begin with this number: the segments of several processes that share a core must differ."""
    global _NUMBERS
    _NUMBERS = itertools.count(first)


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
        self.retired = False
        """Its decoder has ended: no further frame will come."""
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


@dataclass(slots=True, eq=False)
class SharedFrame:
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


def _frames_in(memory: mmap.mmap, places: int, side: int) -> UInt8:
    count = places * side * side * _CHANNELS
    return np.frombuffer(memory, dtype=np.uint8, count=count).reshape(places, side, side, _CHANNELS)
