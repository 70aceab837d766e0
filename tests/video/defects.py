"""Clips with the defects that recorders, splicers and old containers make, from packets of sound ones."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av

FLV_HEADER_BYTES = 13


@dataclass(frozen=True)
class StoredPacket:
    """A packet's bytes and times, in units of ``time_base``."""

    data: bytes
    pts: int
    dts: int
    key: bool
    time_base: Fraction


Retime = Callable[[int, StoredPacket], tuple[int, int]]


def packets_of(clip: bytes) -> list[StoredPacket]:
    """The video packets of a clip in decode order."""
    with av.open(io.BytesIO(clip)) as source:
        stream = source.streams.video[0]
        base = stream.time_base
        assert base is not None
        return [
            StoredPacket(bytes(packet), packet.pts or 0, packet.dts or 0, packet.is_keyframe, base)
            for packet in source.demux(stream)
            if packet.size
        ]


def remux(
    clip: bytes,
    container: str,
    retime: Retime = lambda _, packet: (packet.pts, packet.dts),
    keep: slice = slice(None),
    options: dict[str, str] | None = None,
) -> bytes:
    """The same packets, or some of them, in another container.

    Args:
        clip: as bytes.
        container: FFmpeg's name of a muxer.
        retime: presentation and decoding time of each packet, in its ``time_base``; given its number.
        keep: which packets.
        options: of the muxer.
    """
    buffer = io.BytesIO()
    with (
        av.open(io.BytesIO(clip)) as source,
        av.open(buffer, "w", format=container, options=options or {}) as output,
    ):
        stream = output.add_stream_from_template(source.streams.video[0])
        for number, stored in list(enumerate(packets_of(clip)))[keep]:
            packet = av.Packet(stored.data)
            packet.pts, packet.dts = retime(number, stored)
            packet.time_base, packet.is_keyframe, packet.stream = stored.time_base, stored.key, stream
            output.mux(packet)
    return buffer.getvalue()


def shifted(seconds: float, start: int = 0) -> Retime:
    """Moves the packets from number ``start`` on."""

    def retime(number: int, packet: StoredPacket) -> tuple[int, int]:
        shift = round(seconds / packet.time_base) if number >= start else 0
        return packet.pts + shift, packet.dts + shift

    return retime


def joined(parts: Sequence[bytes], container: str) -> bytes:
    """Files written one behind the other, as recorders and ``cat`` do."""
    head = FLV_HEADER_BYTES if container == "flv" else 0
    return b"".join([parts[0], *(part[head:] for part in parts[1:])])


def with_display_matrix(clip: bytes, matrix: Sequence[int]) -> bytes:
    """An MP4 or MOV file whose only track is displayed by this matrix: a, b, c, d of it, whole numbers."""
    a, b, c, d = matrix
    rows = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    head = clip.index(b"tkhd")
    at = head + (56 if clip[head + 4] else 44)
    return clip[:at] + struct.pack(">9i", *rows) + clip[at + 36 :]
