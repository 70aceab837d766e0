"""Which of the frames that come out of a decoder are wanted, and what is kept of them."""

from __future__ import annotations

from collections.abc import Iterable

import av
import numpy as np
from numpy.typing import NDArray

from video.errors import FOREIGN_ERRORS
from video.frame_index import FrameIndex
from video.transform import Resizer, clockwise_rotation


class Catch:
    """The wanted frames had so far, as squares of pixels; only wanted frames are ever converted.

    Attributes:
        kept: pixels by frame index.
        needed: frame indices still to come.
        failed: packets, by number in decode order, that the decoder rejected.
        left_out: packets, likewise, that were not decoded in the present visit.
        shown: frames that came out, wanted or not.
        corrupt: how many of them the decoder flagged as corrupt.
    """

    def __init__(self, index: FrameIndex, wanted: Iterable[int], resizer: Resizer) -> None:
        self.kept: dict[int, NDArray[np.uint8]] = {}
        self.needed = set(wanted)
        self.failed: set[int] = set()
        self.left_out: set[int] = set()
        self.shown = 0
        self.corrupt = 0
        self._index = index
        self._times = index.pts[index.order]
        self._resizer = resizer
        self.begin(0)

    @property
    def barren(self) -> bool:
        """Whether the present visit began after a seek and has given no good frame."""
        return self._begun > 0 and self._good == 0

    def begin(self, packet: int) -> None:
        """A visit begins at this key frame."""
        self._begun = packet
        self.left_out.clear()
        self._good = 0
        self._passed = -1
        self._last: av.VideoFrame | None = None

    def packet(self, frame: int) -> int:
        """The packet, by number in decode order, that shows a frame."""
        return int(self._index.order[frame])

    def expects(self, frame: int, at: int) -> bool:
        """Whether a frame may still come out in the present visit, of which the packets before ``at`` were decoded."""
        return self._passed < frame and self._begun <= self.packet(frame) < at

    def take(self, frames: Iterable[av.VideoFrame], at: int) -> None:
        """Keeps what is wanted of the next frames that came out; the visit's packets before ``at`` were decoded."""
        for frame in frames:
            self.shown += 1
            self.corrupt += frame.is_corrupt
            number = self._number(frame)
            if number is None:
                continue
            # Decoded, and not shown on its own: what was on display just before stays on display.
            for between in [index for index in self.needed if self._passed < index < number]:
                packet = self.packet(between)
                if self._begun <= packet < at and packet not in self.failed and self._follows_the_last(between):
                    self._keep(between, self._last)
            self._passed = max(self._passed, number)
            self._last = None if frame.is_corrupt else frame
            self._good += self._last is not None
            self._keep(number, self._last)

    def _follows_the_last(self, frame: int) -> bool:
        """Whether the frame that came out last was on display just before this one: none in between was left out."""
        return not any(self.packet(other) in self.left_out for other in range(self._passed + 1, frame))

    def _number(self, frame: av.VideoFrame) -> int | None:
        """Its index in the video; ``None`` if unknown, or shown before the key frame of this visit."""
        if not self._index.timed:
            return self._passed + 1
        if frame.pts is None:
            return None
        place = int(np.searchsorted(self._times, frame.pts))
        if place == len(self._times) or self._times[place] != frame.pts:
            return None
        if self._begun and frame.pts < self._index.pts[self._begun]:
            return None
        return place

    def _keep(self, number: int, frame: av.VideoFrame | None) -> None:
        if frame is None or number not in self.needed:
            return
        try:
            self.kept[number] = self._resizer(frame, clockwise_rotation(frame))
        except MemoryError:
            raise
        except FOREIGN_ERRORS:
            return
        self.needed.discard(number)
