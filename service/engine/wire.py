"""Messages between a client and a core in another process: pickled values over a socket, descriptors beside them.

Both ends are this service's own processes and trust each other; what comes from outside never reaches this socket as
more than numbers.
"""

from __future__ import annotations

import os
import pickle
import socket
import struct
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.runners.base import Runner, RunnerError
from adafocus.service.engine.transport import RunnerInfo

_LENGTH = struct.Struct("<Q")
_CHUNK_BYTES = 1 << 16
_MAX_FDS = 64
BUFFER_BYTES = 1 << 22
"""Of the socket, so that a report seldom waits for its reader."""

MakeCore = Callable[[], tuple[Manifest, Runner]]
"""Loads what a core runs; pickled on its way here, so a function of a module, or a partial of one."""


@dataclass(frozen=True, slots=True)
class Begin:
    """The first message to a core; ``make`` is a pickled `MakeCore`, so that an error in it can be reported."""

    make: bytes
    slots: int
    max_batch: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The core is warm."""

    runner: RunnerInfo
    manifest: Manifest
    pid: int = field(default_factory=os.getpid)


@dataclass(frozen=True, slots=True)
class Failed:
    """The core could not be started."""

    error: RunnerError


@dataclass(frozen=True, slots=True)
class Hello:
    """What a front tells a hub first: which of the fronts it is."""

    front: int


@dataclass(frozen=True, slots=True)
class Attach:
    """A segment, whose descriptor comes beside this message."""

    number: int
    places: int
    side: int


@dataclass(frozen=True, slots=True)
class Detach:
    """A segment that is needed no more."""

    number: int


def packed(message: object) -> bytes:
    """A message as it is sent."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data


class Inbox:
    """Puts messages together from what a socket gives.

    Args:
        connection: a stream socket between two processes of this service.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._data = bytearray()
        self.fds: deque[int] = deque()
        """Descriptors that have arrived, in the order of the messages that announce them."""

    def receive(self) -> bool:
        """Read what is there; False at the end of the stream, also if the other end left something unread.

        Raises:
            BlockingIOError: nothing is there, and the socket does not block.
        """
        try:
            data, ancillary, _, _ = self._connection.recvmsg(_CHUNK_BYTES, socket.CMSG_SPACE(_MAX_FDS * 4))
        except ConnectionError:
            return False
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers = array("i")
                numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                self.fds.extend(numbers)
        self._data += data
        return bool(data)

    def messages(self) -> Iterator[object]:
        """The messages that are complete."""
        while len(self._data) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._data)
            end = _LENGTH.size + length
            if len(self._data) < end:
                return
            message = pickle.loads(memoryview(self._data)[_LENGTH.size : end])  # noqa: S301 - see this module's first lines
            del self._data[:end]
            yield message
