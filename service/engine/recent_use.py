"""How much processor time each caller has used lately. Pure: every time is an argument."""

from __future__ import annotations

import math
from collections import OrderedDict

FADING_SECONDS = 4.0
"""What was used so long ago counts a third (1/e)."""

MOST_CALLERS = 1024
"""Callers that are remembered; beyond that, the one that has used nothing for longest is forgotten."""


class RecentUse:
    """Processor seconds of each caller and of all, of which the older ones count less."""

    def __init__(self) -> None:
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()  # seconds, and when they were so many
        self._all = 0.0, 0.0

    def add(self, caller: str, seconds: float, now: float) -> None:
        """Count processor seconds that a caller has used until now."""
        used = _faded(self._used.pop(caller, (0.0, now)), now)
        self._used[caller] = used + seconds, now
        self._all = _faded(self._all, now) + seconds, now
        if len(self._used) > MOST_CALLERS:
            self._used.popitem(last=False)

    def part(self, caller: str, now: float) -> float:
        """The part of all that a caller has used, 0 to 1; 0 if nobody has used anything."""
        used, all_of_them = _faded(self._used.get(caller, (0.0, now)), now), _faded(self._all, now)
        return min(1.0, used / all_of_them) if all_of_them > 0 else 0.0


def _faded(counted: tuple[float, float], now: float) -> float:
    seconds, when = counted
    return seconds * math.exp((when - now) / FADING_SECONDS)
