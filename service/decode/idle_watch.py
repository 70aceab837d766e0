"""Watches idle workers: one that uses the processor while it has no video does something that nobody asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, Protocol, TypeVar

INTERVAL_SECONDS = 1.0

MOST_IDLE_SECONDS = 0.25
"""Processor time of a worker since it was first seen idle; giving back the memory of a large video takes a tenth. It
is a sum, not a rate, because a worker on a busy machine gets little of the processor."""


class Watched(Hashable, Protocol):
    """The part of a worker that is needed here. `WorkerProcess` implements it."""

    jobs: int
    """Jobs that it has been given."""

    def cpu_seconds(self) -> float:
        """Processor time that it has used since it was started."""


Worker = TypeVar("Worker", bound=Watched)


class IdleWatch(Generic[Worker]):
    """Looks at the processor time of each idle worker at regular intervals.

    Args:
        idle: the workers that have no job now.
        burning: called with a worker that has used more than `MOST_IDLE_SECONDS` since its last job.
    """

    def __init__(self, idle: Callable[[], Iterable[Worker]], burning: Callable[[Worker], object]) -> None:
        self._idle = idle
        self._burning = burning
        self._seen: dict[Worker, tuple[int, float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch, on the running loop."""
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self._look_again)

    def stop(self) -> None:
        """End. May be called again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """Look at all idle workers once."""
        before, self._seen = self._seen, {}
        for worker in tuple(self._idle()):  # a worker that is given up leaves the pool
            jobs, seconds = worker.jobs, worker.cpu_seconds()
            jobs_before, seconds_before = before.get(worker, (-1, 0.0))
            if jobs != jobs_before:
                self._seen[worker] = (jobs, seconds)
                continue
            self._seen[worker] = (jobs_before, seconds_before)
            if seconds - seconds_before > MOST_IDLE_SECONDS:
                self._burning(worker)

    def _look_again(self) -> None:
        self.start()
        self.look()
