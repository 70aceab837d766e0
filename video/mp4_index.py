"""Indexes the frames of an MP4 or MOV file from its header, where that can be relied upon.

Reading all packets, as `index.py` does, means waiting for a whole upload. A file may begin with a table of its packets.
The demuxer keeps that table except for the presentation times, which are read here. The table is used only if it is
unambiguous, and then also for files that have arrived completely: an answer must not depend on the speed of an upload.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from adafocus.video import h264_key_frames
from adafocus.video.frame_index import FrameIndex, PacketTable, StreamTraits, build_index
from adafocus.video.h264_pictures import H264Pictures
from adafocus.video.limits import MediaLimits
from adafocus.video.source import Reader

_MAX_HEADER_BYTES = 8 * 1024**2
_KEY_FRAME, _DISCARDED = 1, 2  # flags of the demuxer's list
_PIECE_BYTES = 4 * 1024**2
# Bytes of the length of each NAL unit, as every muxer writes them. With another number that is wrong, FFmpeg's parser
# takes the middle of a packet for its head, and finds key frames that the header does not list.
_LENGTH_BYTES = 4
_MAX_OFFSET = 2**28  # the demuxer ignores greater offsets as garbage
# Encryption, fragments and compression: with any of these boxes, packets may differ from the table.
_BARRED = (b"encv", b"sinf", b"tenc", b"senc", b"saiz", b"saio", b"pssh", b"mvex", b"moof", b"cmov", b"uuid")
_TABLES = (b"stsd", b"stts", b"ctts", b"stss", b"stsz", b"elst")
# The demuxer adds nothing to the packets of these formats.
_FORMATS = (b"avc1", b"avc3", b"hvc1", b"hev1")


@dataclass(frozen=True)
class Tables:
    """The packets of an MP4 file's only video track as its header lists them, in decode order.

    Attributes:
        durations: of each packet, units of the track's time base; greater than 0.
        offsets: from decoding time to presentation time; 0 or more.
        media: start and end of the bytes that hold packets.
        end: where the last box ends, which must be the end of the file.
    """

    durations: NDArray[np.int64]
    offsets: NDArray[np.int64]
    media: tuple[int, int]
    end: int


def announced_index(
    reader: Reader, stream: VideoStream, traits: StreamTraits, limits: MediaLimits, *, ranged: bool = False
) -> FrameIndex | None:
    """Returns the index that reading all packets would give, from the header alone; ``None`` if that is not certain.

    The reader's position does not change. The header may mark packets as key frames of H.264 that decoding cannot start
    from: if it marks several, the head of each packet is read as well, which takes the whole file. With
    ``ranged`` it is not read, and the header is believed; it may then stand behind the media, too.
    """
    stood = reader.tell()
    try:
        tables = read_tables(reader, limits.max_frames, header_last=ranged)
        if tables is None or reader.seek(0, os.SEEK_END) != tables.end:
            return None
        found = _index(tables, stream, traits)
        if found is None:
            return None
        index, places = found
        believed = ranged or traits.codec == "hevc" or len(index.keys) <= 1
        if not believed and not _are_key_frames(reader, stream, index, places):
            return None
    finally:
        reader.seek(stood)
    if traits.codec == "h264" and h264_key_frames.length_bytes(traits.extradata) != _LENGTH_BYTES:
        return None
    if traits.codec == "h264" and H264Pictures(traits.extradata).may_be_fields:
        return None  # two packets may hold one frame
    # If the video is too long, the reading of packets refuses it.
    span = int(index.pts.max()) - int(index.pts.min())
    return index if span <= int(limits.max_seconds / traits.time_base) else None


def read_tables(reader: Reader, max_frames: int, *, header_last: bool = False) -> Tables | None:
    """Reads the tables of a file that consists of type, header and media, with nothing but padding between them.

    Reads no further than the head of the media, unless the header may come last. Returns ``None`` for any other file,
    and for one with more than ``max_frames`` packets.
    """
    header, media, place = b"", None, 0
    while (box := _box_at(reader, place)) is not None:
        kind, start, stop = box
        if (kind == b"ftyp") != (place == 0):
            return None
        if kind == b"mdat":
            if header:
                return parse_header(header, (start, stop), max_frames, stop)
            if media is not None or not header_last:
                return None
            media = (start, stop)
        elif kind == b"moov":
            if header or stop - start > _MAX_HEADER_BYTES:
                return None
            header = _read_at(reader, start, stop - start)
            if media is not None:
                return parse_header(header, media, max_frames, stop)
        elif kind not in (b"ftyp", b"free") and (kind, stop - start) != (b"wide", 0):
            return None
        place = stop
    return None


def parse_header(header: bytes, media: tuple[int, int], max_frames: int, end: int) -> Tables | None:
    """Parses the content of a ``moov`` box; returns the tables as `read_tables` does. Pure."""
    if any(name in header for name in _BARRED):
        return None
    tracks = [track for kind, track in _boxes(header) if kind == b"trak"]
    films = [track for track in tracks if (_only(track, b"mdia", b"hdlr") or b"")[8:12] == b"vide"]
    if len(films) != 1 or any(films[0].count(name) > 1 for name in _TABLES) or not _has_one_edit(films[0]):
        return None
    listed = _only(films[0], b"mdia", b"minf", b"stbl") or b""
    described, sized = _only(listed, b"stsd") or b"", _only(listed, b"stsz") or b""
    packets = int.from_bytes(sized[8:12])
    synchronous = _only(listed, b"stss")
    if synchronous is not None and not int.from_bytes(synchronous[4:8]):
        return None  # the demuxer then looks for key frames in the packets
    if described[4:8] != b"\0\0\0\1" or described[12:16] not in _FORMATS or not 0 < packets <= max_frames:
        return None
    durations = _runs(_only(listed, b"stts"), packets)
    shifted = b"ctts" in films[0]
    offsets = _runs(_only(listed, b"ctts"), packets) if shifted else np.zeros(packets, dtype=np.int64)
    if durations is None or offsets is None or durations.min() <= 0 or not 0 <= offsets.min() <= offsets.max():
        return None
    return Tables(durations, offsets, media, end) if offsets.max() < _MAX_OFFSET else None


def _index(tables: Tables, stream: VideoStream, traits: StreamTraits) -> tuple[FrameIndex, NDArray[np.int64]] | None:
    """Combines the tables with the demuxer's own list of packets, if they agree; returns each packet's place too."""
    entries, count = stream.index_entries, len(tables.durations)
    if len(entries) != count:
        return None
    rows = [(entry.timestamp, entry.size, entry.pos, entry.flags) for entry in entries]
    dts, sizes, places, flags = np.array(rows, dtype=np.int64).T.copy()
    key, dropped = flags & _KEY_FRAME, flags & _DISCARDED
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
    index = build_index(PacketTable(pts, dts, sizes, tables.durations, keys, np.arange(count)), traits)
    return (index, places) if certain and index.ordered else None


def _are_key_frames(reader: Reader, stream: VideoStream, index: FrameIndex, places: NDArray[np.int64]) -> bool:
    """Return True if the packets agree with the header about key frames; reads them piece by piece."""
    length_bytes = h264_key_frames.length_bytes(bytes(stream.codec_context.extradata or b""))
    if length_bytes is None or (np.diff(places) < 0).any():
        return False
    expected = np.zeros(index.packets, dtype=np.bool_)
    expected[index.keys] = True
    ends = places + index.sizes
    first = 0
    while first < index.packets:
        start = int(places[first])
        stop = max(first + 1, int(np.searchsorted(ends, start + _PIECE_BYTES, side="right")))
        data = np.frombuffer(_read_at(reader, start, int(ends[stop - 1]) - start), dtype=np.uint8)
        if len(data) != ends[stop - 1] - start:
            return False
        found = h264_key_frames.key_frames(data, places[first:stop] - start, index.sizes[first:stop], length_bytes)
        if found is None or not np.array_equal(found, expected[first:stop]):
            return False
        first = stop
    return True


def _has_one_edit(track: bytes) -> bool:
    """Tells whether a track has no edit list, or one that shows a single piece of the media after optional gaps."""
    edits = _only(track, b"edts", b"elst")
    if edits is None:
        return b"elst" not in track
    wide = edits[:1] == b"\1"
    step, begin, end = (20, 8, 16) if wide else (12, 4, 8)
    rows = [edits[at : at + step] for at in range(8, len(edits), step)]
    return sum(row[begin:end] != b"\xff" * (end - begin) for row in rows) == 1


def _runs(table: bytes | None, packets: int) -> NDArray[np.int64] | None:
    """Expands a table of counts and values to one value per packet; ``None`` unless it covers exactly all packets."""
    if table is None or not len(table) - 8 == 8 * int.from_bytes(table[4:8]) > 0:
        return None
    counts, values = np.frombuffer(table, dtype=">i4", offset=8).astype(np.int64).reshape(-1, 2).T
    return np.repeat(values, counts) if counts.min() >= 0 and counts.sum() == packets else None


def _only(data: bytes, *path: bytes) -> bytes | None:
    """Returns the content of the box at a path; ``None`` if there is none, or several."""
    for name in path:
        found = [(start, stop) for kind, start, stop in _places(data) if kind == name]
        if len(found) != 1:
            return None
        start, stop = found[0]
        data = data[start:stop]
    return data


def _boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """Returns kinds and contents of the boxes in a row, as `_places` finds them."""
    return [(kind, data[start:stop]) for kind, start, stop in _places(data)]


def _places(data: bytes) -> list[tuple[bytes, int, int]]:
    """Returns kind, start and end of the content of the boxes in a row; an empty list if they do not fill the data."""
    found, place, end = [], 0, len(data)
    while place + 8 <= end:
        size = int.from_bytes(data[place : place + 4])
        if not 8 <= size <= end - place:
            return []
        found.append((data[place + 4 : place + 8], place + 8, place + size))
        place += size
    return found


def _box_at(reader: Reader, place: int) -> tuple[bytes, int, int] | None:
    """Returns kind, start of content and end of the box at a place in the file."""
    head = _read_at(reader, place, 16)
    size, kind, content = int.from_bytes(head[:4]), head[4:8], place + 8
    if size == 1:
        size, content = int.from_bytes(head[8:]), place + 16
    return (kind, content, place + size) if len(head) == 16 and place + size >= content else None


def _read_at(reader: Reader, place: int, size: int) -> bytes:
    """Reads so many bytes from a place; fewer only at the end of the file."""
    reader.seek(place)
    pieces = []
    while size > 0 and (piece := reader.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
