"""A file object over a sparse spool for the decoder: what it reads is fetched."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Protocol

from adafocus.service.decode.intervals import Intervals

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

    def check(self) -> None:
        """Check, without waiting, whether the request was closed.

        Raises:
            ClosedError: the request was closed.
        """


class RangeReader:
    """Reads a descriptor at its own position, and waits for what is missing there. It has no name.

    Args:
        fd: of the sparse spool.
        ranges: which of its bytes are there; ``expected`` is the size of the file.
    """

    def __init__(self, fd: int, ranges: Ranges) -> None:
        self._fd = fd
        self._ranges = ranges
        self._position = 0
        self.waited_seconds = 0.0
        """Time spent waiting for bytes, in seconds. It does not count as decoding."""
        self.interrupted = False
        """Whether a read was interrupted, after which a demuxer cannot go on."""

    def read(self, size: int = -1, /) -> bytes:
        """Read up to ``size`` bytes: fewer where no more have arrived, and none only at the end of the file."""
        stop = self._size if size < 0 else min(self._position + size, self._size)
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

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position. Nothing is fetched for it.

        Raises:
            ValueError: the position is before the start, or ``whence`` is unknown.
        """
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self._size
        elif whence != os.SEEK_SET:
            raise ValueError(f"whence must be 0, 1 or 2, got {whence}")
        if offset < 0:
            raise ValueError(f"a position must be at least 0, got {offset}")
        self._position = offset
        return offset

    def tell(self) -> int:
        """The position at which the next read starts."""
        return self._position

    def seekable(self) -> bool:
        """Return True."""
        return True

    @property
    def _size(self) -> int:
        return self._ranges.expected or 0

    def _wait(self, start: int, stop: int) -> None:
        began = time.perf_counter()
        try:
            self._guarded(lambda: self._ranges.wait_for_range(start, stop))
        finally:
            self.waited_seconds += time.perf_counter() - began

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException:
            self.interrupted = True
            raise
