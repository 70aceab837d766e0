"""Quality before refusal: decides how many operating points cheaper than asked requests run while the queue is long.

Pure: every time is an argument. A queue that stands above its target for a moment lowers the quality by one point, and
one that stays well below it for longer raises it again. Between the two nothing changes, so that the quality does not
swing with every burst.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

LOWER_SECONDS = 0.5
"""How long the delay must stay above the target before requests get a cheaper point, and again before the next one."""

RAISE_SECONDS = 5.0
"""How long the delay must stay below its lower bound before requests get a dearer point again."""

LOWER_BOUND = 0.5
"""Share of the target that the delay must stay below for the quality to rise."""

LONGEST_RAISE_SECONDS = 80.0
"""Raising is tried less often, down to this interval, if it was followed by another lowering each time."""


@dataclass(slots=True)
class QualityController:
    """The state of the quality.

    Attributes:
        target_seconds: delay of the queue above which the quality falls; 0: it never does.
        most: largest level, the number of cheaper points that the dearest one has.
        level: how many points cheaper than asked requests run now.
    """

    target_seconds: float
    most: int
    level: int = 0
    _above_since: float | None = field(default=None, init=False)
    _below_since: float | None = field(default=None, init=False)
    _raise_seconds: float = field(default=RAISE_SECONDS, init=False)
    _raised: float | None = field(default=None, init=False)

    def observe(self, now: float, delay_seconds: float) -> int:
        """Take in the delay of a request that leaves the queue now; returns the level that it should run at.

        Args:
            now: never falls from call to call.
            delay_seconds: that it has waited.
        """
        if not self.target_seconds:
            return 0
        if delay_seconds > self.target_seconds:
            self._above(now)
        elif delay_seconds < LOWER_BOUND * self.target_seconds:
            self._below(now)
        else:
            self._above_since = self._below_since = None
        return self.level

    def _above(self, now: float) -> None:
        self._below_since = None
        if self._above_since is None:
            self._above_since = now
        elif now - self._above_since >= LOWER_SECONDS and self.level < self.most:
            self.level += 1
            self._above_since = now
            if self._raised is not None and now - self._raised <= self._raise_seconds:
                self._raise_seconds = min(LONGEST_RAISE_SECONDS, 2 * self._raise_seconds)
            self._raised = None

    def _below(self, now: float) -> None:
        self._above_since = None
        if self._below_since is None:
            self._below_since = now
        while self.level and now - self._below_since >= self._raise_seconds:
            self.level -= 1
            self._below_since += self._raise_seconds
            self._raised = now
        if not self.level and now - self._below_since >= LONGEST_RAISE_SECONDS:
            self._raise_seconds = RAISE_SECONDS


def point_at(level: int, asked: str, cheaper: Sequence[str]) -> str:
    """Return the operating point that a request runs at.

    Args:
        level: how many points cheaper than asked.
        asked: the point that it asked for.
        cheaper: the points that are cheaper, the dearest first.
    """
    return cheaper[min(level, len(cheaper)) - 1] if level and cheaper else asked
