"""Every frame of a file by what its container says before the first of them, where that can be relied upon.

Reading all packets, as `index.py` does, means waiting for a whole upload. An MP4 or MOV file may begin with a table of
its packets; the demuxer keeps it except for the times of presentation, which are taken from the table here. It is
believed only where it leaves no room for doubt, and then for files that are already there too: what is answered must
not depend on how fast a video came.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from video.frame_index import FrameIndex, index_of
from video.limits import MediaLimits
from video.source import Reader

_MAX_HEADER_BYTES = 8 * 1024**2
_MAX_OFFSET = 2**28  # the demuxer takes offsets beyond this for garbage
# Encrypted, in fragments, or compressed: with any of these a packet may not be what the table says.
_BARRED = (b"encv", b"sinf", b"tenc", b"senc", b"saiz", b"saio", b"pssh", b"mvex", b"moof", b"cmov", b"uuid")
_TABLES = (b"stsd", b"stts", b"ctts", b"stss", b"stsz", b"elst")
# The demuxer adds nothing of its own to the packets of these.
_FORMATS = (b"avc1", b"avc3", b"hvc1", b"hev1")


@dataclass(frozen=True)
class Tables:
    """What an MP4 header says of the packets of its only video track, in decode order.

    Attributes:
        durations: of each packet, units of the track's time base; greater than 0.
        offsets: from decoding time to presentation time; 0 or more.
        media: the bytes of the file that hold packets, the last thing in it: from, and up to.
    """

    durations: NDArray[np.int64]
    offsets: NDArray[np.int64]
    media: tuple[int, int]


def announced_index(
    reader: Reader, stream: VideoStream, time_base: Fraction, codec: str, limits: MediaLimits
) -> FrameIndex | None:
    """The index that reading all packets would give, from the header alone; ``None`` where that is not certain.

    The reader is left where it stood. H.264 is taken with a single key frame only: more of them would have to be
    trusted to be such, whereas FFmpeg looks into the packets.
    """
    stood = reader.tell()
    try:
        tables = read_tables(reader, limits.max_frames)
        if tables is None or reader.seek(0, os.SEEK_END) != tables.media[1]:
            return None
    finally:
        reader.seek(stood)
    index = _index(tables, stream, time_base)
    if index is None or (codec != "hevc" and len(index.keys) > 1):
        return None
    # The refusal is left to the reading of packets, which words it.
    span = int(index.pts.max()) - int(index.pts.min())
    return index if span <= int(limits.max_seconds / time_base) else None


def read_tables(reader: Reader, max_frames: int) -> Tables | None:
    """The tables of a file that is a type, a header and then its media, with nothing but padding between them.

    Reads no further than the head of the media. ``None`` for any other file, or with more than ``max_frames`` packets.
    """
    header, place = b"", 0
    while (box := _box_at(reader, place)) is not None:
        kind, start, stop = box
        if (kind == b"ftyp") != (place == 0):
            return None
        if kind == b"mdat":
            return parse_header(header, (start, stop), max_frames)
        if kind == b"moov":
            if header or stop - start > _MAX_HEADER_BYTES:
                return None
            header = _read_at(reader, start, stop - start)
        elif kind not in (b"ftyp", b"free") and (kind, stop - start) != (b"wide", 0):
            return None
        place = stop
    return None


def parse_header(header: bytes, media: tuple[int, int], max_frames: int) -> Tables | None:
    """The tables in the content of a ``moov`` box, as `read_tables` gives them. Pure."""
    if any(name in header for name in _BARRED):
        return None
    tracks = [track for kind, track in _boxes(header) if kind == b"trak"]
    films = [track for track in tracks if (_only(track, b"mdia", b"hdlr") or b"")[8:12] == b"vide"]
    if len(films) != 1 or any(films[0].count(name) > 1 for name in _TABLES) or not _plays_straight(films[0]):
        return None
    path = (b"mdia", b"minf", b"stbl")
    described, sized = _only(films[0], *path, b"stsd") or b"", _only(films[0], *path, b"stsz") or b""
    packets = int.from_bytes(sized[8:12])
    synchronous = _only(films[0], *path, b"stss")
    if synchronous is not None and not int.from_bytes(synchronous[4:8]):
        return None  # the demuxer then looks for key frames in the packets
    if described[4:8] != b"\0\0\0\1" or described[12:16] not in _FORMATS or not 0 < packets <= max_frames:
        return None
    durations = _runs(_only(films[0], *path, b"stts"), packets)
    shifted = b"ctts" in films[0]
    offsets = _runs(_only(films[0], *path, b"ctts"), packets) if shifted else np.zeros(packets, dtype=np.int64)
    if durations is None or offsets is None or durations.min() <= 0 or not 0 <= offsets.min() <= offsets.max():
        return None
    return Tables(durations, offsets, media) if offsets.max() < _MAX_OFFSET else None


def _index(tables: Tables, stream: VideoStream, time_base: Fraction) -> FrameIndex | None:
    """The tables and the demuxer's own list of packets as one, if they agree."""
    entries, count = stream.index_entries, len(tables.durations)
    if len(entries) != count:
        return None
    rows = ((e.timestamp, e.size, e.pos, e.is_keyframe, e.is_discard) for e in entries)
    dts, sizes, places, key, dropped = np.fromiter(rows, dtype=np.dtype((np.int64, 5)), count=count).T
    keys = np.flatnonzero(key)
    start, stop = tables.media
    pts = dts + tables.offsets
    certain = (
        not dropped.any()
        and sizes.min() > 0
        and places.min() >= start
        and (places + sizes).max() <= stop
        and np.array_equal(np.diff(dts), tables.durations[:-1])
        and keys[:1].tolist() == [0]
        and stream.start_time == pts.min()
    )
    last = int(tables.durations[np.argmax(pts)])
    index = index_of(pts, dts, sizes, keys, np.arange(count), last, time_base)
    return index if certain and index.timed else None


