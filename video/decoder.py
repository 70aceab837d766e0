"""Returns the wanted frames one at a time, in the order in which the model visits them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from adafocus.video.errors import Undecodable
from adafocus.video.frame_collector import FrameCollector
from adafocus.video.plan import PacketRange, further_ranges, ranges
from adafocus.video.probe import OpenVideo
from adafocus.video.transform import Geometry, Resizer

# If more than half of at least so many frames before the first wanted one are flagged as corrupt, the video is taken to
# be garbage: encrypted, perhaps.
_ENOUGH_TO_JUDGE = 8


@dataclass(frozen=True)
class Frame:
    """One wanted frame as the model sees it.

    Attributes:
        position: place in the visiting order, from 0.
        index: place in the video, from 0, in presentation order.
        time_s: seconds after the video's first frame; ``None`` if nothing tells it.
        pixels: ``uint8 [crop, crop, 3]``, RGB, contiguous.
    """

    position: int
    index: int
    time_s: float | None
    pixels: NDArray[np.uint8]


class FrameStream:
    """The wanted frames of an open video. Decodes no further than the next frame needs.

    The file is decoded as ``plan.plan`` says: by seeking to key frames, or in one scan forward, and never more packets
    than one scan has. A frame is recognised by the packet that it comes from, so that a seek returns exactly the pixels
    that a scan would. If the order of frames is not known in advance, there is one scan, and frames are counted.
    Unwanted pictures to which no other picture refers are not decoded (`disposable.py`), unless the video is damaged.

    A wanted frame that cannot be decoded, or that is flagged as corrupt, is omitted. If a picture is stored but not
    shown by itself, the one on display at its time is returned for it. If decoding cannot start at a packet that is
    marked as a key frame, the file is scanned from its start for what is missing, as far as the limit of one scan
    permits: frames near the end may then be omitted.

    A video that has not been looked at is decoded from the key frame before the first wanted frame. If anything there
    is not as announced, its first frame is looked at after all, and everything is as if that had been done before.
    """

    def __init__(
        self,
        video: OpenVideo,
        wanted: Sequence[int],
        geometry: Geometry | Resizer,
        *,
        between: Callable[[], None] = lambda: None,
        later: Sequence[int] = (),
    ) -> None:
        """Plans the decoding; nothing is decoded yet.

        Args:
            video: open, and used by no other stream.
            wanted: frame index per visited position, as ``sampler.wanted_frames`` returns them.
            geometry: of the square that the model sees, or a resizer for it, which may have served other videos.
            between: called after every packet; an exception that it raises ends a long ``next`` early.
            later: frames that `go_on` will probably ask for: kept if they come by, and not decoded otherwise.

        Raises:
            ValueError: no frame is wanted, or one that the video does not have.
        """
        self._video = video
        self._between = between
        self._cursor = video.cursor
        self._resizer = (
            geometry if isinstance(geometry, Resizer) else Resizer(geometry.resize, geometry.crop, geometry.fit)
        )
        self._charged = 0
        self._begin(wanted, later)
        if not video.looked_at and self._starts_with_the_file():
            video.look()
            self._begin(wanted, later)

    def _begin(self, wanted: Sequence[int], later: Sequence[int]) -> None:
        """Plans from where the decoder is, and takes over what it has returned."""
        video = self._video
        self._cursor = video.cursor
        self._collector = FrameCollector(video.index, (), self._resizer)
        self._want(wanted, later)
        self._planned = ranges(video.index, self._wanted, self._cursor.at)
        self._collector.take(video.ahead, self._cursor.at)
        video.ahead = ()

    def _starts_with_the_file(self) -> bool:
        """Tells whether the plan begins at the first packet, or nothing is known of the order of packets."""
        self._ranges.extend(islice(self._planned, 1))
        return not self._ranges or not self._ranges[0].start or not self._video.index.seekable

    def go_on(self, wanted: Sequence[int], later: Sequence[int] = ()) -> None:
        """Asks for other frames of the same video, from where the decoder is; those not returned yet are dropped.

        Raises:
            ValueError: no frame is wanted, or one that the video does not have.
        """
        self._charged = self._cursor.decoded
        self._want(wanted, later)
        self._planned = self._further_ranges()

    def _want(self, wanted: Sequence[int], later: Sequence[int]) -> None:
        index = self._video.index
        if not wanted or not 0 <= min(wanted) <= max(wanted) < index.frames:
            raise ValueError(f"wanted frames must be some of 0..{index.frames - 1}, got {tuple(wanted)}")
        self._wanted = tuple(wanted)
        self._uses = Counter(self._wanted)
        self._position = 0
        self._given = 0
        self._later = frozenset(later)
        self._ranges: list[PacketRange] = []  # the next one, once it has been asked for
        self._running = False
        self._rescanned = False
        self._sparing = True
        all_wanted = self._later.union(self._wanted)
        self._collector.want(all_wanted)
        # A picture that is stored but not shown by itself is replaced by the one before it.
        shown = {max(index - 1, 0) for index in all_wanted} | all_wanted
        self._needed_packets = {self._collector.packet(index) for index in shown}

    def _further_ranges(self) -> Iterator[PacketRange]:
        index, cursor, collector = self._video.index, self._cursor, self._collector
        missing = [frame for frame in self._wanted if frame not in collector.kept]
        if not index.ordered:
            passed = any(collector.has_passed(frame) for frame in missing)
            start = 0 if passed else cursor.at
            return iter([PacketRange(start, index.packets, 0)] if missing and start < index.packets else [])
        if cursor.drained:
            return self._at_their_positions(further_ranges(index, missing, index.packets, index.packets), missing)
        missing = [frame for frame in missing if not collector.expects(frame, cursor.at)]
        return self._at_their_positions(further_ranges(index, missing, collector.begun, cursor.at), missing)

    def _at_their_positions(self, planned: Iterator[PacketRange], missing: Sequence[int]) -> Iterator[PacketRange]:
        """Turns positions among the missing frames into positions among the wanted ones."""
        positions = [position for position, frame in enumerate(self._wanted) if frame in set(missing)]
        return (PacketRange(it.start, it.stop, positions[it.position]) for it in planned)

    @property
    def frames_decoded(self) -> int:
        """Packets handed to the decoder for these frames; for the first ones, since the video was opened."""
        return self._cursor.decoded - self._charged

    def next(self) -> Frame | None:
        """Returns the next wanted frame in visiting order; ``None`` after the last.

        Raises:
            Undecodable: no wanted frame can be decoded, or most of what was decoded before the first one is garbage.
            TooManyPixels: the pictures exceed the limits from some packet on.
            MemoryError: decoding needs more memory than this process may have.
        """
        between = self._between
        while self._position < len(self._wanted):
            index = self._wanted[self._position]
            while index not in self._collector.kept and not self._is_doubtful() and self._advance(index):
                between()
            if not self._video.looked_at and not self._is_as_announced(index):
                self._video.look()
                self._begin(self._wanted, tuple(self._later))
                continue
            position, self._position = self._position, self._position + 1
            if index in self._collector.kept:
                return self._give(position, index)
        if not self._given:
            raise Undecodable("none of the wanted frames of the video can be decoded")
        return None

    def _is_doubtful(self) -> bool:
        """Tells whether a video that has not been looked at should be: something was damaged."""
        if self._video.looked_at:
            return False
        return bool(self._collector.failed or self._collector.corrupt or self._rescanned)

    def _is_as_announced(self, index: int) -> bool:
        """Tells whether the first wanted frame came, without damage and as large as the header says."""
        shape = self._collector.first_shape
        came = index in self._collector.kept and not self._is_doubtful() and shape is not None
        return came and shape is not None and self._video.is_like(*shape)

    def close(self) -> None:
        """Ends the stream: nothing more is decoded, and ``next`` returns ``None``."""
        self._given = max(self._given, 1)
        self._position = len(self._wanted)
        self._collector.kept.clear()

    def _give(self, position: int, index: int) -> Frame:
        shown, corrupt = self._collector.shown, self._collector.corrupt
        if not self._given and shown >= _ENOUGH_TO_JUDGE and 2 * corrupt > shown:
            raise Undecodable(f"{corrupt} of the first {shown} frames are garbage; the video may be encrypted")
        self._given += 1
        self._uses[index] -= 1
        kept = self._collector.kept
        pixels = kept[index] if self._uses[index] or index in self._later else kept.pop(index)
        return Frame(position, index, self._time(index), pixels)

    def _advance(self, index: int) -> bool:
        """Decodes one packet towards frame ``index``, or drains the decoder; false if the frame cannot be decoded."""
        if not self._ranges:
            self._ranges.extend(islice(self._planned, 1))
        following = self._ranges[0] if self._ranges else None
        if following is not None and following.position <= self._position:
            self._run(following)
            return True
        # All packets that were planned for this frame have been decoded. The decoder may still hold it.
        if self._collector.expects(index, self._cursor.at) and not self._cursor.drained:
            if following is not None and (self._running or following.start == self._cursor.at):
                self._run(following)
            elif self._later:  # a decoder that was drained could not go on from here
                self._step(spare=False)
            else:
                self._collector.take(self._cursor.drain().frames, self._cursor.at)
            return True
        return self._rescan(index)

    def _run(self, packets: PacketRange) -> None:
        """Decodes the next packet of a range, after going to its start if necessary."""
        cursor = self._cursor
        if not self._running and (cursor.drained or cursor.at != packets.start):
            if not cursor.drained:
                self._collector.take(cursor.drain().frames, cursor.at)
            cursor.goto(packets.start)
            self._collector.begin(packets.start)
            if not self._rescanned and not cursor.is_at_start():
                self._scan_from_start()
                return
        self._step(spare=self._sparing and cursor.at not in self._needed_packets)
        # The decoder is drained if the file ends before its index does.
        self._running = cursor.at < packets.stop and not cursor.drained
        if not self._running:
            del self._ranges[0]

    def _step(self, *, spare: bool) -> None:
        """Decodes the next packet; one whose picture can be spared is left out."""
        cursor, collector = self._cursor, self._collector
        packet = cursor.at
        step = cursor.step(spare=spare)
        if step.failed:
            collector.failed.add(packet)
        elif step.left_out:
            collector.left_out.add(packet)
        else:
            collector.take(step.frames, cursor.at)
        # How a decoder conceals damage may depend on every packet: from now on it gets all that a scan would give it.
        if step.failed or collector.corrupt:
            self._sparing = False

    def _rescan(self, index: int) -> bool:
        """Scans once from the start for what is missing, if decoding could not start where this visit began."""
        if self._rescanned or not self._collector.began_too_late(index):
            return False
        return self._scan_from_start()

    def _scan_from_start(self) -> bool:
        """Replaces the plan by a scan for all that is missing; false if no further packet may be decoded."""
        self._rescanned = True
        self._sparing = False
        left = self._video.index.packets - self.frames_decoded
        last = max(self._collector.packet(index) for index in self._collector.needed)
        stop = min(last + 1, left)
        self._planned = iter(())
        self._ranges = [PacketRange(0, stop, self._position)] if stop > 0 else []
        return stop > 0

    def _time(self, index: int) -> float | None:
        times = self._video.index.times_s
        return None if times is None else float(times[index])
