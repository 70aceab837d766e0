"""How many connections each front has, so that none has many more than another."""

from __future__ import annotations

import mmap
from collections.abc import Callable

import numpy as np
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adafocus.service import shared_memory

_ITEM_BYTES = 8
_NOT_ACCEPTING = np.iinfo(np.int64).max
UNEVEN = 2
"""A front that has more than so many times the connections of another lets some go."""


class Board:
    """Numbers that each front writes and all read.

    Args:
        fd: of memory that `create` made.
        fronts: how many there are.
        row: of this front; for the supervisor any.
    """

    def __init__(self, fd: int, fronts: int, row: int = 0) -> None:
        self._row = row
        self._connections = np.frombuffer(mmap.mmap(fd, fronts * _ITEM_BYTES), dtype=np.int64)

    @classmethod
    def create(cls, fronts: int) -> int:
        """Make the memory; returns its descriptor.

        Raises:
            OSError: there is none.
        """
        fd = shared_memory.create("connections", fronts * _ITEM_BYTES)
        board = cls(fd, fronts)
        for row in range(fronts):
            board.withdraw(row)
        return fd

    def withdraw(self, row: int) -> None:
        """A front takes no connections: it has ended, or has not begun."""
        self._connections[row] = _NOT_ACCEPTING

    def publish(self, connections: int) -> None:
        """Tell how many this front has."""
        self._connections[self._row] = connections

    @property
    def fewest(self) -> int:
        """Connections of the front that has fewest, of those that take any."""
        return int(self._connections.min())

    def yields_next(self, connections: int) -> bool:
        """Whether the next connection should be another front's, if it takes it soon."""
        return connections > self.fewest

    def is_crowded(self, connections: int) -> bool:
        """Whether this front has so many more than another that some of its clients should connect again."""
        return connections > UNEVEN * (self.fewest + 1)


class Spreading:
    """Closes connections with their response while this front is crowded: their clients connect again, to others.

    Args:
        app: answers.
        is_crowded: tells whether it is so now.
    """

    def __init__(self, app: ASGIApp, is_crowded: Callable[[], bool]) -> None:
        self.app = app
        self._is_crowded = is_crowded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event scope."""
        if scope["type"] != "http" or not self._is_crowded():
            await self.app(scope, receive, send)
            return

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [field for field in message.get("headers", ()) if field[0].lower() != b"connection"]
                message = {**message, "headers": [*headers, (b"connection", b"close")]}
            await send(message)

        await self.app(scope, receive, send_and_close)