def _plays_straight(track: bytes) -> bool:
    """Whether an edit list, if there is one, shows a single piece of the media; gaps before it only move its start."""
    edits = _only(track, b"edts", b"elst")
    if edits is None:
        return b"elst" not in track
    wide = edits[:1] == b"\1"
    step, begin, end = (20, 8, 16) if wide else (12, 4, 8)
    rows = [edits[at : at + step] for at in range(8, len(edits), step)]
    return sum(row[begin:end] != b"\xff" * (end - begin) for row in rows) == 1


def _runs(table: bytes | None, packets: int) -> NDArray[np.int64] | None:
    """A table of counts and values, one value for each packet; ``None`` unless it is for exactly so many."""
    if table is None or not len(table) - 8 == 8 * int.from_bytes(table[4:8]) > 0:
        return None
    counts, values = np.frombuffer(table, dtype=">i4", offset=8).astype(np.int64).reshape(-1, 2).T
    return np.repeat(values, counts) if counts.min() >= 0 and counts.sum() == packets else None


def _only(data: bytes, *path: bytes) -> bytes | None:
    """The content of the box at a path; ``None`` if there is none, or several."""
    for name in path:
        found = [content for kind, content in _boxes(data) if kind == name]
        if len(found) != 1:
            return None
        data = found[0]
    return data


def _boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kinds and contents of the boxes side by side; none if they do not fit."""
    found, place = [], 0
    while place + 8 <= len(data):
        size = int.from_bytes(data[place : place + 4])
        if not 8 <= size <= len(data) - place:
            return []
        found.append((data[place + 4 : place + 8], data[place + 8 : place + size]))
        place += size
    return found


def _box_at(reader: Reader, place: int) -> tuple[bytes, int, int] | None:
    """Kind, start of content and end of the box at a place in the file."""
    head = _read_at(reader, place, 16)
    size, kind, content = int.from_bytes(head[:4]), head[4:8], place + 8
    if size == 1:
        size, content = int.from_bytes(head[8:]), place + 16
    return (kind, content, place + size) if len(head) == 16 and place + size >= content else None


def _read_at(reader: Reader, place: int, size: int) -> bytes:
    """So many bytes from a place; fewer only at the end of the file."""
    reader.seek(place)
    pieces = []
    while size > 0 and (piece := reader.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
