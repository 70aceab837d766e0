"""Pictures out of RTP packets."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.live.rtp_video import AccessUnit, Depacketizer, decoding_times, parameter_sets

SPS, PPS, IDR, SLICE = b"\x67ps", b"\x68pp", b"\x65 a key picture", b"\x41 another"


def rtp(payload: bytes, time: int, sequence: int = 0, *, payload_type: int = 96, first: int = 0x80) -> bytes:
    head = bytes((first, payload_type)) + sequence.to_bytes(2, "big")
    return head + (time % (1 << 32)).to_bytes(4, "big") + bytes(4) + payload


def pictures(packets: list[bytes], **more: object) -> list[AccessUnit]:
    depacketizer = Depacketizer("h264", 96, **more)  # type: ignore[arg-type]
    found = [depacketizer.add(packet) for packet in packets]
    return [picture for picture in [*found, depacketizer.flush()] if picture is not None]


def annex_b(*units: bytes) -> bytes:
    return b"".join(b"\0\0\0\1" + unit for unit in units)


def fragments(unit: bytes, size: int, time: int, sequence: int) -> list[bytes]:
    parts = [unit[1:][at : at + size] for at in range(0, len(unit) - 1, size)]
    flags = [0x80 * (n == 0) | 0x40 * (n == len(parts) - 1) | unit[0] & 0x1F for n in range(len(parts))]
    indicator = unit[0] & 0xE0 | 28
    return [
        rtp(bytes((indicator, flag)) + part, time, sequence + n)
        for n, (flag, part) in enumerate(zip(flags, parts, strict=True))
    ]


@given(
    st.lists(st.tuples(st.booleans(), st.binary(min_size=2, max_size=60)), min_size=1, max_size=8), st.integers(1, 9)
)
def test_pictures_come_out_as_they_went_in_whole_or_in_fragments(content: list[tuple[bool, bytes]], size: int) -> None:
    packets: list[bytes] = []
    for number, (key, rest) in enumerate(content):
        unit = (IDR if key else SLICE)[:1] + rest
        packets += (
            fragments(unit, size, 3600 * number, len(packets))
            if len(rest) > size
            else [rtp(unit, 3600 * number, len(packets))]
        )
    assert pictures(packets) == [
        AccessUnit(3600 * number, key, annex_b((IDR if key else SLICE)[:1] + rest))
        for number, (key, rest) in enumerate(content)
    ]


@given(st.lists(st.binary(max_size=40), max_size=20), st.sampled_from(["h264", "hevc"]))
def test_any_packets_give_pictures_or_none(packets: list[bytes], codec: str) -> None:
    depacketizer = Depacketizer(codec, 96)  # type: ignore[arg-type]
    for number, packet in enumerate(packets):
        depacketizer.add(packet)
        depacketizer.add(rtp(packet, number, number))
    depacketizer.flush()


def test_several_units_in_a_packet() -> None:
    together = b"\x18" + b"".join(len(unit).to_bytes(2, "big") + unit for unit in (SPS, PPS, IDR))
    assert pictures([rtp(together, 0)]) == [AccessUnit(0, True, annex_b(SPS, PPS, IDR))]


def test_parameter_sets_with_a_time_of_their_own_belong_to_the_next_picture() -> None:
    found = pictures([rtp(SPS, 0, 0), rtp(PPS, 0, 1), rtp(IDR, 90, 2), rtp(SLICE, 180, 3)])
    assert found == [AccessUnit(90, True, annex_b(SPS, PPS, IDR)), AccessUnit(180, False, annex_b(SLICE))]


def test_parameter_sets_of_the_description_precede_key_pictures_that_have_none() -> None:
    packets = [rtp(IDR, 0, 0), rtp(SLICE, 1, 1), rtp(SPS, 2, 2), rtp(IDR, 2, 3)]
    found = [picture.data for picture in pictures(packets, parameter_sets=(SPS, PPS))]
    assert found == [annex_b(SPS, PPS, IDR), annex_b(SLICE), annex_b(SPS, IDR)]


def test_a_unit_of_which_a_packet_is_missing_is_left_out() -> None:
    packets = fragments(IDR, 4, 0, 0)
    del packets[1]
    assert pictures([*packets, rtp(SLICE, 1, 9)]) == [AccessUnit(1, False, annex_b(SLICE))]


def test_the_time_goes_on_where_its_bits_start_again() -> None:
    start = (1 << 32) - 1800
    found = pictures([rtp(SLICE, start + 3600 * number, number) for number in range(3)])
    assert [picture.pts - start for picture in found] == [0, 3600, 7200]


def test_padding_extensions_and_other_payloads() -> None:
    extended = rtp(bytes(2) + b"\0\1" + bytes(4) + SLICE + b"\0\0\3", 0, 0, first=0x80 | 0x20 | 0x10)
    assert pictures([extended, rtp(IDR, 1, 1, payload_type=97)]) == [AccessUnit(0, False, annex_b(SLICE))]


def test_a_recovery_point_is_a_key_picture() -> None:
    found = pictures(
        [rtp(b"\x06\x05\x01x\x06\x01\x80", 0, 0), rtp(SLICE, 0, 1), rtp(b"\x06\x05\x01x", 1, 2), rtp(SLICE, 1, 3)]
    )
    assert [picture.is_key for picture in found] == [True, False]


def test_parameter_sets_are_read_from_the_description() -> None:
    assert parameter_sets("packetization-mode=1; sprop-parameter-sets=Z3Bz,aHBw") == (SPS, PPS)
    assert parameter_sets("sprop-sps=Z3Bz;sprop-pps=aHBw;sprop-vps=?") == (SPS, PPS)
    assert parameter_sets("") == ()


@given(st.lists(st.integers(0, 10**6), max_size=40))
def test_decoding_times_increase_and_are_never_late(shown: list[int]) -> None:
    times = decoding_times(shown)
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    assert all(time <= pts for time, pts in zip(times, shown, strict=True))
