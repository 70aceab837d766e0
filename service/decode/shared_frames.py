"""Shared memory that passes frames from a worker to the service without copying them through a socket."""

from __future__ import annotations

import fcntl
import itertools
import mmap
import os

import numpy as np
from numpy.typing import NDArray

from adafocus.service.decode.worker.frame_writer import CHANNELS, segment_bytes
from adafocus.service.frame_memory import FrameSegment

_numbers = itertools.count(1)


class SharedFrames:
    """Anonymous memory with ``slots`` slots, each for one RGB square of at most ``crop`` pixels per side.

    The service creates it and reads; a worker is given its descriptor with a job and writes (`FrameWriter`). Messages
    on the control socket say which side may use a slot. The size is sealed, so a hostile worker cannot shrink the
    memory and crash the service.
    """

    def __init__(self, fd: int, slots: int, crop: int, memory: mmap.mmap) -> None:
        self.fd = fd
        """The memory's descriptor; -1 once closed."""
        self.number = next(_numbers)
        """Tells it from all others that this process creates; greater than 0."""
        self.slots = slots
        self.crop = crop
        self._memory: mmap.mmap | None = memory
        self._segment: FrameSegment | None = None

    @classmethod
    def create(cls, slots: int, crop: int) -> SharedFrames:
        """Allocate new memory.

        Raises:
            OSError: it cannot be allocated.
        """
        size = segment_bytes(slots, crop)
        fd = os.memfd_create("adafocus-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            return cls(fd, slots, crop, mmap.mmap(fd, size))
        except BaseException:
            os.close(fd)
            raise

    def take(self, slot: int, side: int) -> NDArray[np.uint8]:
        """Copy the square of ``side`` pixels out of a slot. The slot may then be written again.

        Raises:
            ValueError: there is no such slot, ``side`` is larger than the slot, or the memory is closed.
        """
        if not 0 <= slot < self.slots:
            raise ValueError(f"slot must be 0..{self.slots - 1}, got {slot}")
        if not 1 <= side <= self.crop:
            raise ValueError(f"side must be 1..{self.crop} pixels, got {side}")
        if self._memory is None:
            raise ValueError("the memory is closed")
        count, offset = side * side * CHANNELS, slot * segment_bytes(1, self.crop)
        flat = np.frombuffer(self._memory, dtype=np.uint8, count=count, offset=offset)
        return flat.reshape(side, side, CHANNELS).copy()

    @property
    def segment(self) -> FrameSegment:
        """The same memory for readers of whole frames of ``crop`` pixels; the same object every time.

        Raises:
            ValueError: the memory is closed.
        """
        if self._segment is None:
            if self._memory is None:
                raise ValueError("the memory is closed")
            count = segment_bytes(self.slots, self.crop)
            flat = np.frombuffer(self._memory, dtype=np.uint8, count=count)
            pixels = flat.reshape(self.slots, self.crop, self.crop, CHANNELS)
            self._segment = FrameSegment(self.fd, pixels)
        return self._segment

    def close(self) -> None:
        """Release the memory when no worker may be writing to it. May be called again.

        It is unmapped when no reader uses it any more; this object does not count, whoever still refers to it.
        """
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        memory, self._memory = self._memory, None
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.fd = None
            segment.retired = True
        elif memory is not None:
            memory.close()
