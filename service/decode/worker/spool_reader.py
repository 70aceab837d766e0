"""A spool as the decoder's file: seekable bytes without a name, some of which may still be on their way."""

from __future__ import annotations

import os
import time
from typing import Protocol

# FFmpeg asks for 32 KiB at a time, which may be seconds of a small video; less than this is not worth a message.
_ENOUGH_BYTES = 8192


class Arrivals(Protocol):
    """What is known of an upload from inside a worker."""

    size: int
    complete: bool
    expected: int | None

    def wait_for(self, size: int | None) -> None:
        """Return when there are that many bytes, or no more will come; None: only the latter.

        Raises:
            ClosedError: nobody wants the video any more.
        """

    def check(self) -> None:
        """Return at once.

        Raises:
            ClosedError: nobody wants the video any more.
        """


class SpoolReader:
    """Reads a descriptor at a position of its own. It has no name, so no demuxer can guess anything from it.

    A read of bytes that have not arrived waits for some of them, and so does finding the end, by asking or by reading
    there, unless the upload announced its length. Every read notices when the request has been closed: that is how a
    long scan is interrupted.
    """

    def __init__(self, fd: int, arrivals: Arrivals) -> None:
        self._fd = fd
        self._arrivals = arrivals
        self._position = 0
        self.waited_seconds = 0.0
        """Time spent waiting for the upload: not the decoder's."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes; fewer only at the end of the file or of what has arrived; none only at the former."""
        self._arrivals.check()
        if size < 0:
            size = max(0, self._end() - self._position)
        if size and self._position >= self._arrivals.size and not self._at_announced_end():
            self._wait(self._position + min(size, _ENOUGH_BYTES))
        data = os.pread(self._fd, min(size, max(0, self._arrivals.size - self._position)), self._position)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a place, which may lie beyond what has arrived.

        Raises:
            ValueError: before the start, or an unknown ``whence``.
        """
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self._end()
        elif whence != os.SEEK_SET:
            raise ValueError(f"whence must be 0, 1 or 2, got {whence}")
        if offset < 0:
            raise ValueError(f"cannot seek to {offset}")
        self._position = offset
        return offset

    def tell(self) -> int:
        """Where the next read starts."""
        return self._position

    def seekable(self) -> bool:
        """Yes."""
        return True

    def _at_announced_end(self) -> bool:
        arrivals = self._arrivals
        return arrivals.complete or (arrivals.expected is not None and self._position >= arrivals.expected)

    def _end(self) -> int:
        arrivals = self._arrivals
        if not arrivals.complete and arrivals.expected is None:
            self._wait(None)
        return arrivals.size if arrivals.complete or arrivals.expected is None else arrivals.expected

    def _wait(self, size: int | None) -> None:
        began = time.perf_counter()
        try:
            self._arrivals.wait_for(size)
        finally:
            self.waited_seconds += time.perf_counter() - began
