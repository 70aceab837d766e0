"""Which packets hold pictures that no other picture needs: they may stay undecoded, if nobody wants to see them.

H.264 marks such pictures in each of their NAL units (nal_ref_idc 0), HEVC by their type (sub-layer non-reference, in
the highest sub-layer). The mark is believed only where leaving the picture out cannot show in any other one that
comes out of the decoder:

- the packet holds nothing else: no parameter set, no message to the decoder;
- every sequence parameter set seen so far is understood, knows frames only (two fields may share a frame, and a
  packet), permits no gaps in its numbering, and promises how far pictures are reordered; and
- by the times in the container's index the promise is kept. A decoder that finds it broken waits longer before it
  shows a picture, and which pictures it then loses depends on all that it was given.

Everything else is decoded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from video.frame_index import FrameIndex
from video.parameter_sets import Ordering, UnreadableError, h264_ordering, hevc_ordering

Bytes = bytes | memoryview

_START_CODE = re.compile(rb"\x00\x00\x01")
# More pictures than this no decoder holds back.
_MOST_REORDERED = 16


class Disposables:
    """Tells of each packet, given in the order in which they are read, whether it may be left out."""

    def __init__(self, codec: str, extradata: bytes, index: FrameIndex) -> None:
        """For a stream.

        Args:
            codec: FFmpeg's name of the format.
            extradata: the decoder's configuration, from the container; may be empty.
            index: of its packets.
        """
        kinds: dict[str, type[_Kind]] = {"h264": _H264, "hevc": _Hevc}
        self._kind = kinds[codec]() if codec in kinds else None
        self._reordered = reordered(index) if self._kind is not None else None
        self._known = False
        if self._reordered is None:
            self._kind = None
        else:
            self._configure(extradata)

    def may_leave_out(self, packet: Bytes) -> bool:
        """Whether the packet's pictures are needed by no other; what else it tells is learnt from it."""
        kind = self._kind
        if kind is None:
            return False
        units = kind.units(packet)
        for unit in units:
            if kind.is_parameter_set(unit):
                self._learn(bytes(unit))
        return self._known and self._kind is not None and kind.are_disposable(units)

    def _configure(self, extradata: bytes) -> None:
        kind = self._kind
        if kind is None or not extradata:
            return
        try:
            for unit in kind.configure(extradata):
                if kind.is_parameter_set(unit):
                    self._learn(unit)
        except IndexError:
            self._kind = None

    def _learn(self, unit: bytes) -> None:
        """Takes in a sequence parameter set; one that does not permit it ends all leaving out for good."""
        kind, kept = self._kind, self._reordered
        if kind is None or kept is None:
            return
        try:
            ordering = kind.ordering(unit)
        except UnreadableError:
            self._kind = None
            return
        if not ordering.whole_frames or ordering.reordered is None or ordering.reordered < kept:
            self._kind = None
        self._known = True


def reordered(index: FrameIndex) -> int | None:
    """How many packets precede another one in decoding and follow it in display, at most; None if unknown. Pure."""
    count = index.packets
    if not index.timed or index.frames != count:
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


class _Kind:
    """One format's NAL units."""

    header_bytes: int

    def __init__(self) -> None:
        self._length_bytes = 0

    def configure(self, extradata: bytes) -> list[bytes]:
        """The NAL units in the decoder's configuration; learns how those in packets are told apart.

        Raises:
            IndexError: it ends too early.
        """
        if extradata[0] != 1:
            return [bytes(unit) for unit in _after_start_codes(extradata)]
        self._length_bytes, units = self.configured(extradata)
        return units

    def units(self, packet: Bytes) -> Sequence[Bytes]:
        """The NAL units in a packet; none at all where they do not fit it exactly."""
        if not self._length_bytes:
            return _after_start_codes(bytes(packet))
        return _by_length(packet, self._length_bytes, self.header_bytes)

    def configured(self, extradata: bytes) -> tuple[int, list[bytes]]:
        """Bytes of a unit's length, and the units, in a configuration record (ISO/IEC 14496-15)."""
        raise NotImplementedError

    def is_parameter_set(self, unit: Bytes) -> bool:
        """Whether it is a sequence parameter set."""
        raise NotImplementedError

    def are_disposable(self, units: Sequence[Bytes]) -> bool:
        """Whether all of a packet's units are of pictures that no other needs, and some are of a picture."""
        raise NotImplementedError

    def ordering(self, unit: bytes) -> Ordering:
        """What a sequence parameter set says."""
        raise NotImplementedError


