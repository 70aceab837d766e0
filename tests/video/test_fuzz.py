"""Damaged bytes give frames or a typed error: nothing else comes out, and nothing hangs."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adafocus.video.limits import MediaLimits
from tests.media.damage import with_stream_announced_midway
from tests.video.clips import make_clip, named, outcome

# Damage may turn a small clip into one that claims to be huge; a real service has larger limits and a sandbox.
LIMITS = MediaLimits(max_pixels=720 * 576, decode_memory_bytes=256 * 1024**2, max_frames=5000)
OUTCOMES = {"ok", "partial", "undecodable", "unsupported_media", "no_video_stream", "too_many_pixels", "too_long"}
KINDS: dict[str, dict[str, Any]] = {
    "mp4": {"codec": "libx264", "g": "5", "bf": "2"},
    "matroska": {"container": "matroska", "codec": "libx264", "g": "5"},
    "avi": {"container": "avi", "codec": "mpeg4", "g": "5"},
    "mpegts": {"container": "mpegts", "codec": "mpeg2video", "g": "5"},
    "vp9": {"container": "webm", "codec": "libvpx-vp9", "g": "5"},
    "flv": {"container": "flv", "codec": "flv", "g": "5"},
    "asf": {"container": "asf", "codec": "wmv2", "g": "5"},
    "gif": {"container": "gif", "codec": "gif", "pix_fmt": "rgb8"},
    "h263": {"container": "3gp", "codec": "h263", "g": "5", "size": (176, 144)},
    "msmpeg4v2": {"container": "avi", "codec": "msmpeg4v2", "g": "5"},
    "msmpeg4v3": {"container": "avi", "codec": "msmpeg4", "g": "5"},
    "dv": {"container": "avi", "codec": "dvvideo", "size": (720, 576)},
    "rawvideo": {"container": "avi", "codec": "rawvideo", "pix_fmt": "bgr24"},
}


@cache
def clip(kind: str) -> bytes:
    return make_clip(4 if kind == "dv" else 12, **KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=12),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_flipped_and_missing_bytes(kind: str, flips: list[tuple[float, int]], keep: float) -> None:
    data = bytearray(clip(kind))
    for place, mask in flips:
        data[int(place * len(data))] ^= mask
    assert outcome(bytes(data[: int(keep * len(data))]), LIMITS) in OUTCOMES


@settings(max_examples=25, deadline=None)
@given(start=st.floats(0, 0.9), length=st.floats(0, 0.3), filler=st.integers(0, 255))
def test_overwritten_stretches(start: float, length: float, filler: int) -> None:
    data = bytearray(named("mp4_faststart.mp4"))
    begin = int(start * len(data))
    end = min(begin + int(length * len(data)), len(data))
    data[begin:end] = bytes([filler]) * (end - begin)
    assert outcome(bytes(data), LIMITS) in OUTCOMES


@settings(max_examples=50, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\x00\x00\x00\x18ftypmp42", b"\x1aE\xdf\xa3", b"FLV\x01", b"GIF89a"]),
)
def test_arbitrary_bytes(data: bytes, magic: bytes) -> None:
    assert outcome(magic + data, LIMITS) in OUTCOMES - {"ok", "partial"} or magic == b"GIF89a"


def test_a_stream_that_is_announced_midway() -> None:
    data = with_stream_announced_midway(named("truncated_ts_midpacket.ts"))
    assert outcome(data) in ("ok", "partial")
