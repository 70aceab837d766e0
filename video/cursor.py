"""Decodes a stream one packet at a time. No other module hands bytes to a decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from adafocus.video.disposable import Disposables
from adafocus.video.errors import FOREIGN_ERRORS
from adafocus.video.frame_index import UNKNOWN_TIME, FrameIndex
from adafocus.video.picture_headers import header_reader
from adafocus.video.source import Source

# PyAV raises IndexError for the first packet of a stream that a damaged file announces midway.
_DEMUX_ERRORS = (*FOREIGN_ERRORS, IndexError)
# After so many failures in a row, the demuxer is taken to be at the end.
_DEMUX_RETRIES = 16
# So many unknown packets in a row may come after a seek before it counts as failed.
_STRANGERS = 16
# Among so many packets with one time, none is told from the others.
_MOST_ALIKE = 8


class Packets:
    """Iterates over a stream's packets from the container's position on; skips those that cannot be read."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container = container
        self._stream = stream
        self._demuxing = container.demux(stream)

    def __iter__(self) -> Iterator[av.Packet[VideoStream]]:
        return self

    def __next__(self) -> av.Packet[VideoStream]:
        failures = 0
        while failures < _DEMUX_RETRIES:
            try:
                packet = next(self._demuxing)
            except _DEMUX_ERRORS:
                self._demuxing = self._container.demux(self._stream)
                failures += 1
                continue
            # An empty packet would put the decoder into its draining state.
            if packet.size:
                return packet
        raise StopIteration


class PacketResult(NamedTuple):
    """The result of one packet.

    Attributes:
        frames: that the decoder returned, in presentation order; often those of earlier packets.
        failed: the decoder rejected the packet.
        left_out: the packet was not decoded, because its picture is not wanted and no other picture refers to it.
    """

    frames: Sequence[av.VideoFrame] = ()
    failed: bool = False
    left_out: bool = False


_NOTHING, _FAILED, _LEFT_OUT = PacketResult(), PacketResult(failed=True), PacketResult(left_out=True)


class Cursor:
    """A decoder, and its position in the stream.

    Attributes:
        at: number in decode order of the packet that comes next.
        decoded: packets handed to the decoder so far.
        drained: the decoder has returned all frames that it held, and continues only after ``goto``.
    """

    def __init__(self, source: Source, index: FrameIndex) -> None:
        """Starts before the first packet, whatever the position of the container, and reads nothing yet."""
        self._source = source
        self._index = index
        self._by_time = np.argsort(index.pts, kind="stable")
        self._times = index.pts[self._by_time]
        self._extradata = bytes(source.stream.codec_context.extradata or b"")
        self._disposables = Disposables(source.codec, self._extradata, index)
        self._pending: av.Packet[VideoStream] | None = None
        self._packets: Packets | None = None  # until it has gone to the first packet that it is asked for
        self.at = 0
        self.decoded = 0
        self.drained = False

    def step(self, *, spare: bool = False) -> PacketResult:
        """Decodes the next packet; if there is none, drains.

        Args:
            spare: the packet's picture is not wanted; it is not decoded if no other picture refers to it.

        Raises:
            TooManyPixels: a frame is larger than the limits permit, or the packet keeps more pictures in memory.
            MemoryError: decoding needs more memory than this process may have.
        """
        packet, self._pending = self._next_packet(), None
        if packet is None:
            return self.drain()
        number, self.at = self.at, self.at + 1
        disposables, guard = self._disposables, self._source.guard
        if disposables.reads or guard.reads:
            content = memoryview(packet)
            if disposables.reads and disposables.may_leave_out(content) and spare and not packet.is_keyframe:
                return _LEFT_OUT
            guard.check_packet(content)
        self.decoded += 1
        # Decoders hand a packet's time on to its frame: with its number in that place, a frame tells its packet.
        packet.pts = packet.dts = number
        return self._decode(packet)

    def drain(self) -> PacketResult:
        """Returns the frames that the decoder still holds.

        Raises:
            TooManyPixels: a frame is larger than the limits permit.
        """
        self.drained = True
        return self._decode(None)

    def goto(self, number: int) -> None:
        """Makes packet ``number`` the next one without decoding any; drops what the decoder held.

        If the container's seek fails or does not lead there, the file is opened again and read up to the packet.
        """
        self.at, self.drained, self._pending = number, False, None
        if self._is_recognisable(number) and any(self._seek(number, time) for time in self._seek_times(number)):
            return
        self._source.restart()
        self._packets = Packets(self._source.container, self._source.stream)
        for _ in range(number):
            if next(self._packets, None) is None:
                return

    def is_at_start(self) -> bool:
        """Tells whether decoding can start with the next packet; a container's index may be wrong about it."""
        packet = self._pending = self._next_packet()
        if packet is None or not self.at:
            return True
        return header_reader(self._source.codec, self._extradata).read(memoryview(packet), marked=True).starts

    def _next_packet(self) -> av.Packet[VideoStream] | None:
        if self._pending is not None:
            return self._pending
        if self._packets is None:
            self.goto(self.at)
        return self._pending if self._pending is not None or self._packets is None else next(self._packets, None)

    def _seek_times(self, number: int) -> list[int]:
        """Returns the times to try when seeking to a packet: demuxers differ in which time they look for."""
        index = self._index
        before = int(index.keys[max(int(np.searchsorted(index.keys, number)) - 1, 0)])
        return [int(index.pts[number]), int(index.dts[number]), int(index.pts[before])]

    def _seek(self, number: int, time: int) -> bool:
        if time == UNKNOWN_TIME:
            return False
        try:
            self._source.container.seek(time, stream=self._source.stream)
        except FOREIGN_ERRORS:
            return False
        self._packets = Packets(self._source.container, self._source.stream)
        strangers = 0
        for packet in self._packets:
            found = self._number(packet)
            if found == number:
                self._pending = packet
                return True
            strangers = strangers + 1 if found is None else 0
            if strangers > _STRANGERS or (found is not None and found > number):
                return False
        return False

    def _is_recognisable(self, number: int) -> bool:
        """Tells whether the packet can be told from every other one after a seek."""
        if not self._index.seekable:
            return False
        return self._only_packet(int(self._index.pts[number]), int(self._index.sizes[number])) == number

    def _number(self, packet: av.Packet[VideoStream]) -> int | None:
        """Returns a packet's number in decode order; ``None`` if the index does not hold exactly one like it."""
        return None if packet.pts is None else self._only_packet(packet.pts, packet.size)

    def _only_packet(self, pts: int, size: int) -> int | None:
        """Returns the only packet with this time and size; ``None`` if there is none, or several."""
        if pts == UNKNOWN_TIME:
            return None
        start = int(np.searchsorted(self._times, pts))
        found: list[int] = []
        for place in range(start, min(start + _MOST_ALIKE, len(self._times))):
            if self._times[place] != pts:
                return found[0] if len(found) == 1 else None
            if self._index.sizes[self._by_time[place]] == size:
                found.append(int(self._by_time[place]))
        return found[0] if len(found) == 1 and start + _MOST_ALIKE >= len(self._times) else None

    def _decode(self, packet: av.Packet[VideoStream] | None) -> PacketResult:
        try:
            frames = self._source.stream.decode(packet)
        except MemoryError:
            # The process has reached its limit; the next packet would fail in the same way.
            raise
        except FOREIGN_ERRORS:
            return _FAILED
        if not frames:
            return _NOTHING
        for frame in frames:
            self._source.guard.check_frame(frame)
        return PacketResult(frames)
