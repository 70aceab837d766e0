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
from numpy.typing import NDArray

from video.errors import TooLong, Undecodable
from video.limits import MediaLimits

UNKNOWN_TIME = -(2**63)
"""Stands for a time that a packet does not have: the least int64."""


@dataclass(frozen=True)
class FrameIndex:
    """The packets of a file in decode order, and which of them shows which frame.

    Attributes:
        timed: whether the presentation times can be believed: there for every frame and all different. If not, frames
            can only be counted as they come out of the decoder.
        pts: presentation time of each packet, units of the stream's time base; or ``UNKNOWN_TIME``.
        dts: decoding time, likewise.
        sizes: bytes of each packet; with its time, what tells it from another after a seek.
        keys: packets, by number in decode order, that decoding can start from, ascending; always holds 0.
        order: ``order[i]`` is the packet that shows frame i in presentation order.
        seconds: from the first frame to the end of the last; ``None`` if not timed.
    """

    timed: bool
    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    keys: NDArray[np.int64]
    order: NDArray[np.int64]
    seconds: float | None

    @property
    def packets(self) -> int:
        """Packets in the file: what one scan decodes."""
        return len(self.pts)

    @property
    def frames(self) -> int:
        """Frames that the file shows."""
        return len(self.order)


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


def index_of(
    pts: NDArray[np.int64],
    dts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    keys: NDArray[np.int64],
    shown: NDArray[np.int64],
    last_duration: int,
    time_base: Fraction,
) -> FrameIndex:
    """The index of packets with these properties. Pure.

    Args:
        pts: as `FrameIndex` has it; so are ``dts``, ``sizes`` and ``keys``.
        dts: likewise.
        sizes: likewise.
        keys: likewise.
        shown: packets that show a frame, ascending; at least one.
        last_duration: how long the frame that is shown last stays, units of the time base; 0 if unknown.
        time_base: seconds per unit.
    """
    times = pts[shown]
    order = shown[np.argsort(times, kind="stable")]
    timed = bool(times.min() != UNKNOWN_TIME and len(np.unique(times)) == len(times))
    seconds = None
    if timed:
        span = int(times.max()) - int(times.min())
        last = last_duration or (round(span / (len(times) - 1)) if len(times) > 1 else 0)
        seconds = float((span + last) * time_base)
    return FrameIndex(
        timed=timed,
        pts=pts,
        dts=dts,
        sizes=sizes,
        keys=keys,
        order=order if timed else shown,
        seconds=seconds,
    )
