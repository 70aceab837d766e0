"""A waiting line for workers: who asks first is served first."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from service.errors import Problem

Item = TypeVar("Item")


class IdleQueue(Generic[Item]):
    """Idle items, and those who wait for one. Never both at once."""

    def __init__(self) -> None:
        self._idle: deque[Item] = deque()
        self._waiting: deque[asyncio.Future[Item]] = deque()
        self._closed: Problem | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def put(self, item: Item) -> None:
        """An item has become idle: the first in the line gets it."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(item)
                return
        self._idle.append(item)

    async def take(self) -> Item:
        """An idle item, waiting for one if need be. A waiter that is cancelled takes none with it.

        Raises:
            Problem: the line was closed with it.
        """
        if self._closed is not None:
            raise self._closed
        if self._idle:
            return self._idle.popleft()
        future: asyncio.Future[Item] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future in self._waiting:
                self._waiting.remove(future)
            elif not future.cancelled() and future.exception() is None:  # it had its turn, and leaves
                self.put(future.result())
            raise

    def discard(self, item: Item) -> None:
        """An item is not to be had any more; nothing happens if it is not idle."""
        if item in self._idle:
            self._idle.remove(item)

    def close(self, problem: Problem) -> None:
        """Nobody gets anything any more; whoever waits gets the problem."""
        self._closed = problem
        self._idle.clear()
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(problem)
