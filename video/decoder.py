"""Wanted frames, pulled one at a time in the order in which the model visits them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from video.errors import Undecodable
from video.frame_collector import Catch
from video.plan import PacketRange, plan
from video.probe import OpenVideo
from video.transform import Geometry, Resizer

# A video counts as garbage, encrypted perhaps, if this many frames came out before the first good wanted one, and more
# than half of them are flagged as corrupt.
_ENOUGH_TO_JUDGE = 8


@dataclass(frozen=True)
class Frame:
    """One wanted frame as the model sees it.

    Attributes:
        position: place in the visiting order, from 0.
        index: place in the video, from 0, in presentation order.
        time_s: seconds after the video's first frame; ``None`` if its timestamps cannot be believed.
        pixels: ``uint8 [crop, crop, 3]``, RGB, contiguous.
    """

    position: int
    index: int
    time_s: float | None
    pixels: NDArray[np.uint8]


class FrameStream:
    """The wanted frames of an open video, decoded no further than the next one needs.

    The file is decoded along ``plan.plan``: by seeking to key frames, or in one scan forward, and in any case never
    more of it than one scan has. Frames are recognised by their presentation times, so that a seek gives what a scan
    would have given, bit for bit; where times cannot be believed, there is one scan, and frames are counted. Pictures
    that nobody wants and no other picture needs are passed over (`disposable.py`), until there is a sign of damage.

    A wanted frame that cannot be decoded, or is flagged as corrupt, is left out; the caller sees it by the count. If a
    picture was stored but never shown on its own, the one on display at its time stands for it. If a key frame turns
    out to be none (a visit that began there gave nothing good), what is missing is scanned for from the start of the
    file, as far as the promise of one scan allows: frames near the end may then be left out.
    """

    def __init__(
        self,
        video: OpenVideo,
        wanted: Sequence[int],
        geometry: Geometry,
        *,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """Plans, and decodes nothing yet.

        Args:
            video: open, and used by no other stream.
            wanted: frame index per visited position, as ``sampler.wanted_frames`` gives them.
            geometry: of the square that the model sees.
            between: called after every packet; what it raises ends a long ``next`` early.

        Raises:
            ValueError: nothing is wanted, or a frame that the video does not have.
        """
        if not wanted or not 0 <= min(wanted) <= max(wanted) < video.index.frames:
            raise ValueError(f"wanted frames must be some of 0..{video.index.frames - 1}, got {tuple(wanted)}")
        self._video = video
        self._between = between
        self._cursor = video.cursor
        self._wanted = tuple(wanted)
        self._uses = Counter(self._wanted)
        self._position = 0
        self._given = 0
        self._stretches = list(plan(video.index, self._wanted, self._cursor.at))
        self._running = False
        self._rescanned = False
        self._sparing = True
        self._catch = Catch(video.index, self._wanted, Resizer(geometry.resize, geometry.crop))
        self._catch.take(video.ahead, self._cursor.at)
        video.ahead = []
        # A picture that is stored but never shown on its own is stood in for by the one before it.
        shown = {max(index - 1, 0) for index in self._wanted} | set(self._wanted)
        self._needed_packets = {self._catch.packet(index) for index in shown}

    @property
    def frames_decoded(self) -> int:
        """Frames handed to the decoder since the video was opened, its first one included; none that was left out."""
        return self._cursor.decoded

    def next(self) -> Frame | None:
        """The next wanted frame in visiting order; ``None`` when there is nothing more.

        Raises:
            Undecodable: not a single wanted frame could be had, or what came before the first was mostly garbage.
            TooManyPixels: the video grew over the limits midway.
            MemoryError: this process may not have as much as decoding needs.
        """
        while self._position < len(self._wanted):
            index = self._wanted[self._position]
            while index not in self._catch.kept and self._advance(index):
                self._between()
            position, self._position = self._position, self._position + 1
            if index in self._catch.kept:
                return self._give(position, index)
        if not self._given:
            raise Undecodable("none of the wanted frames of the video can be decoded")
        return None

    def close(self) -> None:
        """Decodes nothing more; ``next`` returns ``None`` from now on."""
        self._given = max(self._given, 1)
        self._position = len(self._wanted)
        self._catch.kept.clear()

    def _give(self, position: int, index: int) -> Frame:
        shown, corrupt = self._catch.shown, self._catch.corrupt
        if not self._given and shown >= _ENOUGH_TO_JUDGE and 2 * corrupt > shown:
            raise Undecodable(f"{corrupt} of the first {shown} frames are garbage; the video may be encrypted")
        self._given += 1
        self._uses[index] -= 1
        kept = self._catch.kept
        pixels = kept[index] if self._uses[index] else kept.pop(index)
        return Frame(position, index, self._time(index), pixels)

    def _advance(self, index: int) -> bool:
        """Decodes one packet towards frame ``index``, or drains the decoder; false if that frame cannot be had."""
        following = self._stretches[0] if self._stretches else None
        if following is not None and following.position <= self._position:
            self._run(following)
            return True
        # All that was planned for this frame has been decoded. The decoder may still hold it back.
        if self._catch.expects(index, self._cursor.at) and not self._cursor.drained:
            if following is not None and (self._running or following.start == self._cursor.at):
                self._run(following)
            else:
                self._catch.take(self._cursor.drain().frames, self._cursor.at)
            return True
        return self._rescan()

    def _run(self, stretch: PacketRange) -> None:
        """Decodes the next packet of a stretch, after going to its start if need be."""
        if not self._running and (self._cursor.drained or self._cursor.at != stretch.start):
            if not self._cursor.drained:
                self._catch.take(self._cursor.drain().frames, self._cursor.at)
            self._cursor.goto(stretch.start)
            self._catch.begin(stretch.start)
        packet = self._cursor.at
        step = self._cursor.step(spare=self._sparing and packet not in self._needed_packets)
        if step.failed:
            self._catch.failed.add(packet)
        if step.left_out:
            self._catch.left_out.add(packet)
        self._catch.take(step.frames, self._cursor.at)
        # How a decoder conceals damage is nobody's promise: from now on it gets all that a scan would give it.
        self._sparing = self._sparing and not step.failed and not self._catch.corrupt
        # The decoder drains on its own where the file ends before its index does.
        self._running = self._cursor.at < stretch.stop and not self._cursor.drained
        if not self._running:
            del self._stretches[0]

    def _rescan(self) -> bool:
        """Scans from the start for what is missing, once, if the present visit began at a key frame that is none."""
        if self._rescanned or not self._catch.barren:
            return False
        self._rescanned = True
        self._sparing = False
        left = self._video.index.packets - self._cursor.decoded
        last = max(self._catch.packet(index) for index in self._catch.needed)
        stop = min(last + 1, left)
        self._stretches = [PacketRange(0, stop, self._position)] if stop > 0 else []
        return stop > 0

    def _time(self, index: int) -> float | None:
        order, pts = self._video.index.order, self._video.index.pts
        if not self._video.index.timed:
            return None
        return float((int(pts[order[index]]) - int(pts[order[0]])) * self._video.time_base)
