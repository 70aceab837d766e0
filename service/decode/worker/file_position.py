"""The position of a file object over a spool, and what interrupts its reads: the same for every kind of spool."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable


class FilePosition(ABC):
    """The base of the file objects that a demuxer reads. It has no name, so that no format is guessed from one.

    Attributes:
        waited_seconds: time spent waiting for bytes; it does not count as decoding.
        interrupted: a read was interrupted, after which a demuxer cannot go on.
    """

    def __init__(self) -> None:
        self._position = 0
        self.waited_seconds = 0.0
        self.interrupted = False

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position, which may lie beyond what has arrived. Nothing is fetched for it.

        Raises:
            ValueError: the position is before the start, or ``whence`` is unknown.
        """
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self._end()
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

    @abstractmethod
    def _end(self) -> int:
        """The size of the file, bytes."""

    def _guarded(self, work: Callable[[], object]) -> None:
        """Do something that raises when the request is closed."""
        try:
            work()
        except BaseException:
            self.interrupted = True
            raise

    def _waiting(self, work: Callable[[], None]) -> None:
        """Do something that waits for bytes."""
        began = time.perf_counter()
        try:
            self._guarded(work)
        finally:
            self.waited_seconds += time.perf_counter() - began
