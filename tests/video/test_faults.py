"""Files of which players, recorders and splicers make many: each frame is the one that an ordinary player shows."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from adafocus.video.errors import UnsupportedMedia
from adafocus.video.limits import MediaLimits
from adafocus.video.transform import Geometry
from tests import tolerances
from tests.video.clips import (
    FIXTURES,
    claim_key_frames,
    info_of,
    make_clip,
    moov_first,
    number_of,
    order_16,
    outcome,
    read_frames,
)
from tests.video.defects import (
    StoredPacket,
    divx_packed,
    empty_vop,
    joined,
    packets_of,
    remux,
    shifted,
    vop_kind,
    with_decoding_times,
    with_equal_times,
    with_streams,
)
from tests.video.h264_fields import Coding, Picture, bar_number, field_stream, mux_fields

RATE = 25
ENCODERS = {
    "h264": {"codec": "libx264", "g": "10", "bf": "0"},
    "h264, B-frames": {"codec": "libx264", "g": "12", "bf": "3"},
    "hevc": {"codec": "libx265", "x265-params": "keyint=12:log-level=none"},
    "mpeg2": {"codec": "mpeg2video", "container": "mpegts", "g": "12", "bf": "2"},
    "vp8": {"codec": "libvpx", "container": "webm", "g": "20"},
}
WRAP_S = 2**33 / 90_000


@cache
def sound(encoder: str, frames: int = 60) -> bytes:
    return make_clip(frames, **ENCODERS[encoder])


def assert_sound(
    clip: bytes, numbers: list[int], *, seconds: float | None = None, read: Callable[..., int | None] = number_of
) -> None:
    """Whether every frame is right in two orders, and all times and the duration."""
    count = len(numbers)
    duration = count / RATE if seconds is None else seconds
    for wanted in (order_16(count), tuple(range(count))):
        frames, stream, video = read_frames(clip, wanted)
        assert video.info.frames == count
        assert video.info.duration_s == pytest.approx(duration, abs=tolerances.DAMAGED_TIME_S)
        assert [frame.index for frame in frames] == list(wanted)
        assert [read(frame.pixels) for frame in frames] == [numbers[index] for index in wanted]
        assert stream.frames_decoded <= video.index.packets
        if seconds is None:
            assert [frame.time_s for frame in frames] == pytest.approx(
                [index / RATE for index in wanted], abs=tolerances.DAMAGED_TIME_S
            )


def read_band(pixels: NDArray[np.uint8]) -> int:
    """The number in the middle band of our numbered test pictures: ten bits, the least significant first."""
    side = pixels.shape[0] // 10
    row = pixels[pixels.shape[0] // 2].mean(axis=1)
    return sum(1 << bit for bit in range(10) if row[bit * side : (bit + 1) * side].mean() > 127)


# Clocks


@pytest.mark.parametrize(
    ("encoder", "container"),
    [
        *itertools.product(("h264", "h264, B-frames", "hevc"), ("mpegts", "flv", "matroska")),
        ("mpeg2", "mpegts"),
        ("mpeg2", "vob"),
    ],
)
@pytest.mark.parametrize("offsets", [(0, 0), (5, 5.013), (50, 3)], ids=["again", "a little later", "earlier"])
def test_a_second_part_whose_clock_starts_anew(encoder: str, container: str, offsets: tuple[float, float]) -> None:
    parts = [remux(sound(encoder), container, shifted(offset)) for offset in offsets]
    assert_sound(joined(parts, container), [*range(60), *range(60)])


@pytest.mark.parametrize("container", ["mpegts", "flv"])
def test_several_parts(container: str) -> None:
    parts = [remux(sound("h264, B-frames"), container, shifted(offset)) for offset in (100, 3, 50, 0)]
    assert_sound(joined(parts, container), [*range(60)] * 4)


@pytest.mark.parametrize("start", [24, 31], ids=["at a key frame", "amid a group"])
@pytest.mark.parametrize("seconds", [20, 7200, 95_000])
@pytest.mark.parametrize(
    ("encoder", "container"),
    [("h264", "mpegts"), ("h264, B-frames", "mpegts"), ("h264", "flv"), ("mpeg2", "vob"), ("hevc", "mpegts")],
)
def test_a_clock_that_leaps(encoder: str, container: str, seconds: float, start: int) -> None:
    assert_sound(remux(sound(encoder), container, shifted(seconds, start)), [*range(60)])


@pytest.mark.parametrize("encoder", ["h264", "h264, B-frames"])
def test_a_clock_that_steps_back_amid_a_group(encoder: str) -> None:
    parts = [
        remux(sound(encoder), "mpegts", shifted(100), slice(0, 35)),
        remux(sound(encoder), "mpegts", shifted(0), slice(35, 60)),
    ]
    assert_sound(joined(parts, "mpegts"), [*range(60)])


@pytest.mark.parametrize("early", [1.2, 70])
@pytest.mark.parametrize("container", ["mpegts", "vob"])
def test_a_clock_of_33_bits_that_wraps(container: str, early: float) -> None:
    base = remux(sound("mpeg2"), container, shifted(WRAP_S - early - 1.4))
    assert_sound(base, [*range(60)])


def test_a_pause_is_no_other_clock() -> None:
    clip = remux(sound("h264"), "mpegts", shifted(5, 30))
    assert_sound(clip, [*range(60)], seconds=60 / RATE + 5)
    assert_sound(remux(sound("h264"), "matroska", shifted(30, 30)), [*range(60)], seconds=60 / RATE + 30)


def test_an_hour_by_the_clock_is_still_too_long() -> None:
    def every_nine_seconds(number: int, packet: StoredPacket) -> tuple[int, int]:
        time = round(9 * number / packet.time_base)
        return time, time

    slow = remux(sound("h264"), "mpegts", every_nine_seconds)
    assert outcome(slow, MediaLimits(max_seconds=500)) == "too_long"
    assert outcome(slow, MediaLimits(max_seconds=600)) == "ok"


# Equal and missing times


@pytest.mark.parametrize("places", [(30, 31), (30, 31, 32), (0, 1), (58, 59)])
@pytest.mark.parametrize("encoder", ["vp8", "h264", "h264, B-frames"])
def test_frames_with_equal_times_cost_no_other_its_time(encoder: str, places: tuple[int, ...]) -> None:
    clip = remux(sound(encoder), "matroska", with_equal_times(places))
    assert_sound(clip, [*range(60)])


def test_a_browsers_recording_has_the_duration_of_its_times() -> None:
    """It declares neither a duration nor a rate: FFmpeg then guesses 1000 frames a second."""
    clip = remux(sound("vp8"), "webm", with_equal_times((30, 31)), options={"live": "1"})
    video = info_of(clip)
    assert video.duration_s == pytest.approx(59 / RATE, abs=tolerances.DAMAGED_TIME_S)
    assert video.fps == pytest.approx(RATE, rel=0.05)


# Fields


CODINGS: dict[str, list[Coding]] = {
    "fields": ["fields"] * 24,
    "frames": ["frame"] * 24,
    "pairs of macroblocks": ["mbaff"] * 24,
    "mixed": ["fields", "mbaff", "fields", "frame", "fields", "fields", "mbaff", "frame"] * 3,
}


@pytest.mark.parametrize("container", ["mpegts", "matroska", "mp4", "mov", "flv"])
@pytest.mark.parametrize("together", [False, True], ids=["a packet each", "one packet"])
@pytest.mark.parametrize("codings", CODINGS.values(), ids=CODINGS)
def test_two_fields_are_one_frame(codings: list[Coding], together: bool, container: str) -> None:
    clip = mux_fields(field_stream(codings, key_every=8), container, together=together)
    assert_sound(clip, [*range(24)], read=bar_number)
    if container == "mp4":
        assert_sound(moov_first(clip), [*range(24)], read=bar_number)


@pytest.mark.parametrize("container", ["mpegts", "mp4"])
def test_fields_of_reordered_frames(container: str) -> None:
    numbers = [number for group in range(0, 24, 4) for number in (group, group + 2, group + 1, group + 3)]
    clip = mux_fields(field_stream(["fields", "mbaff", "fields", "fields"] * 6, numbers, key_every=4), container)
    assert_sound(clip, [*range(24)], read=bar_number)


def test_one_time_stamp_for_two_fields() -> None:
    path = FIXTURES / "field_pairs.ts"
    wanted = (2, 7, 12, 17, 22, 27, 32, 37)
    frames, _, video = read_frames(path, wanted, Geometry(64, 64))
    assert (video.info.frames, video.info.fps, video.info.duration_s) == (40, 25.0, pytest.approx(1.6))
    assert [read_band(frame.pixels) for frame in frames] == list(wanted)
    assert [frame.time_s for frame in frames] == pytest.approx([number / RATE for number in wanted])


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_field_costs_no_other_frame(lost: int) -> None:
    pictures = field_stream(["fields"] * 24, key_every=8)
    pictures[5] = Picture(5, (pictures[5].units[1 - lost],))
    frames, _, video = read_frames(mux_fields(pictures, "mpegts"))
    assert video.info.frames == 24
    assert all(bar_number(frame.pixels) == frame.index for frame in frames if frame.index != 5)
    assert len(frames) >= 23


# Key frames


@pytest.mark.parametrize("container", ["mp4", "mov", "mpegts", "matroska", "flv"])
@pytest.mark.parametrize("b_frames", ["0", "2"])
def test_a_gradual_refresh_is_no_key_frame(b_frames: str, container: str) -> None:
    clip = make_clip(60, codec="libx264", g="20", bf=b_frames, **{"intra-refresh": "1"})
    assert_sound(remux(clip, container), [*range(60)])


def test_a_gradual_refresh_in_hevc() -> None:
    options = {"x265-params": "intra-refresh=1:keyint=20:bframes=0:log-level=none"}
    clip = make_clip(60, codec="libx265", **options)
    assert_sound(clip, [*range(60)])
    assert_sound(claim_key_frames(clip, "mp4", every=5), [*range(60)])


@pytest.mark.parametrize(
    ("encoder", "container"),
    [
        ({"codec": "libx264", "bf": "2"}, "mp4"),
        ({"codec": "libvpx"}, "matroska"),
        ({"codec": "libvpx-vp9"}, "matroska"),
        ({"codec": "mpeg4"}, "mp4"),
        ({"codec": "mpeg2video"}, "mp4"),
    ],
)
def test_marks_of_key_frames_are_not_taken_for_granted(encoder: dict[str, str], container: str) -> None:
    clip = make_clip(60, container=container, g="600", **encoder)
    assert_sound(claim_key_frames(clip, container, every=7), [*range(60)])


def test_open_groups_are_still_reached_by_their_key_frames() -> None:
    for options in (
        {"codec": "libx264", "g": "12", "bf": "3", "x264-params": "open-gop=1"},
        {"codec": "libx265", "x265-params": "open-gop=1:keyint=12:log-level=none"},
    ):
        clip = make_clip(60, **options)
        assert_sound(clip, [*range(60)])
        assert len(read_frames(clip, (59,))[2].index.keys) >= 4


# Containers without presentation times


def test_a_packed_stream_of_xvid() -> None:
    wanted = (6, 13, 20, 27, 34, 41, 48, 55)
    frames, _, video = read_frames(FIXTURES / "divx_packed.avi", wanted, Geometry(240, 240))
    assert [read_band(frame.pixels) for frame in frames] == list(wanted)
    assert [frame.time_s for frame in frames] == pytest.approx([number / RATE for number in wanted])
    assert video.info.duration_s == pytest.approx(2.4)


@pytest.mark.parametrize("container", ["avi", "matroska", "mp4"])
@pytest.mark.parametrize("b_frames", ["1", "2"])
def test_packed_and_plain_b_frames(b_frames: str, container: str) -> None:
    clip = make_clip(60, codec="mpeg4", container="avi", g="12", bf=b_frames, b_strategy="0", sc_threshold="0")
    pictures = [packet.data for packet in packets_of(clip)]
    assert "B" in map(vop_kind, pictures)
    assert_sound(with_decoding_times(clip, divx_packed(pictures), container), [*range(60)])
    assert_sound(with_decoding_times(clip, pictures, container), [*range(60)])


@pytest.mark.parametrize("container", ["avi", "matroska", "mp4"])
def test_an_empty_picture_is_no_frame(container: str) -> None:
    clip = make_clip(60, codec="mpeg4", container="avi", g="12", bf="0")
    packets: list[bytes] = []
    for number, packet in enumerate(packets_of(clip)):
        packets += [packet.data, empty_vop(packet.data)] if number % 9 == 4 else [packet.data]
    assert_sound(with_decoding_times(clip, packets, container), [*range(60)], seconds=len(packets) / RATE)


@pytest.mark.parametrize("container", ["avi", "asf"])
@pytest.mark.parametrize("encoder", ["h264", "h264, B-frames", "mpeg2"])
def test_other_formats_where_presentation_times_are_guessed(encoder: str, container: str) -> None:
    if (encoder, container) != ("mpeg2", "asf"):
        codec = {key: value for key, value in ENCODERS[encoder].items() if key != "container"}
        assert_sound(make_clip(60, container=container, **codec), [*range(60)])


@pytest.mark.parametrize("container", ["mp4", "matroska", "flv", "mpegts"])
def test_decoding_times_in_the_place_of_presentation_times(container: str) -> None:
    def one_time(number: int, packet: StoredPacket) -> tuple[int, int]:
        time = round(number / RATE / packet.time_base)
        return time, time

    clip = remux(sound("h264, B-frames"), container, one_time)
    assert_sound(clip, [*range(60)])
    assert_sound(moov_first(clip), [*range(60)])


# Streams


@pytest.mark.parametrize("silent", [1, 3])
@pytest.mark.parametrize("container", ["mpegts", "matroska"])
def test_a_stream_that_is_announced_and_never_sent(container: str, silent: int) -> None:
    clips = [sound("h264")] * (silent + 1)
    clip = with_streams(clips, [False] * silent + [True], container)
    assert_sound(clip, [*range(60)])


def test_only_streams_that_are_never_sent() -> None:
    clip = with_streams([sound("h264")] * 2, [False, False], "matroska")
    assert outcome(clip) in ("undecodable", "unsupported_media")


def test_a_silent_stream_of_a_codec_that_is_not_permitted() -> None:
    limits = MediaLimits(codecs=("h264",))
    clips = [sound("vp8"), sound("h264")]
    assert outcome(with_streams(clips, [False, True], "matroska"), limits) == "ok"
    with pytest.raises(UnsupportedMedia, match="codec vp8 is not permitted"):
        info_of(with_streams(clips, [True, True], "matroska"), limits)
