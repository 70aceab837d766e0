"""Stops a training between two steps on a signal, so that its run folder can be continued."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """The user or the system asked to stop; the run folder can be resumed."""


class Stop:
    """A flag that a signal sets and that the training checks between steps."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: the first one stops after the step, the second one at once."""
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number

    def check(self) -> None:
        """Raise `Interrupted` if a signal came."""
        if self.signal:
            raise Interrupted(f"stopped by {signal.Signals(self.signal).name}; the same command continues the run")


@contextmanager
def stopping_politely() -> Iterator[Stop]:
    """Handle SIGTERM and SIGINT between two steps; does nothing outside the main thread."""
    stop = Stop()
    try:
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # only the main thread may set signal handlers
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
