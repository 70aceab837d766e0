"""Estimates how long a request would wait for a slot. Pure: every time is an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass

FIRST_GUESS_SECONDS = 0.05
_SMOOTHING = 0.05
_QUICK_SMOOTHING = 0.25
_QUICK_VIDEOS = 8


@dataclass(slots=True)
class WaitingTime:
    """Little's law: a queue drains at the number of slots over the mean time that a video holds one.

    Under load that mean holds everything that slows a video down: busy processors, a slow disk, long videos.

    Attributes:
        slots: videos that run at once.
        seconds_per_video: moving mean of the time that a video holds its slot.
    """

    slots: int
    seconds_per_video: float = FIRST_GUESS_SECONDS
    _videos: int = 0

    def held(self, seconds: float) -> None:
        """Take in how long a video held its slot."""
        self._videos += 1
        smoothing = _QUICK_SMOOTHING if self._videos <= _QUICK_VIDEOS else _SMOOTHING
        self.seconds_per_video += smoothing * (max(0.0, seconds) - self.seconds_per_video)

    def seconds(self, ahead: int) -> float:
        """Seconds until a request gets its slot if all are taken and ``ahead`` others wait before it."""
        return (ahead + 1) * self.seconds_per_video / self.slots

    def most_waiting(self, seconds: float) -> int:
        """How many may wait if the last of them is to wait no longer than ``seconds``.

        At least as many as there are slots: these wait no longer than a video takes anyway.
        """
        if self.seconds_per_video <= 0.0 or math.isinf(seconds):
            return 1 << 30
        return max(self.slots, math.floor(seconds * self.slots / self.seconds_per_video))
