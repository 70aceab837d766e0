"""Defects: functions from the bytes of a good file to those of a file as people really have them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

import av

TS_PACKET = 188
"""Bytes of a packet of an MPEG transport stream."""

_TS_SYNC, _TS_UNIT_START = 0x47, 0x40
_FIRST_PID = 0x100  # that FFmpeg gives to a file's first stream


def cut(data: bytes, begin: float = 0.0, end: float = 1.0) -> bytes:
    """The part of a file between two shares of its length."""
    return data[int(len(data) * begin) : int(len(data) * end)]


def cut_within_packets(data: bytes, begin: float, end: float) -> bytes:
    """A part of a transport stream whose first and last packets are incomplete."""
    first = int(len(data) * begin) // TS_PACKET * TS_PACKET + 75
    last = int(len(data) * end) // TS_PACKET * TS_PACKET + 110
    return data[first:last]


def with_stream_announced_midway(data: bytes, place: float = 0.7) -> bytes:
    """A transport stream in which one video packet belongs to a stream that nothing has announced.

    Args:
        data: the stream, whole or cut within packets.
        place: share of the length after which the first packet of a picture is given away.
    """
    changed = bytearray(data)
    first = next(at for at in range(TS_PACKET) if set(data[at::TS_PACKET][:20]) == {_TS_SYNC})
    for at in range(first, len(data) - TS_PACKET, TS_PACKET):
        is_video = data[at + 1] & 0x1F == _FIRST_PID >> 8 and data[at + 2] == _FIRST_PID & 0xFF
        if at > len(data) * place and is_video and data[at + 1] & _TS_UNIT_START:
            changed[at + 2] = 0xFF
            return bytes(changed)
    raise ValueError("no picture of the first stream begins after that place")


def zeroed(data: bytes, begin: float, end: float) -> bytes:
    """The same length with zeros between two shares of it, as a download that lost a part."""
    first, last = int(len(data) * begin), int(len(data) * end)
    return data[:first] + bytes(last - first) + data[last:]


def remuxed(
    data: bytes, container: str, change: Callable[[int, Any], None] | None = None, keep: Iterable[int] | None = None
) -> bytes:
    """The packets of the first video stream in a new file.

    Args:
        data: a file.
        container: name of the muxer.
        change: changes packet number N, in order of decoding: its ``pts``, ``dts``, ``is_keyframe``, …
        keep: numbers of the packets that are written; by default all.
    """
    buffer = io.BytesIO()
    kept = None if keep is None else frozenset(keep)
    with av.open(io.BytesIO(data)) as source, av.open(buffer, "w", format=container) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for number, packet in enumerate(packets):
            if change:
                change(number, packet)
            if kept is None or number in kept:
                packet.stream = stream
                output.mux(packet)
    return buffer.getvalue()


def claim_key_frames(data: bytes, container: str, every: int) -> bytes:
    """The same packets, of which every so many is marked as a key frame, whatever it is."""

    def mark(number: int, packet: Any) -> None:
        packet.is_keyframe = number % every == 0

    return remuxed(data, container, mark)


def boxes(data: bytes) -> list[tuple[str, int, int]]:
    """Top-level boxes of an MP4 or MOV file: name, place and size in bytes."""
    found, place = [], 0
    while place + 8 <= len(data) and (size := int.from_bytes(data[place : place + 4])) >= 8:
        found.append((data[place + 4 : place + 8].decode("latin-1"), place, size))
        place += size
    return found


def moov_first(data: bytes) -> bytes:
    """The same MP4 or MOV file with its header before the media; any other file as it is."""
    found = boxes(data)
    names = [name for name, _, _ in found]
    if names[:1] != ["ftyp"] or names[-1:] != ["moov"] or sum(found[-1][1:]) != len(data):
        return data
    head, moov = found[0][2], found[-1][1]
    header = bytearray(data[moov:])
    at = 0
    while (at := header.find(b"stco", at) + 4) > 4:
        for number in range(int.from_bytes(header[at + 4 : at + 8])):
            entry = slice(at + 8 + 4 * number, at + 12 + 4 * number)
            header[entry] = (int.from_bytes(header[entry]) + len(header)).to_bytes(4)
    return data[:head] + bytes(header) + data[head:moov]


def with_media_of(data: bytes, other: bytes) -> bytes:
    """An MP4 or MOV file whose media are replaced by those of another, of the same length.

    Raises:
        ValueError: their lengths differ.
    """
    (place, size), (source, length) = (
        next(tuple(span) for name, *span in boxes(file) if name == "mdat") for file in (data, other)
    )
    if size != length:
        raise ValueError(f"the media of both files must have the same length, got {size} and {length} bytes")
    return data[:place] + other[source : source + length] + data[place + size :]
