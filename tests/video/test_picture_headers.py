from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.video.bits import UnreadableError
from adafocus.video.hevc_references import HevcReferences
from adafocus.video.picture_headers import header_reader
from tests.video.clips import make_clip
from tests.video.defects import divx_packed, empty_vop, packets_of, vop_kind
from tests.video.h264_fields import field_stream

CODECS = ("h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video", "vp8", "vp9", "av1", "mjpeg")
START = b"\0\0\1"


def test_two_fields_of_one_frame_are_told_from_two_frames() -> None:
    reader = header_reader("h264", b"")
    units = [unit for picture in field_stream(["fields", "frame", "fields", "mbaff"]) for unit in picture.units]
    headers = [reader.read(unit, marked=number == 0) for number, unit in enumerate(units)]
    assert [header.second_field for header in headers] == [False, True, False, False, True, False]
    assert [header.starts for header in headers] == [True, False, False, False, False, False]


def test_fields_of_different_frames_do_not_pair() -> None:
    reader = header_reader("h264", b"")
    first, second = (picture.units for picture in field_stream(["fields", "fields"]))
    headers = [reader.read(unit, marked=unit == first[0]) for unit in (first[0], second[1], second[0], first[1])]
    assert not any(header.second_field for header in headers[:2])
    assert headers[2].second_field, "the bottom field came first"


@pytest.mark.parametrize(
    ("frames", "starts"), [(0, True), (1, False), (19, False), (None, True)], ids=["exact", "1", "19", "none"]
)
def test_a_recovery_point_is_a_start_only_if_it_lasts_no_frames(frames: int | None, starts: bool) -> None:
    idr, intra = (picture.units[0] for picture in field_stream(["frame", "frame"]))
    code = "" if frames is None else f"{frames + 1:0{2 * (frames + 1).bit_length() - 1}b}".ljust(16, "0")
    message = b"" if frames is None else START + b"\x06\x06\x02" + int(code, 2).to_bytes(2) + b"\x80"
    reader = header_reader("h264", b"")
    assert reader.read(idr, marked=True).starts
    assert reader.read(message + intra, marked=True).starts is starts
    assert not reader.read(message + intra, marked=False).starts


@pytest.mark.parametrize(
    ("codec", "packet", "starts", "shown"),
    [
        ("vp8", b"\x10\0\0", True, True),
        ("vp8", b"\x11\0\0", False, True),
        ("vp8", b"\x01\0\0", False, False),
        ("vp9", b"\x82\x49", True, True),
        ("vp9", b"\x86\x00", False, True),
        ("vp9", b"\x88\x00", False, True),
        ("hevc", START + b"\x26\x01\xaf", True, True),
        ("hevc", START + b"\x2a\x01\xaf", True, True),
        ("hevc", START + b"\x02\x01\xd0", False, True),
        ("hevc", START + b"\x40\x01\x0c" + START + b"\x02\x01\xd0", False, True),
        ("mjpeg", b"\xff\xd8", True, True),
    ],
)
def test_marked_packets_are_looked_at(codec: str, packet: bytes, starts: bool, shown: bool) -> None:
    header = header_reader(codec, b"").read(packet, marked=True)
    assert (header.starts, header.shown) == (starts, shown)
    assert not header_reader(codec, b"").read(packet, marked=False).starts


@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
def test_picture_types_of_mpeg(codec: str) -> None:
    clip = make_clip(24, codec=codec, container="mpegts", g="12", bf="2")
    reader = header_reader(codec, b"")
    headers = [reader.read(packet.data, packet.key) for packet in packets_of(clip)]
    assert [header.anchor for header in headers[:7]] == [True, True, False, False, True, False, False]
    assert headers[0].starts


def test_a_packed_picture_counts_for_the_packet_in_whose_place_it_is_decoded() -> None:
    clip = make_clip(24, codec="mpeg4", container="avi", g="12", bf="1", b_strategy="0", sc_threshold="0")
    pictures = [packet.data for packet in packets_of(clip)]
    reader = header_reader("mpeg4", b"")
    headers = [reader.read(packet, marked=False) for packet in divx_packed(pictures)]
    kinds = [vop_kind(picture) for picture in pictures]
    assert [header.anchor for header in headers] == [kind != "B" for kind in kinds]
    assert all(header.shown for header in headers)


def test_an_empty_picture_is_not_shown() -> None:
    clip = make_clip(3, codec="mpeg4", container="avi", bf="0")
    first, second, _ = (packet.data for packet in packets_of(clip))
    reader = header_reader("mpeg4", b"")
    assert reader.read(first, marked=True).shown
    assert not reader.read(empty_vop(second), marked=False).shown
    assert reader.read(second, marked=False).shown


@given(
    st.sampled_from(CODECS),
    st.binary(max_size=80),
    st.lists(st.tuples(st.binary(min_size=1, max_size=120), st.booleans()), max_size=8),
    st.booleans(),
)
def test_arbitrary_bytes_break_no_reader(
    codec: str, extradata: bytes, packets: list[tuple[bytes, bool]], annex_b: bool
) -> None:
    reader = header_reader(codec, extradata)
    references = HevcReferences(extradata)
    for packet, marked in packets:
        data = START + packet if annex_b else packet
        header = reader.read(memoryview(data), marked)
        assert marked or not header.starts
        try:
            assert references.read(data) <= 16
        except UnreadableError:
            continue


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video", "vp8", "vp9", "av1", "mjpeg"])
@pytest.mark.parametrize("marked", [True, False])
def test_an_empty_packet_is_read(codec: str, marked: bool) -> None:
    assert header_reader(codec, b"").read(memoryview(b""), marked) is not None
