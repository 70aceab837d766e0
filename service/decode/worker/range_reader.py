"""A file object over a sparse spool for the decoder: what it reads is fetched."""

from __future__ import annotations

import os
from typing import Protocol

from adafocus.service.decode.intervals import Intervals
from adafocus.service.decode.worker.file_position import FilePosition

# FFmpeg reads 32 KiB at a time; it gets what is there once there are this many bytes of it.
_ENOUGH_BYTES = 8192


class Ranges(Protocol):
    """The ranges of a file that have arrived, as a worker sees them."""

    present: Intervals
    expected: int | None

    def wait_for_range(self, start: int, stop: int) -> None:
        """Wait until these bytes have arrived.

        Raises:
            ClosedError: the request was closed.
        """

    def check(self) -> object:
        """Check, without waiting, whether the request was closed.

        Raises:
            ClosedError: the request was closed.
        """


class RangeReader(FilePosition):
    """Reads a descriptor at its own position, and waits for what is missing there.

    Args:
        fd: of the sparse spool.
        ranges: which of its bytes are there; ``expected`` is the size of the file.
    """

    def __init__(self, fd: int, ranges: Ranges) -> None:
        super().__init__()
        self._fd = fd
        self._ranges = ranges

    def read(self, size: int = -1, /) -> bytes:
        """Read up to ``size`` bytes: fewer where no more have arrived, and none only at the end of the file."""
        stop = self._end() if size < 0 else min(self._position + size, self._end())
        if stop <= self._position:
            return b""
        if size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        if self._ranges.present.end_of(self._position) == self._position:
            self._wait(self._position, min(stop, self._position + _ENOUGH_BYTES))
        else:
            self._guarded(self._ranges.check)
        stop = min(stop, self._ranges.present.end_of(self._position))
        data = os.pread(self._fd, stop - self._position, self._position)
        self._position += len(data)
        return data

    def _end(self) -> int:
        return self._ranges.expected or 0

    def _wait(self, start: int, stop: int) -> None:
        self._waiting(lambda: self._ranges.wait_for_range(start, stop))
