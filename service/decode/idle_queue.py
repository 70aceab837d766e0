"""A first-come, first-served queue of idle workers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from adafocus.service.errors import Problem

Item = TypeVar("Item")


class IdleQueue(Generic[Item]):
    """Idle items and the callers that wait for one. There are never both at the same time."""

    def __init__(self) -> None:
        self._idle: deque[Item] = deque()
        self._waiting: deque[asyncio.Future[Item]] = deque()
        self._closed: Problem | None = None

    @property
    def waiting(self) -> int:
        """Number of callers that wait for an item."""
        return len(self._waiting)

    @property
    def idle(self) -> int:
        """Number of idle items."""
        return len(self._idle)

    def put(self, item: Item) -> None:
        """Add an idle item, or hand it to the caller that has waited longest."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(item)
                return
        self._idle.append(item)

    async def take(self, rank: Callable[[Item], int | tuple[int, int]] | None = None, *, first: bool = False) -> Item:
        """Return an idle item; waits until there is one. Cancelling a waiting call loses no item.

        Args:
            rank: of the idle items, one with the lowest is taken; None: the one that has been idle for longest.
            first: whether to be served before the other callers that wait.

        Raises:
            Problem: the queue was closed with this problem.
        """
        if self._closed is not None:
            raise self._closed
        if self._idle:
            if rank is None:
                return self._idle.popleft()
            item = min(self._idle, key=rank)
            self._idle.remove(item)
            return item
        future: asyncio.Future[Item] = asyncio.get_running_loop().create_future()
        if first:
            self._waiting.appendleft(future)
        else:
            self._waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future in self._waiting:
                self._waiting.remove(future)
            elif not future.cancelled() and future.exception() is None:  # cancelled after it was given an item
                self.put(future.result())
            raise

    def discard(self, item: Item) -> None:
        """Remove an idle item. Does nothing if the item is not idle."""
        if item in self._idle:
            self._idle.remove(item)

    def close(self, problem: Problem) -> list[Item]:
        """Hand out no more items: calls that wait, and later calls, raise the problem. Returns the idle items."""
        self._closed = problem
        idle = list(self._idle)
        self._idle.clear()
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(problem)
        return idle
