from __future__ import annotations

import io

import av
import pytest

from adafocus.video.bits import UnreadableError
from adafocus.video.errors import TooManyPixels
from adafocus.video.hevc_references import HevcReferences
from adafocus.video.limits import MediaLimits
from adafocus.video.memory_limits import PictureGuard
from adafocus.video.nal_units import HevcUnits
from tests.video.clips import FIXTURES, info_of, make_clip, order_16, outcome, read_frames
from tests.video.defects import packets_of

FIVE_K = FIXTURES / "hevc_5k_10bit.mp4"
FIVE_K_SIZE = (5312, 2988)
TIGHT = MediaLimits(decode_memory_bytes=72 * 1024**2)
"""Enough for eight pictures of 640 × 640, and not for eighteen."""


def x265(**options: object) -> bytes:
    parameters = {"keyint": 24, "log-level": "none", "bframes": 0, "scenecut": 0, **options}
    return make_clip(
        24, codec="libx265", **{"x265-params": ":".join(f"{key}={value}" for key, value in parameters.items())}
    )


def extradata_of(clip: bytes) -> bytes:
    with av.open(io.BytesIO(clip)) as container:
        return bytes(container.streams.video[0].codec_context.extradata or b"")


def test_5k_with_ten_bits_is_read() -> None:
    assert outcome(FIVE_K) == "ok"
    video = info_of(FIVE_K)
    assert (video.width, video.height, video.frames) == (*FIVE_K_SIZE, 15)


@pytest.mark.parametrize(
    "options",
    [
        {"ref": 1},
        {"ref": 5},
        {"bframes": 4, "b-pyramid": 1, "ref": 4},
        {"open-gop": 1, "bframes": 8, "keyint": 8},
        {"temporal-layers": 3, "bframes": 3},
        {"intra-refresh": 1},
        {"scaling-list": "default", "ref": 2},
    ],
    ids=lambda options: " ".join(f"{key}={value}" for key, value in options.items()),
)
def test_a_sound_stream_keeps_its_promise(options: dict[str, object]) -> None:
    clip = x265(**options)
    references = HevcReferences(extradata_of(clip))
    counts = [references.read(packet.data) for packet in packets_of(clip)]
    assert references.buffered is not None
    assert counts[0] == 0
    assert 1 <= max(counts) <= references.buffered - 1


def test_a_sound_stream_is_read_on_its_promise() -> None:
    clip = make_clip(24, codec="libx265", size=(640, 640), **{"x265-params": "ref=3:bframes=2:log-level=none"})
    frames, _, _ = read_frames(clip, order_16(24))
    assert len(frames) == 16
    assert outcome(clip, TIGHT) == "ok"


def test_more_pictures_than_promised_are_refused_before_they_are_decoded() -> None:
    modest, greedy = x265(ref=1), x265(ref=6)
    guard = PictureGuard("hevc", intra_only=False, extradata=extradata_of(modest), limits=TIGHT)
    guard.check(1000, 640, "yuv420p")
    for packet in packets_of(modest):
        guard.check_packet(packet.data)
    with pytest.raises(TooManyPixels, match=r"keeps up to \d+ pictures; decode_memory_bytes permits"):
        for packet in packets_of(greedy):
            guard.check_packet(packet.data)


def test_a_greater_promise_midway_is_refused() -> None:
    modest, greedy = x265(ref=1), x265(ref=6)
    guard = PictureGuard("hevc", intra_only=False, extradata=extradata_of(modest), limits=TIGHT)
    guard.check(1000, 640, "yuv420p")
    sets = b"".join(len(unit).to_bytes(4) + unit for unit in HevcUnits().configure(extradata_of(greedy)))
    with pytest.raises(TooManyPixels):
        guard.check_packet(sets + packets_of(modest)[0].data)


@pytest.mark.parametrize("packet", [b"\0", b"\0\0\0\1\x02", b"\0\0\0\3\x02\x01\xff", bytes(40)])
def test_a_packet_that_cannot_be_read_counts_as_the_worst(packet: bytes) -> None:
    guard = PictureGuard("hevc", intra_only=False, extradata=extradata_of(x265(ref=1)), limits=TIGHT)
    guard.check(1000, 640, "yuv420p")
    with pytest.raises(TooManyPixels):
        guard.check_packet(packet)
    small = PictureGuard("hevc", intra_only=False, extradata=extradata_of(x265(ref=1)), limits=MediaLimits())
    small.check(64, 64, "yuv420p")
    small.check_packet(packet)


def test_without_a_promise_the_format_bounds_the_memory() -> None:
    guard = PictureGuard("hevc", intra_only=False, extradata=b"", limits=MediaLimits())
    with pytest.raises(TooManyPixels):
        guard.check(*FIVE_K_SIZE, "yuv420p10le")
    with pytest.raises(UnreadableError):
        HevcReferences(b"").read(packets_of(x265())[1].data)


@pytest.mark.parametrize(
    ("codec", "size", "pix_fmt", "fits"),
    [
        ("vp9", FIVE_K_SIZE, "yuv420p10le", True),
        ("av1", FIVE_K_SIZE, "yuv420p10le", True),
        ("h264", FIVE_K_SIZE, "yuv420p", True),
        ("h264", (7680, 4320), "yuv420p", False),
        ("vp9", (7680, 4320), "yuv420p10le", False),
    ],
)
def test_large_pictures_of_other_formats(codec: str, size: tuple[int, int], pix_fmt: str, fits: bool) -> None:
    guard = PictureGuard(codec, intra_only=False, extradata=b"", limits=MediaLimits())
    assert (guard.memory_bytes(*size, pix_fmt) <= MediaLimits().decode_memory_bytes) == fits
