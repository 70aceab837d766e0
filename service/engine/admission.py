"""Admission: rejects with 503 before reading the body when all slots and queue places are taken.

A request holds a *place* from its first byte to its answer, and a *slot* while its video runs. Both are bounded, so
memory is.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import numpy as np

from adafocus.service.engine.request import EngineObserver
from adafocus.service.engine.scheduler import due_times, most_urgent
from adafocus.service.errors import Overloaded

_SMOOTHING = 0.2
_FIRST_GUESS_SECONDS = 0.5
_LONGEST_RETRY_SECONDS = 60.0


@dataclass(slots=True, eq=False)
class _Waiter:
    arrived: float
    deadline: float | None
    granted: asyncio.Future[None]


@dataclass(slots=True)
class Admission:
    """Who may come in, and who runs next.

    Args:
        slots: videos that may run at once.
        max_queue: further requests that may hold a place.
        observer: told of the queue's depth and of the slots in use.
        clock: seconds on the clock that deadlines are given in.
        jitter: a number in 0..1 for each refusal.
    """

    slots: int
    max_queue: int
    observer: EngineObserver
    clock: Callable[[], float]
    jitter: Callable[[], float] = random.random
    places_taken: int = 0
    slots_taken: int = 0
    early_taken: int = 0
    _waiters: list[_Waiter] = field(default_factory=list)
    _seconds_per_video: float = _FIRST_GUESS_SECONDS

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for the length of a request.

        Raises:
            Overloaded: every place is taken; carries the seconds after which one should be free.
        """
        places = self.slots + self.max_queue
        if self.places_taken >= places:
            raise Overloaded(f"all {places} slots and queue places are taken", retry_after=self.retry_after_seconds())
        self.places_taken += 1
        try:
            yield
        finally:
            self.places_taken -= 1

    @asynccontextmanager
    async def slot(self, deadline: float | None) -> AsyncIterator[float]:
        """Wait for a slot, most urgent first, and hold it; yields the seconds waited."""
        arrived = self.clock()
        if self.slots_taken < self.slots and not self._waiters:
            self._take(1)
        else:
            await self._wait(_Waiter(arrived, deadline, asyncio.get_running_loop().create_future()))
        started = self.clock()
        try:
            yield started - arrived
        finally:
            held = self.clock() - started
            self._seconds_per_video += _SMOOTHING * (held - self._seconds_per_video)
            self._take(-1)
            self._grant()

    @contextmanager
    def early_start(self) -> Iterator[bool]:
        """Whether a video may take a slot while it is still being uploaded; holds that right for the block.

        A slow sender would hold a slot for as long as it sends. So only idle slots are given to unfinished uploads, and
        no more than half of them: those who have sent everything are never kept waiting by one who has not.
        """
        granted = not self._waiters and self.early_taken < self.slots // 2 and self.slots_taken < self.slots
        self.early_taken += granted
        try:
            yield granted
        finally:
            self.early_taken -= granted

    def retry_after_seconds(self) -> float:
        """Work queued over the measured drain rate, plus up to as much again by chance.

        Without the chance all who were turned away together would come back together.
        """
        queued_seconds = self.places_taken * self._seconds_per_video / self.slots
        return min(_LONGEST_RETRY_SECONDS, queued_seconds * (1.0 + self.jitter()))

    async def _wait(self, waiter: _Waiter) -> None:
        self._waiters.append(waiter)
        self.observer.queue_depth(len(self._waiters))
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self.observer.queue_depth(len(self._waiters))
            else:  # the slot was granted in the very turn in which the caller left: pass it on
                self._take(-1)
                self._grant()
            raise

    def _grant(self) -> None:
        live = [waiter for waiter in self._waiters if not waiter.granted.done()]
        if live:
            arrived = np.array([waiter.arrived for waiter in live])
            deadlines = np.array([math.inf if waiter.deadline is None else waiter.deadline for waiter in live])
            for index in most_urgent(due_times(arrived, deadlines), arrived, self.slots - self.slots_taken).tolist():
                self._waiters.remove(live[index])
                self._take(1)
                live[index].granted.set_result(None)
        self.observer.queue_depth(len(self._waiters))

    def _take(self, count: int) -> None:
        self.slots_taken += count
        self.observer.slots_active(self.slots_taken)
