"""How often one caller may come: a bucket of requests that refills evenly. Pure; the clock is given."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_SECONDS = 60
NANOSECONDS = 1_000_000_000
WINDOW = WINDOW_SECONDS * NANOSECONDS
"""Whole nanoseconds: sums of float seconds drift, and a standing of 60.0000001 s would be told as 61."""
MOST_CALLERS = 10_000
"""Callers remembered; beyond that, whoever was away longest is forgotten and starts afresh."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a caller has left.

    Attributes:
        allowed: whether this request may come in.
        remaining: further requests that may come in now.
        full_seconds: until nothing counts against the caller any more, whole seconds.
        wait_seconds: until the next request may come in; 0 if one may now.
    """

    allowed: bool
    remaining: int
    full_seconds: int
    wait_seconds: float


class RateLimit:
    """So many requests a minute for each caller; a caller who was away may spend a minute's worth at once.

    Args:
        per_minute: at least 1.
        clock: seconds, never running backwards.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._pause = WINDOW // per_minute
        self._full_at: OrderedDict[str, int] = OrderedDict()

    def take(self, caller: str) -> Standing:
        """Count one request of that caller, unless nothing is left."""
        now = round(self._clock() * NANOSECONDS)
        full_at = max(self._full_at.pop(caller, now), now)
        allowed = full_at - now <= WINDOW - self._pause
        if allowed:
            full_at += self._pause
        self._full_at[caller] = full_at
        if len(self._full_at) > MOST_CALLERS:
            self._full_at.popitem(last=False)
        used = full_at - now
        remaining = (WINDOW - used) // self._pause
        wait = 0 if remaining else used - (WINDOW - self._pause)
        return Standing(allowed, remaining, -(-used // NANOSECONDS), wait / NANOSECONDS)
