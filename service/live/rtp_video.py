"""Puts pictures together from RTP packets: H.264 (RFC 6184) and H.265 (RFC 7798). Pure; standard library only.

A picture is an *access unit*: all NAL units with the same RTP time, with start codes between them (Annex B). FFmpeg
could take the packets apart as well. It is not used for that because it loses the times of the first pictures and marks
others as key frames, where windows must begin, and because it expects a network to report to.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Codec = Literal["h264", "hevc"]

CLOCK_HZ = 90_000
MAX_UNIT_BYTES = 16 << 20
"""A picture that grows larger is left out."""

_START_CODE = b"\0\0\0\1"
_TIMES = 1 << 32
# Types of NAL units. H.264: slices, a key picture, supplemental information, parameter sets.
_H264_PICTURES, _H264_KEY, _H264_INFORMATION, _H264_PARAMETERS = range(1, 6), 5, 6, (7, 8)
_H264_SINGLE, _H264_AGGREGATE, _H264_FRAGMENT = range(1, 24), 24, 28
_H264_RECOVERY_POINT = 6
# H.265: slices, key pictures, parameter sets.
_HEVC_PICTURES, _HEVC_KEYS, _HEVC_PARAMETERS = range(32), range(16, 22), (32, 33, 34)
_HEVC_AGGREGATE, _HEVC_FRAGMENT, _HEVC_SINGLE = 48, 49, range(48)


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """One picture.

    Attributes:
        pts: when it is shown, in ticks of 1/90000 s; counted on where RTP's 32 bits start again.
        is_key: whether decoding can start with it.
        data: NAL units with start codes.
    """

    pts: int
    is_key: bool
    data: bytes


@dataclass(slots=True)
class Depacketizer:
    """Puts the pictures of one stream together.

    Args:
        codec: of the stream.
        payload_type: of its packets; others are passed over.
        parameter_sets: those that the stream's description holds; they precede a key picture that has none of its own.
    """

    codec: Codec
    payload_type: int
    parameter_sets: tuple[bytes, ...] = ()
    _units: list[bytes] = field(default_factory=list)
    _size: int = 0
    _fragment: bytearray | None = None
    _sequence: int | None = None
    _time: int | None = None

    def add(self, packet: bytes) -> AccessUnit | None:
        """Take a packet; returns the picture before it, if the packet begins another one."""
        payload = self._payload(packet)
        if not payload:
            return None
        sequence, time = int.from_bytes(packet[2:4], "big"), int.from_bytes(packet[4:8], "big")
        if self._sequence is not None and sequence != (self._sequence + 1) % (1 << 16):
            self._fragment = None  # a packet is missing
        self._sequence = sequence
        done = None
        if self._time is None:
            self._time = time
        elif time != self._time % _TIMES:
            done = self._finish()
            step = (time - self._time) % _TIMES
            self._time += step if step < _TIMES // 2 else step - _TIMES
        self._unpack(payload)
        return done

    def flush(self) -> AccessUnit | None:
        """The picture that no other one has followed."""
        return None if self._time is None else self._finish()

    def _payload(self, packet: bytes) -> bytes:
        """What an RTP packet carries; nothing if it is not one of this stream."""
        if len(packet) < 13 or packet[0] >> 6 != 2 or packet[1] & 0x7F != self.payload_type:
            return b""
        start, end = 12 + 4 * (packet[0] & 0x0F), len(packet)
        if packet[0] & 0x10:  # an extension of the header
            start += 4 + 4 * int.from_bytes(packet[start + 2 : start + 4], "big")
        if packet[0] & 0x20:  # padding
            end -= packet[-1]
        return packet[start:end]

    def _unpack(self, payload: bytes) -> None:
        if self.codec == "h264":
            kind, header = payload[0] & 0x1F, 1
            single, aggregate, fragment = _H264_SINGLE, _H264_AGGREGATE, _H264_FRAGMENT
        else:
            kind, header = payload[0] >> 1 & 0x3F, 2
            single, aggregate, fragment = _HEVC_SINGLE, _HEVC_AGGREGATE, _HEVC_FRAGMENT
        if kind in single:
            self._append(payload)
        elif kind == aggregate:
            for unit in _aggregated(payload[header:]):
                self._append(unit)
        elif kind == fragment and len(payload) > header + 1:
            self._add_fragment(payload, header)

    def _add_fragment(self, payload: bytes, header: int) -> None:
        flags, rest = payload[header], payload[header + 1 :]
        if flags & 0x80:  # the first fragment: the unit's own header is put together again
            if self.codec == "h264":
                own = bytes((payload[0] & 0xE0 | flags & 0x1F,))
            else:
                own = bytes((payload[0] & 0x81 | (flags & 0x3F) << 1, payload[1]))
            self._fragment = bytearray(own)
        if self._fragment is None:
            return
        self._fragment += rest
        if len(self._fragment) > MAX_UNIT_BYTES:
            self._fragment = None
        elif flags & 0x40:  # the last fragment
            self._append(bytes(self._fragment))
            self._fragment = None

    def _append(self, unit: bytes) -> None:
        self._size += len(unit) + len(_START_CODE)
        if unit and self._size <= MAX_UNIT_BYTES:
            self._units.append(unit)

    def _finish(self) -> AccessUnit | None:
        """The picture that is complete; parameter sets that came with a time of their own wait for the next one."""
        pts, self._fragment = self._time, None
        kinds = [self._kind(unit) for unit in self._units]
        pictures = _H264_PICTURES if self.codec == "h264" else _HEVC_PICTURES
        if pts is None or (not any(kind in pictures for kind in kinds) and self._size <= MAX_UNIT_BYTES):
            return None
        units, too_large = self._units, self._size > MAX_UNIT_BYTES
        self._units, self._size = [], 0
        if too_large:
            return None
        is_key = self._is_key(units, kinds)
        parameters = _H264_PARAMETERS if self.codec == "h264" else _HEVC_PARAMETERS
        if is_key and not any(kind in parameters for kind in kinds):
            units = [*self.parameter_sets, *units]
        return AccessUnit(pts, is_key, b"".join(_START_CODE + unit for unit in units))

    def _kind(self, unit: bytes) -> int:
        return unit[0] & 0x1F if self.codec == "h264" else unit[0] >> 1 & 0x3F

    def _is_key(self, units: list[bytes], kinds: list[int]) -> bool:
        if self.codec == "hevc":
            return any(kind in _HEVC_KEYS for kind in kinds)
        return _H264_KEY in kinds or any(
            kind == _H264_INFORMATION and _H264_RECOVERY_POINT in _information_types(unit)
            for kind, unit in zip(kinds, units, strict=True)
        )


def parameter_sets(format_parameters: str) -> tuple[bytes, ...]:
    """The parameter sets in the line ``a=fmtp`` of a description; what is damaged is left out."""
    found = []
    for name in ("sprop-vps", "sprop-sps", "sprop-pps", "sprop-parameter-sets"):
        for value in re.findall(rf"(?:^|[\s;]){name}\s*=\s*([^;\s]+)", format_parameters):
            for part in value.split(","):
                try:
                    found.append(base64.b64decode(part, validate=True))
                except binascii.Error:
                    continue
    return tuple(unit for unit in found if unit)


def decoding_times(shown: list[int]) -> list[int]:
    """Decoding times for pictures in the order of decoding: increasing, and never after the picture is shown.

    Args:
        shown: when each is shown, in the order of decoding.
    """
    ordered: list[int] = []
    for time in sorted(shown):
        ordered.append(max(time, ordered[-1] + 1) if ordered else time)
    delay = max((time - pts for time, pts in zip(ordered, shown, strict=True)), default=0)
    return [time - delay for time in ordered]


def _aggregated(payload: bytes) -> Iterator[bytes]:
    at = 0
    while at + 2 <= len(payload):
        size = int.from_bytes(payload[at : at + 2], "big")
        if size:
            yield payload[at + 2 : at + 2 + size]
        at += 2 + size


def _information_types(unit: bytes) -> Iterator[int]:
    """The types of the messages in a unit of supplemental information of H.264."""
    at = 1
    while at + 1 < len(unit):
        kind = size = 0
        while at < len(unit) and unit[at] == 0xFF:
            kind, at = kind + 255, at + 1
        kind, at = kind + (unit[at] if at < len(unit) else 0), at + 1
        while at < len(unit) and unit[at] == 0xFF:
            size, at = size + 255, at + 1
        size, at = size + (unit[at] if at < len(unit) else 0), at + 1
        yield kind
        at += size
