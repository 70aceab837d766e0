"""Fetches the frames of a batch into a device's memory from where their decoders wrote them, one copy a frame.

The copies run beside the processor: it only says what is to be copied.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from service.engine.runners.base import FramePlaces, Int64, RunnerError
from service.frame_memory import FrameSegment


class CopyEngine(Protocol):
    """The part of a device's driver that copies."""

    def register(self, address: int, size: int) -> None:
        """Let the device read memory of the host; raises `RunnerError`."""

    def unregister(self, address: int) -> None:
        """Let go of memory, once no copy reads it any more."""

    def copy(self, destination: int, source: int, size: int) -> int:
        """Begin to copy bytes to the device; returns an error's number, or 0. Does not wait."""


class FrameFetch:
    """The frame segments that a device can read, and copies out of them.

    Args:
        engine: of the device.
        frame_bytes: of one frame.
    """

    def __init__(self, engine: CopyEngine, frame_bytes: int) -> None:
        self._engine = engine
        self._frame_bytes = frame_bytes
        self._addresses: Int64 = np.zeros(64, dtype=np.int64)  # by segment number; 0: unknown

    def attach(self, segment: FrameSegment) -> None:
        """Let the device read a segment.

        Raises:
            RunnerError: it cannot.
        """
        while segment.number >= len(self._addresses):
            self._addresses = np.concatenate([self._addresses, np.zeros_like(self._addresses)])
        address, size = segment.pixels.ctypes.data, segment.pixels.nbytes
        self._engine.register(address, size)
        self._addresses[segment.number] = address

    def detach(self, segment: FrameSegment) -> None:
        """Forget a segment."""
        address = int(self._addresses[segment.number]) if segment.number < len(self._addresses) else 0
        if address:
            self._addresses[segment.number] = 0
            self._engine.unregister(address)

    def fetch(self, where: FramePlaces, destination: int) -> None:
        """Begin to copy frames side by side to an address of the device.

        Raises:
            RunnerError: a segment is unknown, or a copy could not be begun.
        """
        bases = self._addresses[where.segments]
        if not bases.all():
            raise RunnerError("a frame lies in memory that the device cannot read")
        copy, size, failed = self._engine.copy, self._frame_bytes, 0
        for source in (bases + where.places * size).tolist():
            failed |= copy(destination, source, size)
            destination += size
        if failed:
            raise RunnerError(f"the device could not copy frames: error {failed}")
