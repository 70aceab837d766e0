"""Finds packets whose pictures no other picture refers to. They need not be decoded if they are not wanted.

H.264 marks such pictures in each of their NAL units (nal_ref_idc 0), HEVC by their type (sub-layer non-reference, in
the highest sub-layer). The mark is used only if omitting the picture cannot change any other one that the decoder
returns:

- the packet holds nothing else: no parameter set, no message to the decoder;
- every sequence parameter set so far can be parsed, permits frames only (two fields may share a frame, and a packet),
  permits no gaps in the numbering of frames, and promises how far pictures are reordered; and
- the times in the container's index keep that promise. A decoder that finds it broken delays its output, and which
  pictures it then loses depends on all that it decoded.

Everything else is decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from adafocus.video.bits import UnreadableError
from adafocus.video.frame_index import FrameIndex
from adafocus.video.nal_units import Bytes, H264Units, HevcUnits, NalUnits
from adafocus.video.parameter_sets import Ordering, h264_ordering, hevc_ordering

# No decoder delays its output by more pictures.
_MOST_REORDERED = 16
_SET_BYTES = 4096


class Disposables:
    """Tells of each packet, in the order in which they are read, whether it may be left out."""

    def __init__(self, codec: str, extradata: bytes, index: FrameIndex) -> None:
        """Prepares for a stream.

        Args:
            codec: FFmpeg's name of the format.
            extradata: the decoder's configuration, from the container; may be empty.
            index: its packets.
        """
        formats: dict[str, type[_H264] | type[_Hevc]] = {"h264": _H264, "hevc": _Hevc}
        self._format: _Format | None = formats[codec]() if codec in formats else None
        self._reordered = reordered(index) if self._format is not None else None
        self._known = False
        if self._reordered is None:
            self._format = None
        else:
            self._configure(extradata)

    @property
    def reads(self) -> bool:
        """Whether packets must be read: nothing is left out of this stream otherwise."""
        return self._format is not None

    def may_leave_out(self, packet: Bytes) -> bool:
        """Tells whether no other picture refers to the packet's; also learns from its parameter sets."""
        format_ = self._format
        if format_ is None:
            return False
        units = format_.units.split(packet)
        for unit in units:
            if format_.is_parameter_set(unit):
                self._learn(bytes(unit[:_SET_BYTES]))
        return self._known and self._format is not None and format_.are_disposable(units)

    def _configure(self, extradata: bytes) -> None:
        format_ = self._format
        if format_ is None or not extradata:
            return
        try:
            for unit in format_.units.configure(extradata):
                if format_.is_parameter_set(unit):
                    self._learn(unit)
        except IndexError:
            self._format = None

    def _learn(self, unit: bytes) -> None:
        """Reads a sequence parameter set; after one that does not permit it, no packet is left out any more."""
        format_, kept = self._format, self._reordered
        if format_ is None or kept is None:
            return
        try:
            ordering = format_.ordering(unit)
        except UnreadableError:
            self._format = None
            return
        if not ordering.whole_frames or ordering.reordered is None or ordering.reordered < kept:
            self._format = None
        self._known = True


def reordered(index: FrameIndex) -> int | None:
    """Returns how many packets at most precede another one in decoding and follow it in display; None if unknown."""
    count = index.packets
    if not index.ordered or index.frames != count:
        return None
    rank = np.empty(count, dtype=np.int64)
    rank[index.order] = np.arange(count)
    # No packet precedes by so many places one that is displayed earlier: the count below is then whole.
    highest, places = np.maximum.accumulate(rank), range(1, _MOST_REORDERED + 2)
    reach = next((reach for reach in places if not (highest[:-reach] > rank[reach:]).any()), None)
    if reach is None:
        return None
    overtaken = np.zeros(count, dtype=np.int64)
    for distance in range(1, min(reach, count)):
        overtaken[distance:] += rank[:-distance] > rank[distance:]
    return int(overtaken.max())


class _Format(Protocol):
    """The marks of one format."""

    units: NalUnits

    def is_parameter_set(self, unit: Bytes) -> bool:
        """Tells whether a unit is a sequence parameter set."""
        ...

    def are_disposable(self, units: Sequence[Bytes]) -> bool:
        """Tells whether a packet's units hold a picture, and only pictures that no other picture refers to."""
        ...

    def ordering(self, unit: bytes) -> Ordering:
        """Returns what a sequence parameter set says.

        Raises:
            UnreadableError: it cannot be parsed.
        """
        ...


class _H264:
    def __init__(self) -> None:
        self.units: NalUnits = H264Units()

    def is_parameter_set(self, unit: Bytes) -> bool:
        """A subset parameter set counts too: its stream has pictures in layers."""
        return unit[0] & 31 in (7, 15)

    def are_disposable(self, units: Sequence[Bytes]) -> bool:
        """Besides slices, only delimiters and filler data are allowed."""
        pictures = 0
        for unit in units:
            head = unit[0]
            if head == 1:
                pictures += 1
            elif head & 31 not in (9, 12):
                return False
        return pictures > 0

    def ordering(self, unit: bytes) -> Ordering:
        if unit[0] & 31 != 7:
            raise UnreadableError
        return h264_ordering(unit[1:])


class _Hevc:
    def __init__(self) -> None:
        self.units: NalUnits = HevcUnits()
        self._top_layer = 0

    def is_parameter_set(self, unit: Bytes) -> bool:
        return unit[0] >> 1 & 63 == 33

    def are_disposable(self, units: Sequence[Bytes]) -> bool:
        """Besides slices of the base layer's highest sub-layer, only delimiters and filler data are allowed."""
        pictures, others = 0, 0
        for unit in units:
            kind, sub_layer, layer = unit[0] >> 1 & 63, (unit[1] & 7) - 1, (unit[0] & 1) << 5 | unit[1] >> 3
            self._top_layer = max(self._top_layer, sub_layer)  # more than was announced
            if kind <= 14 and kind % 2 == 0 and layer == 0 and sub_layer == self._top_layer:
                pictures += 1
            elif kind not in (35, 38):
                others += 1
        return pictures > 0 and not others

    def ordering(self, unit: bytes) -> Ordering:
        ordering = hevc_ordering(unit[2:])
        self._top_layer = max(self._top_layer, ordering.top_layer)
        return ordering
