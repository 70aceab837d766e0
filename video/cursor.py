"""Packets into frames, one packet at a time: the only place that hands bytes to a decoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from video.errors import FOREIGN_ERRORS
from video.source import Source

# A demuxer that fails this often in a row has nothing more to give.
_DEMUX_RETRIES = 16


class Packets:
    """The stream's packets from where the container stands, past those that cannot be read."""

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
            except FOREIGN_ERRORS:
                self._demuxing = self._container.demux(self._stream)
                failures += 1
                continue
            # An empty packet would put the decoder into its draining state.
            if packet.size:
                return packet
        raise StopIteration


@dataclass
class Step:
    """What one packet gave: frames in presentation order, often of earlier packets; whether it was a bad packet."""

    frames: list[av.VideoFrame] = field(default_factory=list)
    failed: bool = False


class Cursor:
    """A decoder at a place in the stream.

    Attributes:
        at: number in decode order of the packet that comes next.
        decoded: packets handed to the decoder so far: the truthful price of what was had.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._packets = Packets(source.container, source.stream)
        self._drained = False
        self.at = 0
        self.decoded = 0

    def step(self) -> Step | None:
        """Decodes the next packet; after the last one drains the decoder; ``None`` after that.

        Raises:
            TooManyPixels: a frame is larger than the limits allow.
        """
        if self._drained:
            return None
        packet = next(self._packets, None)
        if packet is None:
            return self.drain()
        self.at += 1
        self.decoded += 1
        return self._decode(packet)

    def drain(self) -> Step:
        """The frames that the decoder still holds. It can only go on after a seek."""
        self._drained = True
        return self._decode(None)

    def _decode(self, packet: av.Packet[VideoStream] | None) -> Step:
        try:
            frames = self._source.stream.decode(packet)
        except FOREIGN_ERRORS:
            return Step(failed=True)
        for frame in frames:
            self._source.guard.check_frame(frame)
        return Step(frames)
