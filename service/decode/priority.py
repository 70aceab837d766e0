"""Moves decoding that can wait into the background, so that it takes the processor from nobody who needs it now.

Two kinds can wait. A video of a few kilobytes can keep a decoder busy for half a minute; with the same priority as the
others, three of them take three quarters of the processors. And a caller that asks for more than its share has several
decoders at work, between which the one decoder of somebody else would get only a part of a processor. A worker with a
low priority has all of an idle processor, and next to nothing of one that others want.
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
    """The priority of one worker, which decodes one video after the other.

    It is raised again only when the next video needs it: a process without privileges may lower a priority and not
    raise it, and then has to replace the worker.

    Args:
        worker: that decodes them.
        set_priority: as `set_niceness`.

    Attributes:
        lowered: whether the worker has a low priority.
    """

    def __init__(self, worker: Prioritised, set_priority: SetPriority = set_niceness) -> None:
        self.lowered = False
        self._worker = worker
        self._set = set_priority
        self._started = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, *, background: bool) -> bool:
        """Begin a video, in the background or not; False if that needs a higher priority than is permitted."""
        self.end()
        if background:
            self._lower()
            return True
        if not self._restore():
            return False
        self._started = self._worker.cpu_seconds()
        self._look_in(QUICK_SECONDS)
        return True

    def end(self) -> None:
        """End the watch over a video. May be called again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _lower(self) -> None:
        if self.lowered:
            return
        try:
            self._set(self._worker.pid, BACKGROUND_NICENESS)
        except OSError:
            return  # it has ended, or the system forbids it: it goes on as it is
        self.lowered = True

    def _restore(self) -> bool:
        if not self.lowered:
            return True
        try:
            self._set(self._worker.pid, os.getpriority(os.PRIO_PROCESS, 0))
        except OSError:
            return False
        self.lowered = False
        return True

    def _look_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        left = QUICK_SECONDS - (self._worker.cpu_seconds() - self._started)
        if left > 0:
            self._look_in(max(left, QUICK_SECONDS / 10))
            return
        self._timer = None
        self._lower()
