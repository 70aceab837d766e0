"""Reads of a packet what its container does not tell, or tells wrongly. Pure.

Containers mark packets as key frames from which decoding gives damaged pictures first (a gradual intra refresh), store
the two fields of a frame in two packets, and guess presentation times where they hold decoding times only. The headers
of the pictures tell better. Only the first bytes of a packet are looked at, and only where something may be wrong.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Protocol

from adafocus.video.h264_pictures import H264Pictures
from adafocus.video.mpeg4_pictures import Mpeg4Pictures
from adafocus.video.nal_units import Bytes, HevcUnits

_HEAD_BYTES = 4096
_MPEG_PICTURE = b"\x00\x00\x01\x00"
_MPEG_I, _MPEG_B = 1, 3


@dataclass(frozen=True)
class PictureHeader:
    """Facts about one packet.

    Attributes:
        starts: decoding can start here.
        shown: the packet shows a picture.
        second_field: it completes the picture that the packet before began.
        anchor: its picture is shown only after the next anchor has been decoded; ``None`` if that is not known.
    """

    starts: bool
    shown: bool = True
    second_field: bool = False
    anchor: bool | None = None


PLAIN = PictureHeader(starts=False)
"""That of most packets: a picture with which decoding cannot start."""

_START = PictureHeader(starts=True)
_SECOND_FIELD = PictureHeader(starts=False, second_field=True)
_HIDDEN = PictureHeader(starts=False, shown=False)
_ANCHOR = PictureHeader(starts=False, anchor=True)
_STARTING_ANCHOR = PictureHeader(starts=True, anchor=True)
_B_PICTURE = PictureHeader(starts=False, anchor=False)


class HeaderReader(Protocol):
    """Reads the headers of one stream, packet by packet in decode order.

    Attributes:
        reads_all: every packet must be read; otherwise those that are marked as key frames, and the header of any other
            is `PLAIN`.
    """

    @property
    def reads_all(self) -> bool:
        """See the class."""
        ...

    def read(self, packet: Bytes, marked: bool) -> PictureHeader:
        """Reads a packet; ``marked``: its container says that it is a key frame."""
        ...


def header_reader(codec: str, extradata: bytes) -> HeaderReader:
    """Returns the reader for a format, FFmpeg's name of it given, and for a decoder's configuration."""
    match codec:
        case "h264":
            return _H264(extradata)
        case "hevc":
            return _Hevc(extradata)
        case "mpeg4":
            return _Mpeg4(extradata)
        case "mpeg1video" | "mpeg2video":
            return _Mpeg12()
        case "vp8":
            return _Vp8()
        case "vp9":
            return _Vp9()
    return _Trusting()


class _Trusting:
    reads_all = False

    def read(self, packet: Bytes, marked: bool) -> PictureHeader:
        return _START if marked else PLAIN


class _H264:
    def __init__(self, extradata: bytes) -> None:
        self._pictures = H264Pictures(extradata)

    @property
    def reads_all(self) -> bool:
        return self._pictures.may_be_fields

    def read(self, packet: Bytes, marked: bool) -> PictureHeader:
        if not marked and not self._pictures.may_be_fields:
            return PLAIN
        seen = self._pictures.read(packet)
        if seen.second_field:
            return _SECOND_FIELD
        return _START if marked and seen.starts else PLAIN


class _Hevc:
    """A key frame is an IRAP picture (H.265 7.4.2.2)."""

    reads_all = False

    def __init__(self, extradata: bytes) -> None:
        self._units = HevcUnits()
        with contextlib.suppress(IndexError):
            self._units.configure(extradata)

    def read(self, packet: Bytes, marked: bool) -> PictureHeader:
        if not marked:
            return PLAIN
        kinds = (unit[0] >> 1 & 63 for unit in self._units.split_head(packet, _HEAD_BYTES))
        picture = next((kind for kind in kinds if kind < 32), None)
        return _START if picture is None or 16 <= picture <= 23 else PLAIN


class _Mpeg12:
    """The picture header's type (ISO/IEC 13818-2 6.2.3)."""

    reads_all = True

    def read(self, packet: Bytes, marked: bool) -> PictureHeader:
        data = bytes(packet[:_HEAD_BYTES])
        at = data.find(_MPEG_PICTURE)
        if not 0 <= at < len(data) - 5:
            return _START if marked else PLAIN
        kind = data[at + 5] >> 3 & 7
        if kind == _MPEG_B:
            return _B_PICTURE
        return _STARTING_ANCHOR if marked and kind == _MPEG_I else _ANCHOR


class _Mpeg4:
    reads_all = True

    def __init__(self, extradata: bytes) -> None:
        self._pictures = Mpeg4Pictures(extradata)

    def read(self, packet: Bytes, marked: bool) -> PictureHeader:
        picture = self._pictures.read(bytes(packet))
        if picture is None:
            return _START if marked else PLAIN
        if not picture.coded:
            return _HIDDEN
        if picture.bidirectional:
            return _B_PICTURE
        return _STARTING_ANCHOR if marked and picture.intra else _ANCHOR


class _Vp8:
    """The frame tag (RFC 6386 9.1). Matroska stores pictures that are only referred to as packets of their own."""

    reads_all = True

    def read(self, packet: Bytes, marked: bool) -> PictureHeader:
        if not packet:
            return PLAIN
        if not packet[0] >> 4 & 1:
            return _HIDDEN
        return _START if marked and not packet[0] & 1 else PLAIN


class _Vp9:
    """The uncompressed header of the first frame: marker, profile, show_existing_frame, frame_type."""

    reads_all = False

    def read(self, packet: Bytes, marked: bool) -> PictureHeader:
        if not marked or not packet:
            return PLAIN
        head = packet[0]
        bits = head << 1 if head >> 4 & 3 == 3 else head  # profile 3 has one more, reserved
        return PLAIN if bits & 0b1100 else _START
