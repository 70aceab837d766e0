"""Finds the key frames of an H.264 file from the head of each packet. Pure, and much cheaper than demuxing.

FFmpeg's demuxer does not believe the list of key frames in an MP4 header: its parser looks into each packet, and calls
it a key frame if its first slice is of an IDR picture, or if a recovery point announces itself before that slice. This
module looks at the same bytes, and says that it does not know wherever there is more to consider.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# NAL unit types, ITU-T H.264 table 7-1.
_SLICE, _IDR_SLICE, _SEI = 1, 5, 6
_UNDERSTOOD = np.zeros(32, dtype=np.bool_)
_UNDERSTOOD[[_SLICE, _IDR_SLICE, _SEI, 7, 8, 9, 12]] = True  # the last four: parameter sets, delimiters, filler
_RECOVERY_POINT = 6  # payload type, D.1
_MOST_UNITS = 64


def length_bytes(extradata: bytes) -> int | None:
    """Bytes of a NAL unit's length in packets, by the decoder's configuration (ISO/IEC 14496-15); None if not told."""
    return (extradata[4] & 3) + 1 if len(extradata) > 4 and extradata[0] == 1 else None


def key_frames(
    data: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int64], length_bytes: int
) -> NDArray[np.bool_] | None:
    """Return the packets in some bytes that begin with a slice of an IDR picture.

    Args:
        data: ``uint8 [n]``.
        starts: where each packet begins in them.
        sizes: of each packet, bytes; all of them lie within the data.
        length_bytes: of a NAL unit's length.

    Returns:
        ``bool [packets]``; None if a packet holds a recovery point or anything unexpected before its first slice.
    """
    ends = starts + sizes
    found = np.zeros(len(starts), dtype=np.bool_)
    left, place = np.arange(len(starts)), starts
    offsets = np.arange(length_bytes)
    weights = 256 ** offsets[::-1]
    for _ in range(_MOST_UNITS):
        if not len(left):
            return found
        body = place + length_bytes
        if (body >= ends[left]).any():
            return None
        length = data[place[:, None] + offsets] @ weights
        place = body + length
        kind = data[body] & 31
        if length.min() < 1 or (place > ends[left]).any() or not _UNDERSTOOD[kind].all():
            return None
        slices = (kind == _SLICE) | (kind == _IDR_SLICE)
        for start, stop in zip(body[~slices], place[~slices], strict=True):
            unit = data[start:stop].tobytes()
            # FFmpeg searches for a further unit where a start code should not be.
            if b"\0\0\1" in unit or (unit[0] & 31 == _SEI and _may_be_recovery_point(unit[1:])):
                return None
        found[left[kind == _IDR_SLICE]] = True
        left, place = left[~slices], place[~slices]
    return None


def _may_be_recovery_point(payload: bytes) -> bool:
    """Return True if supplemental information holds a recovery point, or cannot be read to its end (7.3.2.3.1)."""
    plain, place = payload.replace(b"\0\0\3", b"\0\0"), 0
    while place < len(plain):
        if plain[place] == 0x80 and not plain[place + 1 :].strip(b"\0"):
            return False
        kind, place = _number(plain, place)
        size, place = _number(plain, place)
        if kind == _RECOVERY_POINT or place + size > len(plain):
            return True
        place += size
    return False


def _number(data: bytes, place: int) -> tuple[int, int]:
    """A number made of bytes, of which all but the last are 255, and the place after it."""
    value = 0
    while place < len(data) and data[place] == 0xFF:
        value, place = value + 255, place + 1
    return value + data[place] if place < len(data) else value, place + 1
