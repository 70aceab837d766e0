"""The shared memory of jobs as their worker writes it; `service.decode.shared_frames` is the other side."""

from __future__ import annotations

import ctypes
import mmap
import os

import numpy as np
from numpy.typing import NDArray

CHANNELS = 3
KEPT_MEMORIES = 4
"""Memories of earlier jobs that a worker keeps mapped at most."""

# Python's mmap duplicates the descriptor, which the sandbox forbids. None: every symbol that this process has loaded.
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_LIBC.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_FAILED = ctypes.c_void_p(-1).value
_POPULATE_WRITE = 23  # Linux 5.14; an older kernel maps each page when it is first written, which takes longer


def segment_bytes(slots: int, crop: int) -> int:
    """Size of the memory for so many squares of ``crop`` pixels per side."""
    return slots * crop * crop * CHANNELS


class FrameWriter:
    """Maps the memory of a job and writes frames into its slots.

    Args:
        fd: of the memory; closed here.
        slots: number of slots.
        crop: side of the largest square, pixels.

    Raises:
        OSError: it cannot be mapped.
    """

    def __init__(self, fd: int, slots: int, crop: int) -> None:
        self._slots = slots
        self._crop = crop
        self._size = segment_bytes(slots, crop)
        try:
            address = _LIBC.mmap(None, self._size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
            if address == _FAILED:
                raise OSError(ctypes.get_errno(), "the frame memory cannot be mapped")
        finally:
            os.close(fd)
        self._address: int | None = address
        self._prepared: set[int] = set()  # slots whose pages are mapped

    @property
    def is_open(self) -> bool:
        """Whether the memory is mapped."""
        return self._address is not None

    def put(self, slot: int, pixels: NDArray[np.uint8]) -> None:
        """Write a square ``uint8 [side, side, 3]`` into a slot.

        Raises:
            ValueError: there is no such slot, the square does not fit, or the memory was closed.
        """
        side = pixels.shape[0]
        if not 0 <= slot < self._slots or not 1 <= side <= self._crop or self._address is None:
            raise ValueError(f"slot must be 0..{self._slots - 1} and side 1..{self._crop} pixels, got {slot}, {side}")
        count = side * side * CHANNELS
        start = slot * segment_bytes(1, self._crop)
        if slot not in self._prepared:
            first = start - start % mmap.PAGESIZE
            _LIBC.madvise(self._address + first, start + count - first, _POPULATE_WRITE)
            if side == self._crop:
                self._prepared.add(slot)
        place = (ctypes.c_uint8 * count).from_address(self._address + start)
        np.frombuffer(place, dtype=np.uint8).reshape(side, side, CHANNELS)[:] = pixels

    def close(self) -> None:
        """Give the memory back. May be called again."""
        address, self._address = self._address, None
        if address is not None:
            _LIBC.munmap(address, self._size)


class FrameWriters:
    """The memory of the last few jobs, which stays mapped: mapping it again page by page takes longer than writing.

    A worker serves one caller, and so does the memory. What it keeps of an earlier video is that caller's own.

    Args:
        slots: number of slots in each memory.
        crop: side of the largest square, pixels.
    """

    def __init__(self, slots: int, crop: int) -> None:
        self._slots = slots
        self._crop = crop
        self._kept: dict[int, FrameWriter] = {}  # by number; the one used last is the last

    def take(self, number: int, fd: int) -> FrameWriter:
        """Return the writer for a job's memory.

        Args:
            number: of the memory; 0: it is not kept.
            fd: of the memory; closed here.

        Raises:
            OSError: it cannot be mapped.
        """
        writer = self._kept.pop(number, None)
        if writer is None:
            writer = FrameWriter(fd, self._slots, self._crop)
        else:
            os.close(fd)
        if number:
            self._kept[number] = writer
        return writer

    def rest(self, writer: FrameWriter) -> None:
        """Record that the job of a writer has ended; gives back what is not kept."""
        if writer not in self._kept.values():
            writer.close()
        while len(self._kept) > KEPT_MEMORIES:
            self._kept.pop(next(iter(self._kept))).close()
