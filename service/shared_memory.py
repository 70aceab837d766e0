"""Memory that several processes of one service inherit, and locks on its bytes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager


def create(name: str, size: int) -> int:
    """Make anonymous memory of zeros; returns its descriptor.

    Raises:
        OSError: there is none.
    """
    fd = os.memfd_create(f"adafocus-{name}", os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    return fd


@contextmanager
def locked(fd: int, byte: int) -> Iterator[None]:
    """Keep other processes from the same byte; the system releases the lock of a process that dies."""
    fcntl.lockf(fd, fcntl.LOCK_EX, 1, byte)
    try:
        yield
    finally:
        fcntl.lockf(fd, fcntl.LOCK_UN, 1, byte)
