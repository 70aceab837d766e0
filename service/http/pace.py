"""Answers a caller later that is refused, or sends what cannot be answered, very often.

A client that sends the next request as soon as it has an answer can then send no more than the pace permits, so that
what costs it nothing keeps the event loop from nobody. While other callers are active the pace is slower, and errors
count too: a request that is read before it fails costs several times as much as one that is refused at once.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

TICK_SECONDS = 0.1
"""Answers that wait are sent at multiples of this, several at a time: waking up costs as much as refusing."""
MOST_CALLERS = 1024
"""Callers whose answers are counted; beyond that, the one that was answered longest ago is forgotten."""
MOST_WAITING = 256
"""Answers that may wait at once. Each holds a connection; beyond that they are sent at once."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How many answers are sent to one caller.

    Attributes:
        per_second: while it waits for each.
        burst_seconds: after a pause, the answers of so many seconds are sent at once.
        longest_delay_seconds: no answer waits for longer.
    """

    per_second: float
    burst_seconds: float
    longest_delay_seconds: float


ALONE = Rate(500.0, 0.2, 0.2)
"""Of refusals, while no other caller is active."""
REFUSALS = Rate(100.0, 0.5, 1.0)
"""Of refusals, while others are active."""
ERRORS = Rate(20.0, 1.0, 1.0)
"""Of requests that were read and could not be answered, while others are active."""


class AnswerPace:
    """Spreads the answers to each caller evenly once there are very many of them.

    The delay is bounded, because every connection that waits holds memory.

    Args:
        clock: in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._next: OrderedDict[tuple[str, Rate], float] = OrderedDict()
        self._waiting = 0

    def delay(self, caller: str, rate: Rate) -> float:
        """Seconds until an answer to this caller, which is ready now, is to be sent; 0 for most."""
        key, now = (caller, rate), self._clock()
        due = max(self._next.pop(key, 0.0), now - rate.burst_seconds) + 1.0 / rate.per_second
        due = min(due, now + rate.longest_delay_seconds)
        self._next[key] = due
        if len(self._next) > MOST_CALLERS:
            self._next.popitem(last=False)
        return math.ceil(due / TICK_SECONDS) * TICK_SECONDS - now if due > now else 0.0

    async def wait(self, caller: str, rate: Rate) -> None:
        """Wait until an answer to this caller is to be sent."""
        delay = self.delay(caller, rate)
        if delay <= 0 or self._waiting >= MOST_WAITING:
            return
        self._waiting += 1
        try:
            await asyncio.sleep(delay)
        finally:
            self._waiting -= 1
