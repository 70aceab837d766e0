from __future__ import annotations

import numpy as np
import pytest

from adafocus.video.h264_key_frames import key_frames, length_bytes

IDR, SLICE, SEI, DELIMITER = 0x65, 0x41, 0x06, 0x09
TIMING = bytes([SEI, 1, 2, 0xAA, 0xBB, 0x80])
RECOVERY = bytes([SEI, 1, 2, 0xAA, 0xBB, 6, 1, 0xC4, 0x80])


def packet(*units: bytes, length: int = 4) -> bytes:
    return b"".join(len(unit).to_bytes(length, "big") + unit for unit in units)


def keys(*packets: bytes, length: int = 4) -> list[bool] | None:
    sizes = np.array([len(each) for each in packets], dtype=np.int64)
    data = np.frombuffer(b"".join(packets), dtype=np.uint8)
    found = key_frames(data, np.cumsum(sizes) - sizes, sizes, length)
    return None if found is None else found.tolist()


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_a_packet_whose_first_slice_is_idr_is_a_key_frame(length: int) -> None:
    delimiter = bytes([DELIMITER, 0xF0])
    key = packet(delimiter, TIMING, bytes([IDR, 1, 2]), bytes([SLICE, 1]), length=length)
    other = packet(delimiter, bytes([SLICE, 9, 9, 9]), bytes([IDR, 1]), length=length)
    plain = packet(bytes([0x01, 5]), length=length)
    assert keys(key, other, plain, key, length=length) == [True, False, False, True]


@pytest.mark.parametrize(
    "packet",
    [
        packet(RECOVERY, bytes([SLICE, 1])),
        packet(bytes([SEI, 6]), bytes([SLICE, 1])),
        packet(bytes([SEI, 0xFF, 0xFF]), bytes([SLICE, 1])),
        packet(bytes([SEI, 5, 200, 1]), bytes([SLICE, 1])),
        packet(bytes([SEI, 5, 0, 0, 1, SLICE, 0x80]), bytes([SLICE, 1])),
        packet(bytes([2, 1])),
        packet(bytes([20, 1]), bytes([SLICE, 1])),
        packet(TIMING),
        packet(bytes([SLICE, 1]))[:-1],
        packet(b""),
        b"\0\0\0",
        b"\xff\xff\xff\xff\x65",
        packet(*[TIMING] * 80, bytes([SLICE, 1])),
    ],
    ids=range(13),
)
def test_whatever_is_not_certain_is_not_said(packet: bytes) -> None:
    assert keys(packet) is None


def test_no_packets_have_no_key_frames() -> None:
    assert keys() == []


@pytest.mark.parametrize(
    ("extradata", "expected"),
    [(b"\1\x64\0\x1f\xff\xe1", 4), (b"\1\x64\0\x1f\xfc", 1), (b"\0\0\0\1\x67", None), (b"\1", None), (b"", None)],
)
def test_the_configuration_tells_how_lengths_are_written(extradata: bytes, expected: int | None) -> None:
    assert length_bytes(extradata) == expected
