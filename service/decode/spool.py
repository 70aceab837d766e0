"""An upload on its way to the decoder: bytes in a temporary file that has no name."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Self

from service.errors import Problem


class Spool:
    """A file that grows and then is complete, read by a decode worker while it grows if need be.

    It never has a name, or loses it at once where the file system cannot do without, so nothing stays on the disk
    however this process ends.

    Writing blocks the event loop for as long as copying a chunk into the page cache takes, some 20 µs for 64 KiB; a
    thread would cost more than that. What the disk cannot take in time then slows the upload, as it should.

    Args:
        directory: where the file is made; None: the system's directory for temporary files.
        expected_bytes: what the file will hold in the end, if that is known for certain.
    """

    def __init__(self, directory: Path | None = None, *, expected_bytes: int | None = None) -> None:
        self._file = _nameless_file(str(directory or tempfile.gettempdir()))
        self._listeners: list[Callable[[], None]] = []
        self.expected_bytes = expected_bytes
        self.size = 0
        """Bytes that have been written."""
        self.complete = False
        """Whether these are all."""
        self.error: Problem | None = None
        """Why there will never be more, if the upload failed."""

    @property
    def fd(self) -> int:
        """The file's descriptor.

        Raises:
            ValueError: the spool is closed.
        """
        return self._file.fileno()

    def write(self, chunk: bytes | memoryview) -> None:
        """Append a chunk.

        Raises:
            ValueError: the spool is complete or closed.
            OSError: the disk is full.
        """
        if self.complete:
            raise ValueError("the spool is complete")
        rest = memoryview(chunk)
        while rest:
            written = self._file.write(rest)
            self.size += written
            rest = rest[written:]
        self._tell()

    def finish(self) -> None:
        """There will be no more bytes. May be called again."""
        self.complete = True
        self._tell()

    def fail(self, error: Problem) -> None:
        """The upload has failed: whoever waits for more bytes fails with the same error."""
        self.error = error
        self._tell()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have ``listener`` called on every change; the result ends that."""
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def open_for_reading(self) -> int:
        """A new descriptor of the file that only reads, for a process that is not to be trusted with more."""
        try:
            return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # no /proc: the worker's own limit on file sizes still keeps it from writing
            return os.dup(self.fd)

    def close(self) -> None:
        """Let the bytes go. May be called again."""
        self._listeners.clear()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            listener()


def _nameless_file(directory: str) -> FileIO:
    """Make what `tempfile.TemporaryFile` makes, in a third of its time where the file system can do without a name.

    Raises:
        OSError: there is no room, or no such directory.
    """
    try:
        return FileIO(os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_EXCL | os.O_CLOEXEC, 0o600), "r+")
    except (IsADirectoryError, AttributeError):  # an old kernel, or no Linux
        pass
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
    return tempfile.TemporaryFile(dir=directory, buffering=0)
