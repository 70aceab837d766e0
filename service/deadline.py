"""Ends what the current task waits for when its time is up."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

from adafocus.service.errors import DeadlinePassed


class Deadline:
    """A context manager whose block is cancelled at a moment, and then raises `DeadlinePassed`.

    It does what `asyncio.timeout_at` does, in a third of the calls.

    Args:
        due: in seconds of ``time.monotonic``, which is not the clock of every event loop: uvloop's counts milliseconds.
    """

    __slots__ = ("_cancelling", "_due", "_passed", "_task", "_timer")

    def __init__(self, due: float) -> None:
        self._due = due
        self._passed = False
        self._timer: asyncio.TimerHandle | None = None

    def lift(self) -> None:
        """Let the rest of the block take as long as it likes. May be called again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> Self:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task has a deadline")
        self._task, self._cancelling = task, task.cancelling()
        self._timer = loop.call_later(max(0.0, self._due - time.monotonic()), self._pass)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the block.

        Raises:
            DeadlinePassed: it was cancelled because the deadline passed, and for no other reason.
        """
        self.lift()
        if self._passed and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise DeadlinePassed from None

    def _pass(self) -> None:
        self._timer = None
        self._passed = True
        self._task.cancel()
