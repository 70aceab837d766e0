"""How many callers want the service now, and so what an equal share of it is. Pure: every time is an argument."""

from __future__ import annotations

from collections import OrderedDict

ACTIVE_SECONDS = 2.0
"""A caller is active for so long after its last request began or ended."""

MOST_CALLERS = 1024
"""Callers that are counted; with so many, everybody's share is one slot anyway."""


class ActiveCallers:
    """The callers that have asked for something lately."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, float] = OrderedDict()  # in the order of their last request

    def __len__(self) -> int:
        """How many there are, as of the last question about a share or others."""
        return len(self._last)

    def seen(self, caller: str, now: float) -> None:
        """Record that a request of a caller begins or ends."""
        self._last.pop(caller, None)
        self._last[caller] = now
        if len(self._last) > MOST_CALLERS:
            self._last.popitem(last=False)

    def share(self, slots: int, now: float) -> int:
        """Slots that one caller may hold: all of them while it is alone, else an equal part, and at least one."""
        self._forget(now)
        return max(1, slots // max(1, len(self._last)))

    def others(self, caller: str, now: float) -> bool:
        """Whether anybody else is active."""
        self._forget(now)
        return len(self._last) > (caller in self._last)

    def _forget(self, now: float) -> None:
        while self._last and now - next(iter(self._last.values())) > ACTIVE_SECONDS:
            self._last.popitem(last=False)
