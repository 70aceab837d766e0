"""Fetches the frames of a batch into a device's memory from where their decoders wrote them, one copy a frame.

The copies run beside the processor: it only says what is to be copied.
"""

from __future__ import annotations

from typing import Protocol

from adafocus.service.engine.runners.base import FramePlaces, RunnerError
from adafocus.service.frame_memory import FrameSegment


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
        self._addresses: dict[int, int] = {}  # by segment number

    def attach(self, segment: FrameSegment) -> None:
        """Let the device read a segment.

        Raises:
            RunnerError: it cannot.
        """
        address, size = segment.pixels.ctypes.data, segment.pixels.nbytes
        self._engine.register(address, size)
        self._addresses[segment.number] = address

    def detach(self, segment: FrameSegment) -> None:
        """Forget a segment."""
        address = self._addresses.pop(segment.number, None)
        if address is not None:
            self._engine.unregister(address)

    def fetch(self, where: FramePlaces, destination: int) -> None:
        """Begin to copy frames side by side to an address of the device.

        Raises:
            RunnerError: a segment is unknown, or a copy could not be begun.
        """
        known, copy, size, failed = self._addresses, self._engine.copy, self._frame_bytes, 0
        try:
            for segment, place in zip(where.segments.tolist(), where.places.tolist(), strict=True):
                failed |= copy(destination, known[segment] + place * size, size)
                destination += size
        except KeyError:
            raise RunnerError("a frame lies in memory that the device cannot read") from None
        if failed:
            raise RunnerError(f"the device could not copy frames: error {failed}")
