"""The spool: an upload in memory or in a temporary file without a name, from which the decoder reads."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Self

from adafocus.service.errors import Problem

MEMORY_BYTES = 2 << 20
"""Uploads of at most this size are kept in memory: making and removing a file takes longer than copying the clip."""

_SEALS = getattr(fcntl, "F_SEAL_WRITE", 0) | getattr(fcntl, "F_SEAL_SHRINK", 0) | getattr(fcntl, "F_SEAL_GROW", 0)


class Spool:
    """A file that grows until it is complete. A decode worker may read it while it grows.

    The file has no name, or its name is removed at once where the file system requires one, so nothing stays on the
    disk however this process ends. A small upload lies in anonymous memory.

    Writing blocks the event loop while a chunk is copied into the page cache, about 20 µs for 64 KiB; a thread would
    cost more. A disk that is too slow therefore slows the upload down, which is intended.

    Args:
        directory: folder of the file; None: the system's directory for temporary files.
        expected_bytes: final size of the file, if it is known for certain.
        at_most_bytes: no more will be written; None: any number. Up to `MEMORY_BYTES` the bytes stay in memory.

    Raises:
        OSError: there is no space, or no such directory.
    """

    is_sparse = False
    """Whether the bytes arrive in any order."""

    def __init__(
        self, directory: Path | None = None, *, expected_bytes: int | None = None, at_most_bytes: int | None = None
    ) -> None:
        self._in_memory = at_most_bytes is not None and at_most_bytes <= MEMORY_BYTES and _SEALS != 0
        self._left = at_most_bytes if self._in_memory else None
        self._sealed = False
        if self._in_memory:
            self._fd = os.memfd_create("adafocus-upload", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        else:
            self._fd = _nameless_file(str(directory or tempfile.gettempdir()))
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
        if self._fd < 0:
            raise ValueError("the spool is closed")
        return self._fd

    def write(self, chunk: bytes | memoryview) -> None:
        """Append a chunk.

        Raises:
            ValueError: the spool is complete or closed, or more is written than was announced.
            OSError: the disk is full.
        """
        if self.complete:
            raise ValueError("the spool is complete")
        if self._left is not None:
            self._left -= len(chunk)
            if self._left < 0:
                raise ValueError("more bytes are written than the spool was made for")
        written = os.write(self.fd, chunk)
        self.size += written
        if written < len(chunk):
            self._write_rest(memoryview(chunk)[written:])
        self._tell()

    def _write_rest(self, rest: memoryview) -> None:
        while rest:
            written = os.write(self.fd, rest)
            self.size += written
            rest = rest[written:]

    def covers(self, start: int, stop: int) -> bool:
        """Whether the bytes ``start``..``stop - 1`` have been written."""
        return self.size >= stop

    def want(self, start: int, stop: int) -> None:
        """Record that a decoder waits for a range; an upload brings it anyway."""

    def finish(self) -> None:
        """Mark the spool as complete. May be called again."""
        self.complete = True
        if self._in_memory and not self._sealed:
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
            self._sealed = True
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
        """Open a new descriptor of the file, through which an untrusted process cannot write."""
        if self._sealed:
            return os.dup(self.fd)
        try:
            return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # no /proc: the worker's limit on file sizes still prevents writing
            return os.dup(self.fd)

    def close(self) -> None:
        """Close the file and free its bytes. May be called again."""
        self._listeners.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_at(self, position: int, chunk: memoryview) -> int:
        return os.pwrite(self.fd, chunk, position)

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            listener()


class FileSpool(Spool):
    """A file of this machine in the place of a spool: complete, and not copied.

    Args:
        path: of a file that can be read at any position.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._in_memory = self._sealed = False
        self._left = None
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._listeners = []
        self.size = os.fstat(self._fd).st_size
        self.expected_bytes = self.size
        self.complete = True
        self.error = None


def _nameless_file(directory: str) -> int:
    """A descriptor as that of `tempfile.TemporaryFile`, in a third of the time where files need no name.

    Raises:
        OSError: there is no space, or no such directory.
    """
    try:
        return os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except (IsADirectoryError, AttributeError):  # an old kernel, or a system other than Linux
        pass
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        return os.dup(file.fileno())
