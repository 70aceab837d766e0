"""Reads the picture types of MPEG-4 part 2 packets, those of DivX's and Xvid's packed streams included. Pure.

A packed stream stores a B-picture behind the anchor that it needs, in one packet, and an empty picture in the next: AVI
has no presentation times and wants a packet for every frame. FFmpeg keeps the B-picture and decodes it in place of the
next packet; the same is done here, so that a picture is counted for the packet by which the decoder labels it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from adafocus.video.bits import Bits, UnreadableError

_PICTURE = b"\x00\x00\x01\xb6"
_LAYER = re.compile(rb"\x00\x00\x01[\x20-\x2f]")
_PACKED = re.compile(rb"DivX\d+(?:Build|b)\d+p")
_I, _B = 0, 2
# An empty picture takes a few bytes; FFmpeg takes none for empty that is longer than this.
_MOST_BYTES_OF_EMPTY = 19
_HEAD_BYTES = 64
_MAX_MODULO_SECONDS = 64


@dataclass(frozen=True)
class Mpeg4Picture:
    """The pictures that the decoder decodes when it gets a packet.

    Attributes:
        intra: it needs no other picture.
        bidirectional: it is a B-picture: shown at once, before the anchor decoded last.
        coded: it is a picture; an empty one repeats the one before and is not shown.
    """

    intra: bool
    bidirectional: bool
    coded: bool


_CODED = tuple(Mpeg4Picture(intra=kind == _I, bidirectional=kind == _B, coded=True) for kind in range(4))
_EMPTY = Mpeg4Picture(intra=False, bidirectional=False, coded=False)


class Mpeg4Pictures:
    """Reads the packets of one stream in decode order."""

    def __init__(self, extradata: bytes) -> None:
        """For a stream with this configuration."""
        self._packed = False
        self._time_bits: int | None = None
        self._kept: int | None = None
        self._configure(extradata)

    def read(self, packet: bytes) -> Mpeg4Picture | None:
        """Reads a packet; ``None`` if no picture is found in it."""
        at = packet.find(_PICTURE)
        if at > 0:
            self._configure(packet[:at])
        kept, self._kept = self._kept, None
        if kept is not None:
            self._keep(packet, at)
            return _CODED[kept]
        if not 0 <= at < len(packet) - len(_PICTURE):
            return None
        kind = packet[at + 4] >> 6
        if self._packed:
            self._keep(packet, packet.find(_PICTURE, at + 4))
        empty = len(packet) - at <= _MOST_BYTES_OF_EMPTY and self._is_empty(packet[at + 4 :])
        return _EMPTY if empty else _CODED[kind]

    def _keep(self, packet: bytes, at: int) -> None:
        """The picture at this place is decoded in place of the next packet, unless it is empty."""
        if 0 <= at < len(packet) - len(_PICTURE) and packet[at + 4] >> 6 in (_I, _B):
            self._kept = packet[at + 4] >> 6

    def _configure(self, data: bytes) -> None:
        self._packed = self._packed or _PACKED.search(data) is not None
        layer = _LAYER.search(data)
        if layer is None:
            return
        try:
            self._time_bits = _time_bits(Bits(data[layer.end() : layer.end() + _HEAD_BYTES]))
        except UnreadableError:
            self._time_bits = None

    def _is_empty(self, header: bytes) -> bool:
        """Return True if a picture's header says that nothing is coded (ISO/IEC 14496-2 6.2.5)."""
        if self._time_bits is None:
            return False
        bits = Bits(header)
        try:
            bits.take(2)
            seconds = 0
            while bits.take(1) and seconds < _MAX_MODULO_SECONDS:
                seconds += 1
            bits.take(1)
            bits.take(self._time_bits)
            bits.take(1)
            return not bits.take(1)
        except UnreadableError:
            return False


def _time_bits(bits: Bits) -> int:
    """The bits of a picture's time, from the header of its layer (ISO/IEC 14496-2 6.2.3).

    Raises:
        UnreadableError: the header ends too early.
    """
    bits.take(9)
    if bits.take(1):
        bits.take(7)
    if bits.take(4) == 15:
        bits.take(16)
    if bits.take(1):
        bits.take(3)
        if bits.take(1):
            bits.take(79)
    bits.take(3)
    return max((bits.take(16) - 1).bit_length(), 1)
