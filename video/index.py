"""Indexes every frame of a file by reading its packets, without decoding one.

The container's own index is not used here: in MP4 it holds decoding times only, in Matroska only key frames, MPEG-TS
has none, and if a file was cut, it lists frames that are gone. Reading all packets takes some microseconds a frame and
needs the whole file; `mp4_index.py` is for files that need not have arrived completely.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import av
import numpy as np
from av.video.stream import VideoStream

from adafocus.video.clock import LEAST_LEAP_S
from adafocus.video.errors import EmptyStream, TooLong, Undecodable
from adafocus.video.frame_index import UNKNOWN_TIME, FrameIndex, PacketTable, StreamTraits, build_index
from adafocus.video.limits import MediaLimits
from adafocus.video.picture_headers import PLAIN, PictureHeader, header_reader

_UNKNOWN_ANCHOR = 2


@dataclass
class _Columns:
    """The values collected from each packet."""

    pts: array[int] = field(default_factory=lambda: array("q"))
    dts: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    durations: array[int] = field(default_factory=lambda: array("q"))
    keys: array[int] = field(default_factory=lambda: array("q", [0]))
    pictures: array[int] = field(default_factory=lambda: array("q"))
    anchors: array[int] = field(default_factory=lambda: array("b"))

    def add(self, packet: av.Packet[VideoStream], pts: int | None, dts: int | None, header: PictureHeader) -> None:
        """Adds a packet, whose times are passed because reading them takes time."""
        self.pts.append(UNKNOWN_TIME if pts is None else pts)
        self.dts.append(UNKNOWN_TIME if dts is None else dts)
        self.sizes.append(packet.size)
        self.durations.append(packet.duration or 0)
        if header.starts and len(self.pts) > 1:
            self.keys.append(len(self.pts) - 1)
        if packet.is_discard or not header.shown:
            self.pictures.append(-1)
            return
        if not header.second_field or not self.anchors:
            self.anchors.append(_UNKNOWN_ANCHOR if header.anchor is None else header.anchor)
        self.pictures.append(len(self.anchors) - 1)

    def table(self) -> PacketTable:
        """Returns all columns as arrays."""
        pts, dts, sizes, durations, keys, pictures = (
            np.frombuffer(column, dtype=np.int64)
            for column in (self.pts, self.dts, self.sizes, self.durations, self.keys, self.pictures)
        )
        anchors = np.frombuffer(self.anchors, dtype=np.int8)
        told = None if (anchors == _UNKNOWN_ANCHOR).any() else anchors.astype(np.bool_)
        return PacketTable(pts, dts, sizes, durations, keys, pictures, told)


class _Stopwatch:
    """Adds up how long the packets read so far last, without the leaps of a clock."""

    def __init__(self, traits: StreamTraits) -> None:
        self._leap = int(LEAST_LEAP_S / traits.time_base) if traits.clock_may_leap else None
        self._last: int | None = None
        self.elapsed = 0

    def see(self, time: int | None) -> None:
        """Adds a packet with this time."""
        if time is None:
            return
        step = 0 if self._last is None else time - self._last
        self._last = time
        if step > 0 and (self._leap is None or step <= self._leap):
            self.elapsed += step


def read_index(packets: Iterable[av.Packet[VideoStream]], traits: StreamTraits, limits: MediaLimits) -> FrameIndex:
    """Reads all packets of a stream from its start; keeps only their properties.

    Raises:
        TooLong: the packets last longer than ``limits.max_seconds``, or are more than ``limits.max_frames``; raised as
            soon as that is found, not at the end.
        EmptyStream: no packet shows a frame.
        Undecodable: a packet is encrypted.
    """
    longest = int(limits.max_seconds / traits.time_base)
    headers = header_reader(traits.codec, traits.extradata)
    columns = _Columns()
    stopwatch = _Stopwatch(traits)
    for number, packet in enumerate(packets):
        if number >= limits.max_frames:
            raise TooLong(f"the video has more than {limits.max_frames} frames, the most permitted")
        if traits.may_be_encrypted and packet.has_sidedata("encryption_info"):
            raise Undecodable("the video is encrypted; only videos without encryption can be read")
        pts, dts, marked = packet.pts, packet.dts, packet.is_keyframe
        header = headers.read(memoryview(packet), marked) if marked or headers.reads_all else PLAIN
        columns.add(packet, pts, dts, header)
        stopwatch.see(pts if dts is None else dts)
        if stopwatch.elapsed > longest:
            raise TooLong(f"the video is longer than {limits.max_seconds:g} s, the most permitted")
    if not columns.anchors:
        raise EmptyStream("the video stream holds no frame")
    return build_index(columns.table(), traits)
