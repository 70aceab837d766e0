"""How far the event loop is behind: so long do requests wait before anybody looks at them, in a queue nobody counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

INTERVAL_SECONDS = 0.25
_DECAY = 0.5


class LoopLag:
    """Measures by how much a timer of the event loop comes too late, again and again.

    Args:
        tell: called with the seconds; a high value goes down slowly, so that one quick turn hides no backlog.
        clock: in seconds.
    """

    def __init__(self, tell: Callable[[float], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._seconds = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to measure, on the running loop."""
        self._due = self._clock() + INTERVAL_SECONDS
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self.look)

    def stop(self) -> None:
        """End. May be called again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """Take the time that has passed beyond what was asked for."""
        self._seconds = max(self._clock() - self._due, _DECAY * self._seconds)
        self._tell(self._seconds)
        self.start()
