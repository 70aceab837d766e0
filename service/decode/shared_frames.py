"""Frames between two processes without copying them through a socket: slots in memory that both have mapped."""

from __future__ import annotations

import fcntl
import mmap
import os

import numpy as np
from numpy.typing import NDArray

from service.frame_memory import FrameSegment

CHANNELS = 3


class SharedFrames:
    """``slots`` places for one RGB square each, of at most ``crop`` pixels a side, in anonymous memory.

    The service `create`s it and reads, the worker `attach`es and writes; who may use which slot when is told over the
    control socket. The size is sealed: a hostile worker cannot shrink it and so crash its reader.
    """

    def __init__(self, fd: int, slots: int, crop: int, memory: mmap.mmap) -> None:
        self.fd = fd
        """The memory's descriptor, to be inherited by the worker; -1 once closed."""
        self.slots = slots
        self.crop = crop
        self._memory = memory
        self._segment: FrameSegment | None = None

    @classmethod
    def create(cls, slots: int, crop: int) -> SharedFrames:
        """New memory.

        Raises:
            OSError: there is none.
        """
        fd = os.memfd_create("adafocus-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, slots * cls._slot_bytes(crop))
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            return cls.attach(fd, slots, crop)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, fd: int, slots: int, crop: int) -> SharedFrames:
        """Memory that another process has created."""
        return cls(fd, slots, crop, mmap.mmap(fd, slots * cls._slot_bytes(crop)))

    def put(self, slot: int, pixels: NDArray[np.uint8]) -> None:
        """Write a square ``uint8 [crop, crop, 3]`` into a slot.

        Raises:
            ValueError: no such slot, or the square does not fit.
        """
        side = pixels.shape[0]
        self._view(slot, side)[:] = pixels

    def take(self, slot: int, side: int) -> NDArray[np.uint8]:
        """A copy of the square of ``side`` pixels in a slot; the slot may then be written again.

        Raises:
            ValueError: no such slot, or it is smaller than that.
        """
        return self._view(slot, side).copy()

    @property
    def segment(self) -> FrameSegment:
        """The same memory for readers of whole frames of ``crop`` pixels; the same object every time."""
        if self._segment is None:
            count = self.slots * self._slot_bytes(self.crop)
            flat = np.frombuffer(self._memory, dtype=np.uint8, count=count)
            pixels = flat.reshape(self.slots, self.crop, self.crop, CHANNELS)
            self._segment = FrameSegment(self.fd, pixels)
        return self._segment

    def close(self) -> None:
        """Let go of the memory, once the other side is gone or never was. May be called again.

        It is unmapped when nothing reads it any more.
        """
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            if self._segment is None:
                self._memory.close()
            else:
                self._segment.fd = None
                self._segment.retired = True

    def _view(self, slot: int, side: int) -> NDArray[np.uint8]:
        if not 0 <= slot < self.slots:
            raise ValueError(f"slot must be 0..{self.slots - 1}, got {slot}")
        if not 1 <= side <= self.crop:
            raise ValueError(f"side must be 1..{self.crop} pixels, got {side}")
        flat = np.frombuffer(
            self._memory, dtype=np.uint8, count=side * side * CHANNELS, offset=slot * self._slot_bytes(self.crop)
        )
        return flat.reshape(side, side, CHANNELS)

    @staticmethod
    def _slot_bytes(crop: int) -> int:
        return crop * crop * CHANNELS
