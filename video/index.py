"""Every frame of a file by its packets, without decoding one.

The container's own index is not asked here: in MP4 it holds decoding times only, in Matroska only key frames, in
MPEG-TS nothing, and where a file was cut it speaks of frames that are gone. Reading all packets costs some 3 µs a
frame, and needs the whole file; `announced.py` is for the files that need not be waited for.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from av.video.stream import VideoStream

from video.errors import TooLong, Undecodable
from video.frame_index import UNKNOWN_TIME, FrameIndex, index_of
from video.limits import MediaLimits


@dataclass
class _Columns:
    """What is gathered of each packet while reading."""

    pts: array[int] = field(default_factory=lambda: array("q"))
    dts: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    keys: array[int] = field(default_factory=lambda: array("q", [0]))
    shown: array[int] = field(default_factory=lambda: array("q"))
    last_duration: int = 0


def read_index(
    packets: Iterable[av.Packet[VideoStream]], time_base: Fraction, codec: str, limits: MediaLimits
) -> FrameIndex:
    """Reads all packets of a stream, from its start, and keeps only their times.

    Raises:
        TooLong: the timestamps span more than ``limits.max_seconds``, or there are more than ``limits.max_frames``;
            found as soon as it is so, not at the end.
        Undecodable: there is no packet, or one is encrypted.
    """
    longest = int(limits.max_seconds / time_base)
    columns = _Columns()
    earliest, latest = 2**63 - 1, UNKNOWN_TIME
    for number, packet in enumerate(packets):
        if number >= limits.max_frames:
            raise TooLong(f"the video has more than {limits.max_frames} frames, the most permitted")
        if packet.has_sidedata("encryption_info"):
            raise Undecodable("the video is encrypted; only videos without encryption can be read")
        pts = packet.pts
        columns.pts.append(UNKNOWN_TIME if pts is None else pts)
        columns.dts.append(UNKNOWN_TIME if packet.dts is None else packet.dts)
        columns.sizes.append(packet.size)
        if packet.is_keyframe and number:
            columns.keys.append(number)
        if packet.is_discard or _is_hidden(packet, codec):
            continue
        columns.shown.append(number)
        if pts is None:
            continue
        earliest = min(earliest, pts)
        if pts > latest:
            latest, columns.last_duration = pts, packet.duration or 0
        if latest - earliest > longest:
            raise TooLong(f"the video is longer than {limits.max_seconds:g} s, the most permitted")
    return _index(columns, time_base)


def _is_hidden(packet: av.Packet[VideoStream], codec: str) -> bool:
    """Whether the packet holds a picture that is only referred to. Matroska stores VP8's as packets of their own."""
    return codec == "vp8" and not memoryview(packet)[0] >> 4 & 1


def _index(columns: _Columns, time_base: Fraction) -> FrameIndex:
    if not columns.shown:
        raise Undecodable("the video holds no frame")
    pts, dts, sizes, keys, shown = (
        np.frombuffer(column, dtype=np.int64)
        for column in (columns.pts, columns.dts, columns.sizes, columns.keys, columns.shown)
    )
    return index_of(pts, dts, sizes, keys, shown, columns.last_duration, time_base)
