"""Cuts a video into windows of time: which frames belong to which. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Windows whose ends differ by less than this are equal: times are sums of floating-point numbers.
_TOLERANCE_S = 1e-6


@dataclass(frozen=True)
class Window:
    """A stretch of a video.

    Attributes:
        start_s: seconds after the video's first frame.
        end_s: likewise; at most the end of the video.
        first: index of its first frame.
        frames: number of its frames, at least 1.
    """

    start_s: float
    end_s: float
    first: int
    frames: int


@dataclass(frozen=True)
class Windows:
    """The windows of one video: each ``window_s`` long, one every ``stride_s``. The last one ends with the video.

    Attributes:
        times_s: seconds of each frame after the first, ascending.
        seconds: length of the video.
        window_s: length of a window, greater than 0.
        stride_s: from the start of a window to that of the next one, greater than 0.
    """

    times_s: NDArray[np.float64]
    seconds: float
    window_s: float
    stride_s: float

    @property
    def count(self) -> int:
        """Number of windows: as many as it takes to reach the end of the video, at least one."""
        return count_windows(self.seconds, self.window_s, self.stride_s)

    def window(self, number: int) -> Window:
        """The window with this number, from 0.

        A window during which no picture begins holds the one that is on display.

        Raises:
            ValueError: there is no such window.
        """
        if not 0 <= number < self.count:
            raise ValueError(f"the number of a window must be 0..{self.count - 1}, got {number}")
        start = number * self.stride_s
        reaches_end = start + self.window_s >= self.seconds - _TOLERANCE_S
        end = self.seconds if reaches_end else start + self.window_s
        first = int(np.searchsorted(self.times_s, start - _TOLERANCE_S, side="left"))
        stop = len(self.times_s) if reaches_end else int(np.searchsorted(self.times_s, end - _TOLERANCE_S, side="left"))
        if stop <= first:
            first, stop = max(0, min(first, len(self.times_s)) - 1), max(1, min(first, len(self.times_s)))
        return Window(start, max(end, start), first, stop - first)


def count_windows(seconds: float, window_s: float, stride_s: float) -> int:
    """Number of windows of a video of this length.

    Raises:
        ValueError: a length is not greater than 0, or not finite.
    """
    if not (0 < window_s < math.inf and 0 < stride_s < math.inf):
        raise ValueError(f"window_s and stride_s must be greater than 0, got {window_s} and {stride_s}")
    if seconds <= window_s + _TOLERANCE_S:
        return 1
    # With gaps between the windows, the video may end in a gap.
    most = 1 + math.ceil((seconds - window_s - _TOLERANCE_S) / stride_s)
    return most if (most - 1) * stride_s < seconds - _TOLERANCE_S else most - 1
