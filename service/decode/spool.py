"""The spool: an upload in a temporary file without a name, from which the decoder reads."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Self

from adafocus.service.errors import Problem


class Spool:
    """A file that grows until it is complete. A decode worker may read it while it grows.

    The file has no name, or its name is removed at once where the file system requires one, so nothing stays on the
    disk however this process ends.

    Writing blocks the event loop while a chunk is copied into the page cache, about 20 µs for 64 KiB; a thread would
    cost more. A disk that is too slow therefore slows the upload down, which is intended.

    Args:
        directory: folder of the file; None: the system's directory for temporary files.
        expected_bytes: final size of the file, if it is known for certain.
    """

    def __init__(self, directory: Path | None = None, *, expected_bytes: int | None = None) -> None:
        self._file = _nameless_file(str(directory or tempfile.gettempdir()))
        self._listeners: list[Callable[[], None]] = []
        self.expected_bytes = expected_bytes
        self.size = 0
        """Number of bytes written."""
        self.complete = False
        """Whether all bytes have been written."""
        self.error: Problem | None = None
        """The problem that ended the upload, if it failed."""

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
        """Mark the spool as complete. May be called again."""
        self.complete = True
        self._tell()

    def fail(self, error: Problem) -> None:
        """Mark the upload as failed. Sessions that wait for more bytes fail with the same error."""
        self.error = error
        self._tell()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` on every change. Calling the returned function ends the subscription."""
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def open_for_reading(self) -> int:
        """Open a new, read-only descriptor of the file, for an untrusted process."""
        try:
            return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # no /proc: the worker's limit on file sizes still prevents writing
            return os.dup(self.fd)

    def close(self) -> None:
        """Close the file and free its bytes. May be called again."""
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
    """Like `tempfile.TemporaryFile`, but in a third of the time where the file system supports files without a name.

    Raises:
        OSError: there is no space, or no such directory.
    """
    try:
        return FileIO(os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_EXCL | os.O_CLOEXEC, 0o600), "r+")
    except (IsADirectoryError, AttributeError):  # an old kernel, or a system other than Linux
        pass
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
    return tempfile.TemporaryFile(dir=directory, buffering=0)
