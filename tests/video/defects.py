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


def with_equal_times(places: Sequence[int], rate: int = 25) -> Retime:
    """Gives some frames the time of the first of them."""

    def retime(number: int, packet: StoredPacket) -> tuple[int, int]:
        step = round(1 / rate / packet.time_base)
        frame = packet.pts // step
        time = step * (places[0] if frame in places else frame)
        return time, min(packet.dts, time)

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


def with_streams(clips: Sequence[bytes], sent: Sequence[bool], container: str) -> bytes:
    """A file with the video streams of several clips, of which only some are sent; the others are announced."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        streams = []
        for clip in clips:
            with av.open(io.BytesIO(clip)) as source:
                streams.append(output.add_stream_from_template(source.streams.video[0]))
        for clip, stream, is_sent in zip(clips, streams, sent, strict=True):
            for stored in packets_of(clip) if is_sent else []:
                packet = av.Packet(stored.data)
                packet.pts, packet.dts, packet.time_base = stored.pts, stored.dts, stored.time_base
                packet.is_keyframe, packet.stream = stored.key, stream
                output.mux(packet)
    return buffer.getvalue()


_VOP = b"\0\0\1\xb6"
_DIVX_PACKED = b"\0\0\1\xb2DivX503b1393p"


def vop_kind(data: bytes) -> str:
    """The type of an MPEG-4 picture: I, P, B or S."""
    return "IPBS"[data[data.index(_VOP) + 4] >> 6]


def empty_vop(like: bytes, time_bits: int = 5) -> bytes:
    """A picture in which nothing is coded, at the time of another; so many bits are right for 25 frames a second."""
    at = like.index(_VOP) + len(_VOP)
    bits = "".join(f"{byte:08b}" for byte in like[at : at + 8])
    place = bits.index("0", 2) + 2
    header = "0101" + bits[place : place + time_bits] + "1" + "0" + "0"
    header += "1" * (-len(header) % 8)
    return _VOP + int(header, 2).to_bytes(len(header) // 8)


def divx_packed(pictures: Sequence[bytes]) -> list[bytes]:
    """Packets as DivX and Xvid write them into AVI: the first B-picture in one packet with its anchor, an empty one
    behind the last."""
    packets: list[bytes] = []
    place = 0
    while place < len(pictures):
        following = place + 1
        while following < len(pictures) and vop_kind(pictures[following]) == "B":
            following += 1
        run = list(pictures[place + 1 : following])
        if run:
            packets += [pictures[place] + run[0], *run[1:], empty_vop(pictures[place])]
        else:
            packets.append(pictures[place])
        place = following
    return [_DIVX_PACKED + packets[0], *packets[1:]]


def with_decoding_times(clip: bytes, packets: Sequence[bytes], container: str) -> bytes:
    """MPEG-4 packets in a container that gets no other times than those of decoding, 25 a second."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(clip)) as source, av.open(buffer, "w", format=container) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for number, data in enumerate(packets):
            packet = av.Packet(data)
            packet.time_base, packet.pts, packet.dts = Fraction(1, 25), number, number
            packet.is_keyframe, packet.stream = vop_kind(data) == "I", stream
            output.mux(packet)
    return buffer.getvalue()