class _H264(_Kind):
    header_bytes = 1

    def configured(self, extradata: bytes) -> tuple[int, list[bytes]]:
        """See `_Kind`."""
        units, place = [], 6
        for _ in range(extradata[5] & 31):
            size = _size_at(extradata, place)
            units.append(extradata[place + 2 : place + 2 + size])
            place += 2 + size
        return (extradata[4] & 3) + 1, units

    def is_parameter_set(self, unit: Bytes) -> bool:
        """See `_Kind`. A subset parameter set counts too: its stream has pictures in layers."""
        return unit[0] & 31 in (7, 15)

    def are_disposable(self, units: Sequence[Bytes]) -> bool:
        """See `_Kind`. Beside slices, only delimiters and filler."""
        pictures = 0
        for unit in units:
            head = unit[0]
            if head == 1:
                pictures += 1
            elif head & 31 not in (9, 12):
                return False
        return pictures > 0

    def ordering(self, unit: bytes) -> Ordering:
        """See `_Kind`."""
        if unit[0] & 31 != 7:
            raise UnreadableError
        return h264_ordering(unit[1:])


class _Hevc(_Kind):
    header_bytes = 2

    def __init__(self) -> None:
        super().__init__()
        self._top_layer = 0

    def configured(self, extradata: bytes) -> tuple[int, list[bytes]]:
        """See `_Kind`."""
        units, place = [], 23
        for _ in range(extradata[22]):
            count, place = _size_at(extradata, place + 1), place + 3
            for _ in range(count):
                size = _size_at(extradata, place)
                units.append(extradata[place + 2 : place + 2 + size])
                place += 2 + size
        return (extradata[21] & 3) + 1, units

    def is_parameter_set(self, unit: Bytes) -> bool:
        """See `_Kind`."""
        return unit[0] >> 1 & 63 == 33

    def are_disposable(self, units: Sequence[Bytes]) -> bool:
        """See `_Kind`. Beside slices of the base layer's highest sub-layer, only delimiters and filler."""
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
        """See `_Kind`."""
        ordering = hevc_ordering(unit[2:])
        self._top_layer = max(self._top_layer, ordering.top_layer)
        return ordering


def _after_start_codes(data: bytes) -> list[bytes]:
    """What follows each start code, up to the next one (H.264 and H.265 Annex B); none before the first one."""
    starts = [found.end() for found in _START_CODE.finditer(data)]
    ends = [*(start - 3 for start in starts[1:]), len(data)]
    if not starts or data[: starts[0] - 3].strip(b"\0"):
        return []
    units = [data[start:end] for start, end in zip(starts, ends, strict=True)]
    return units if all(len(unit) > 1 for unit in units) else []


def _by_length(data: Bytes, length_bytes: int, least: int) -> list[Bytes]:
    """Units that each follow their length."""
    units: list[Bytes] = []
    place, end = 0, len(data)
    while place + length_bytes <= end:
        size = int.from_bytes(data[place : place + length_bytes])
        place += length_bytes
        if not least <= size <= end - place:
            return []
        units.append(data[place : place + size])
        place += size
    return units if place == end else []


def _size_at(data: bytes, place: int) -> int:
    """Two bytes as a number.

    Raises:
        IndexError: there are none.
    """
    return data[place] << 8 | data[place + 1]
