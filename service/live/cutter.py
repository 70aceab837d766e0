"""Decides where a stream is cut into windows: at key frames, and where its clock leaps. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LEAP_S = 10.0
"""A step forward of the clock by more than this, or backward at all beyond reordering, begins another window."""

_BACK_S = 1.0
_MOST_WINDOWS = 4

Verdict = Literal["add", "cut", "skip"]
"""What to do with a packet: add it to the window, begin a window with it, or leave it out."""


@dataclass(slots=True)
class Cutter:
    """Cuts one stream. Each window begins with a key frame and is at least ``window_s`` long, unless the clock leaps.

    A window that grows to several times its length without a key frame is closed, and what follows is left out up to
    the next key frame, so that memory is bounded.

    Args:
        window_s: length of a window, seconds.
    """

    window_s: float
    start_s: float | None = None
    """When the present window began, on the stream's clock; None where there is none."""
    _last_s: float = 0.0

    def see(self, time_s: float, *, key: bool) -> Verdict:
        """Judge the next packet.

        Args:
            time_s: its decoding time, on the stream's clock.
            key: whether decoding can start with it.
        """
        if self.start_s is not None and not -_BACK_S <= time_s - self._last_s <= LEAP_S:
            self.start_s = None
        self._last_s = time_s
        if self.start_s is None:
            return self._begin(time_s) if key else "skip"
        elapsed = time_s - self.start_s
        if key and elapsed >= self.window_s:
            return self._begin(time_s)
        if elapsed >= _MOST_WINDOWS * self.window_s:
            self.start_s = None
            return "skip"
        return "add"

    def _begin(self, time_s: float) -> Verdict:
        self.start_s = time_s
        return "cut"
