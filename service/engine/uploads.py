"""The bodies that are arriving: how many there are, in all and of each caller, and how close that is to the limits."""

from __future__ import annotations

from collections import Counter

from adafocus.service.engine.queue_limits import QueueLimits

FREE_SHARE = 0.25
"""This share of the uploads that may be arriving at once is no pressure."""


class Uploads:
    """Counts uploads that have begun and not ended.

    Args:
        limits: how many there may be.
    """

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._of: Counter[str] = Counter()
        self.count = 0
        """Uploads of all callers."""

    @property
    def pressure(self) -> float:
        """0 to 1: 0 while there are few, 1 at the limit."""
        return max(0.0, (self.count / self._limits.uploads - FREE_SHARE) / (1.0 - FREE_SHARE))

    def limit_reached(self, caller: str) -> int | None:
        """The limit that keeps a caller from another upload; None if there is room."""
        if self.count >= self._limits.uploads:
            return self._limits.uploads
        return self._limits.uploads_per_caller if self._of[caller] >= self._limits.uploads_per_caller else None

    def begin(self, caller: str) -> None:
        """Count an upload of a caller."""
        self.count += 1
        self._of[caller] += 1

    def end(self, caller: str) -> None:
        """Count it no more."""
        self.count -= 1
        self._of[caller] -= 1
        if not self._of[caller]:
            del self._of[caller]
