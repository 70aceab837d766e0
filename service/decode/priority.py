"""Moves long decoding into the background, so that it takes the processor from nobody who needs it for a moment.

A video of a few kilobytes can keep a decoder busy for half a minute. While it has the same priority as the others,
three of them take three quarters of the processors. So a worker that has used more than a moment's processor time on
one video gets a low priority: it has all of an idle processor, and next to nothing of one that others want.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

QUICK_SECONDS = 1.0
"""Processor time on one video that is a moment's."""

BACKGROUND_NICENESS = 15


class Prioritised(Protocol):
    """The part of a worker that is needed here. `WorkerProcess` implements it."""

    @property
    def pid(self) -> int:
        """The process id."""

    def cpu_seconds(self) -> float:
        """Processor time that it has used since it was started."""


SetPriority = Callable[[int, int], None]


def set_niceness(pid: int, niceness: int) -> None:
    """Set the niceness of a process.

    Raises:
        OSError: there is no such process, or this one may not raise a priority.
    """
    os.setpriority(os.PRIO_PROCESS, pid, niceness)


class BackgroundPriority:
    """The priority of one worker during one video.

    Args:
        worker: that decodes it.
        set_priority: as `set_niceness`.
    """

    def __init__(self, worker: Prioritised, set_priority: SetPriority = set_niceness) -> None:
        self._worker = worker
        self._set = set_priority
        self._started = worker.cpu_seconds()
        self._lowered = False
        self._timer: asyncio.TimerHandle | None = None
        self._look_in(QUICK_SECONDS)

    def restore(self) -> bool:
        """End the watch and give the worker its priority back; False if that is not permitted.

        A process without privileges may lower a priority and not raise it again. The worker then has to be replaced.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._lowered:
            return True
        try:
            self._set(self._worker.pid, os.getpriority(os.PRIO_PROCESS, 0))
        except OSError:
            return False
        self._lowered = False
        return True

    def _look_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        left = QUICK_SECONDS - (self._worker.cpu_seconds() - self._started)
        if left > 0:
            self._look_in(max(left, QUICK_SECONDS / 10))
            return
        self._timer = None
        try:
            self._set(self._worker.pid, BACKGROUND_NICENESS)
        except OSError:
            return  # it has ended, or the system forbids it: it goes on as it is
        self._lowered = True
