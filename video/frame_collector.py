"""Picks the wanted frames from those that a decoder returns, and keeps their pixels."""

from __future__ import annotations

from collections.abc import Iterable

import av
import numpy as np
from numpy.typing import NDArray

from adafocus.video.errors import FOREIGN_ERRORS
from adafocus.video.frame_index import FrameIndex
from adafocus.video.transform import Orientation, Resizer, orientation


class FrameCollector:
    """The wanted frames decoded so far, as squares of pixels. No other frame is converted.

    A *visit* is a run of packets decoded without a seek in between.

    Attributes:
        kept: pixels by frame index.
        needed: indices of the wanted frames that are still missing.
        failed: packets, by number in decode order, that the decoder rejected.
        left_out: packets, by number in decode order, that were not decoded in this visit.
        shown: number of frames that the decoder returned, wanted or not.
        corrupt: number of those that the decoder flagged as corrupt.
        first_shape: width, height and orientation of the first frame that the decoder returned.
    """

    def __init__(self, index: FrameIndex, wanted: Iterable[int], resizer: Resizer) -> None:
        self.kept: dict[int, NDArray[np.uint8]] = {}
        self.needed = set(wanted)
        self.failed: set[int] = set()
        self.left_out: set[int] = set()
        self.shown = 0
        self.corrupt = 0
        self.first_shape: tuple[int, int, Orientation] | None = None
        self._index = index
        # Indexing a memoryview gives Python's numbers several times as fast as indexing an array.
        self._order, self._frame_of = index.order.data, index.frame_of.data
        self._resizer = resizer
        self.begin(0)

    def began_too_late(self, frame: int) -> bool:
        """Tells whether this visit should have returned a frame, but returned good ones only after it, or none.

        Then decoding could not start with the packet at which the visit began. If the decoder rejected that packet and
        later frames are good, the packet is damaged instead.
        """
        if not self._begun:
            return False
        if self._first_good is None:
            return True
        return frame < self._first_good and self.packet(frame) >= self._begun and self._begun not in self.failed

    def begin(self, packet: int) -> None:
        """Starts a visit at a key frame, given by its packet."""
        self._begun = packet
        self._first_of_visit = max(0, self._frame_of[packet]) if packet else 0
        self.left_out.clear()
        self._first_good: int | None = None
        self._passed = -1
        self._last: av.VideoFrame | None = None

    @property
    def begun(self) -> int:
        """The packet at which this visit began."""
        return self._begun

    def has_passed(self, frame: int) -> bool:
        """Tells whether this visit is beyond a frame: it will not come any more."""
        return frame <= self._passed

    def want(self, wanted: Iterable[int]) -> None:
        """Collects these frames from now on; of those that were kept, the others are dropped. The visit goes on."""
        needed = set(wanted)
        self.kept = {index: pixels for index, pixels in self.kept.items() if index in needed}
        self.needed = needed - self.kept.keys()
        self.failed &= {self._begun}
        self.shown = self.corrupt = 0

    def packet(self, frame: int) -> int:
        """Returns the packet, by number in decode order, that completes a frame."""
        return self._order[frame]

    def expects(self, frame: int, at: int) -> bool:
        """Tells whether a frame may still come in this visit, whose packets before ``at`` have been decoded."""
        return self._passed < frame and self._begun <= self.packet(frame) < at

    def take(self, frames: Iterable[av.VideoFrame], at: int) -> None:
        """Keeps the wanted ones of the next frames; the visit's packets before ``at`` have been decoded."""
        for frame in frames:
            self.shown += 1
            if self.first_shape is None:
                self.first_shape = frame.width, frame.height, orientation(frame)
            corrupt = frame.is_corrupt
            self.corrupt += corrupt
            number = self._number(frame)
            if number is None:
                continue
            if number > self._passed + 1:
                self._keep_between(number, at)
            self._passed = max(self._passed, number)
            self._last = None if corrupt else frame
            if self._first_good is None and self._last is not None:
                self._first_good = number
            self._keep(number, self._last)

    def _keep_between(self, number: int, at: int) -> None:
        """Keeps pictures that were decoded but are not shown by themselves: the one shown before stays on display."""
        for between in [index for index in self.needed if self._passed < index < number]:
            packet = self.packet(between)
            if self._begun <= packet < at and packet not in self.failed and self._follows_the_last(between):
                self._keep(between, self._last)

    def _follows_the_last(self, frame: int) -> bool:
        """Tells whether the last frame is shown right before this one: none in between was left out."""
        return not any(self.packet(other) in self.left_out for other in range(self._passed + 1, frame))

    def _number(self, frame: av.VideoFrame) -> int | None:
        """Returns the frame's index in the video; ``None`` if it is unknown, or before this visit's key frame."""
        if not self._index.ordered:
            return self._passed + 1
        packet = frame.pts  # the cursor puts the packet's number there
        if packet is None or not 0 <= packet < len(self._frame_of):
            return None
        number = self._frame_of[packet]
        return number if number >= self._first_of_visit else None

    def _keep(self, number: int, frame: av.VideoFrame | None) -> None:
        if frame is None or number not in self.needed:
            return
        try:
            self.kept[number] = self._resizer(frame, orientation(frame))
        except MemoryError:
            raise
        except FOREIGN_ERRORS:
            return
        self.needed.discard(number)
