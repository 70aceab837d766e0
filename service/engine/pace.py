"""When the batch that runs will end, from how long those before it took."""

from __future__ import annotations

import math
from collections import deque

from adafocus.service.engine.scheduler import ENDING

SMOOTHING = 0.2


class Pace:
    """Expects each batch to take as long as batches of its size have taken. Not thread-safe.

    Attributes:
        ends_at: when the batch that runs counts as about to end, in seconds; ``inf`` if none runs, or none of its size
            ever ended.
    """

    def __init__(self) -> None:
        self.ends_at = math.inf
        self._seconds: dict[int, float] = {}
        self._sizes: deque[int] = deque()  # of the batches that the device holds
        self._began = 0.0

    def ending(self, now: float) -> bool:
        """Whether the batch that runs is about to end."""
        return now >= self.ends_at

    def submitted(self, size: int, now: float) -> None:
        """Note a batch that the device has been given."""
        self._sizes.append(size)
        if len(self._sizes) == 1:
            self._begin(now)

    def finished(self, size: int, now: float) -> None:
        """Note that the oldest batch, which had that size, is done; the next one begins."""
        took = now - self._began
        known = self._seconds.get(size, took)
        self._seconds[size] = known + SMOOTHING * (took - known)
        self._sizes.popleft()
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._began = now
        self.ends_at = now + ENDING * self._seconds.get(self._sizes[0], math.inf) if self._sizes else math.inf
