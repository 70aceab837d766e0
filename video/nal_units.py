"""Splits H.264 and HEVC packets and decoder configurations into NAL units. Pure."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

Bytes = bytes | memoryview

_START_CODE = re.compile(rb"\x00\x00\x01")


class NalUnits(ABC):
    """Splits the packets of one stream; learns from the configuration how units are delimited.

    Attributes:
        header_bytes: length of a unit's header.
    """

    header_bytes: int

    def __init__(self) -> None:
        self._length_bytes = 0

    def configure(self, extradata: bytes) -> list[bytes]:
        """Returns the units in the decoder's configuration, either Annex B or a configuration record.

        Raises:
            IndexError: the configuration ends too early.
        """
        if extradata[0] != 1:
            return [bytes(unit) for unit in split_at_start_codes(extradata)]
        self._length_bytes, units = self._record(extradata)
        return units

    def split(self, packet: Bytes) -> Sequence[Bytes]:
        """Returns the units of a packet; an empty list where they do not fill it exactly."""
        if not self._length_bytes:
            return split_at_start_codes(bytes(packet))
        return split_by_length(packet, self._length_bytes, self.header_bytes)

    def split_head(self, packet: Bytes, size: int) -> Sequence[Bytes]:
        """Returns the units at the head of a packet; the last one may be cut after ``size`` bytes of the packet."""
        if not self._length_bytes:
            return split_at_start_codes(bytes(packet[:size]))
        return split_by_length(packet, self._length_bytes, self.header_bytes)

    @abstractmethod
    def _record(self, extradata: bytes) -> tuple[int, list[bytes]]:
        """Returns the bytes of a unit's length, and the units of a configuration record (ISO/IEC 14496-15)."""


class H264Units(NalUnits):
    """NAL units of H.264."""

    header_bytes = 1

    def _record(self, extradata: bytes) -> tuple[int, list[bytes]]:
        units, place = [], 5
        for mask in (31, 255):
            count, place = extradata[place] & mask, place + 1
            for _ in range(count):
                size = _size_at(extradata, place)
                units.append(extradata[place + 2 : place + 2 + size])
                place += 2 + size
        return (extradata[4] & 3) + 1, [unit for unit in units if unit]


class HevcUnits(NalUnits):
    """NAL units of HEVC."""

    header_bytes = 2

    def _record(self, extradata: bytes) -> tuple[int, list[bytes]]:
        units, place = [], 23
        for _ in range(extradata[22]):
            count, place = _size_at(extradata, place + 1), place + 3
            for _ in range(count):
                size = _size_at(extradata, place)
                units.append(extradata[place + 2 : place + 2 + size])
                place += 2 + size
        return (extradata[21] & 3) + 1, [unit for unit in units if len(unit) > 1]


def split_at_start_codes(data: bytes) -> list[bytes]:
    """Returns what follows each start code, up to the next one (H.264 and H.265 Annex B).

    The list is empty where other bytes than zeros precede the first start code, or a unit has no payload.
    """
    starts = [found.end() for found in _START_CODE.finditer(data)]
    ends = [*(start - 3 for start in starts[1:]), len(data)]
    if not starts or data[: starts[0] - 3].strip(b"\0"):
        return []
    units = [data[start:end] for start, end in zip(starts, ends, strict=True)]
    return units if all(len(unit) > 1 for unit in units) else []


def split_by_length(data: Bytes, length_bytes: int, least: int) -> list[Bytes]:
    """Returns units that are each preceded by their length; an empty list where they do not fill ``data`` exactly."""
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
    """Reads two bytes as a number.

    Raises:
        IndexError: there are fewer.
    """
    return data[place] << 8 | data[place + 1]
