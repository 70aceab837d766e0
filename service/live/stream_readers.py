"""What FFmpeg reads a stream from: a socket, or a file without a name. Standard library only."""

from __future__ import annotations

import os
import socket
import stat


class SocketReader:
    """The stream as a file that cannot be rewound."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes; none at the end."""
        return self._socket.recv(size if size > 0 else 1 << 16)


class FileReader:
    """A file at its own position, without a name."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size
        self._position = 0

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes; none at the end."""
        data = os.pread(self._fd, size if size > 0 else 1 << 16, self._position)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position."""
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self._size
        self._position = max(0, offset)
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position


def reader(fd: int) -> SocketReader | FileReader:
    """What reads a descriptor. Called before the sandbox, which forbids to ask what a descriptor is."""
    status = os.fstat(fd)
    return FileReader(fd, status.st_size) if stat.S_ISREG(status.st_mode) else SocketReader(fd)
