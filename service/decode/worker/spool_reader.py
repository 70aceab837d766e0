"""A file object over a spool for the decoder. Some of its bytes may not have arrived yet."""

from __future__ import annotations

import os
from typing import Protocol

from adafocus.service.decode.worker.file_position import FilePosition

# FFmpeg reads 32 KiB at a time, which may be seconds of a small video. Waiting for fewer bytes than this is not worth a
# message.
_ENOUGH_BYTES = 8192


class Arrivals(Protocol):
    """The progress of an upload as a worker sees it."""

    size: int
    complete: bool
    expected: int | None

    def wait_for(self, size: int | None) -> None:
        """Wait until that many bytes have arrived or the upload is complete. None: until it is complete.

        Raises:
            ClosedError: the request was closed.
        """

    def check(self) -> object:
        """Check, without waiting, whether the request was closed.

        Raises:
            ClosedError: the request was closed.
        """


class SpoolReader(FilePosition):
    """Reads a descriptor at its own position.

    A read of bytes that have not arrived waits for some of them. Seeking to the end and reading there wait too, unless
    the upload's length is known. Every read checks whether the request was closed, which interrupts a long scan.
    """

    def __init__(self, fd: int, arrivals: Arrivals) -> None:
        super().__init__()
        self._fd = fd
        self._arrivals = arrivals

    def read(self, size: int = -1, /) -> bytes:
        """Read up to ``size`` bytes: fewer at the end of what has arrived, and none only at the end of the file."""
        self._check()
        if size < 0:
            if not self._arrivals.complete:
                self._wait(None)
            size = max(0, self._end() - self._position)
        if size and self._position >= self._arrivals.size and not self._at_announced_end():
            self._wait(self._position + min(size, _ENOUGH_BYTES))
        data = os.pread(self._fd, min(size, max(0, self._arrivals.size - self._position)), self._position)
        self._position += len(data)
        return data

    def _at_announced_end(self) -> bool:
        arrivals = self._arrivals
        return arrivals.complete or (arrivals.expected is not None and self._position >= arrivals.expected)

    def _end(self) -> int:
        arrivals = self._arrivals
        if not arrivals.complete and arrivals.expected is None:
            self._wait(None)
        return arrivals.size if arrivals.complete or arrivals.expected is None else arrivals.expected

    def _check(self) -> None:
        self._guarded(self._arrivals.check)

    def _wait(self, size: int | None) -> None:
        self._waiting(lambda: self._arrivals.wait_for(size))
