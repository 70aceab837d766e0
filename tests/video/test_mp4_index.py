"""Frames known from a container's header: only where that is certain, and then before the rest of the file is there."""

from __future__ import annotations

import io
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adafocus.video import mp4_index
from adafocus.video.cursor import Packets
from adafocus.video.decoder import FrameStream
from adafocus.video.errors import TooLong, TooManyPixels, VideoError
from adafocus.video.frame_index import FrameIndex
from adafocus.video.index import read_index
from adafocus.video.limits import MediaLimits
from adafocus.video.mp4_index import announced_index
from adafocus.video.probe import open_video
from adafocus.video.source import Source
from tests.video.clips import GEOMETRY, make_clip, moov_first, named, number_of, order_16, read_frames

GROUPS = {
    "h264": {"g": "5", "bf": "0"},
    "h264, B-frames": {"g": "7", "bf": "3"},
    "h264, several slices": {"g": "5", "x264-params": "slices=3"},
    "h264, delimiters and timing": {"g": "5", "x264-params": "aud=1:nal-hrd=vbr:vbv-maxrate=1000:vbv-bufsize=1000"},
    "h264, every frame a key frame": {"g": "1"},
    "h264, parameter sets repeated": {"g": "5", "x264-params": "repeat-headers=1"},
}
ONE_GROUP = {
    "h264": {"codec": "libx264", "g": "600", "sc_threshold": "0", "bf": "0"},
    "h264, B-frames": {"codec": "libx264", "g": "600", "sc_threshold": "0", "bf": "3"},
    "hevc, several key frames": {"codec": "libx265", "x265-params": "keyint=10:log-level=none"},
    "h264 in MOV": {"codec": "libx264", "container": "mov", "g": "600", "sc_threshold": "0", "bf": "2"},
}
KEYS_H264 = moov_first(make_clip(40, codec="libx264", g="5", bf="2"))
RECOVERY_POINTS = moov_first(make_clip(40, codec="libx264", **{"g": "8", "x264-params": "intra-refresh=1"}))
FASTSTART = named("mp4_faststart.mp4")
HEADER = range(36, 2160)


class Dribble(io.BytesIO):
    """A file that comes a few bytes at a time, and remembers how far it was read."""

    furthest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """At most 64 bytes."""
        data = super().read(64 if size is None or size < 0 else min(size, 64))
        self.furthest = max(self.furthest, self.tell())
        return data


def both(data: bytes, limits: MediaLimits | None = None) -> tuple[FrameIndex | None, FrameIndex]:
    """The index by the header, and by all packets."""
    limits, opened = limits or MediaLimits(), io.BytesIO(data)
    source = Source(opened, limits)
    try:
        announced = announced_index(opened, source.stream, source.traits, limits)
        return announced, read_index(Packets(source.container, source.stream), source.traits, limits)
    finally:
        source.close()


def differing(a: FrameIndex, b: FrameIndex) -> list[str]:
    """Names of the attributes in which two indices differ."""
    return [each.name for each in fields(a) if not np.array_equal(getattr(a, each.name), getattr(b, each.name))]


@pytest.mark.parametrize("options", ONE_GROUP.values(), ids=ONE_GROUP)
def test_the_header_gives_the_index_that_all_packets_give(options: dict[str, str]) -> None:
    announced, read = both(moov_first(make_clip(40, **options)))
    assert announced is not None
    assert differing(announced, read) == []


@pytest.mark.parametrize("options", GROUPS.values(), ids=GROUPS)
def test_key_frames_of_h264_are_believed_if_the_packets_say_the_same(options: dict[str, str]) -> None:
    announced, read = both(moov_first(make_clip(40, codec="libx264", **options)))
    assert announced is not None
    assert differing(announced, read) == []


def test_key_frames_are_compared_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mp4_index, "_PIECE_BYTES", 700)
    announced, read = both(moov_first(make_clip(40, g="5")))
    assert announced is not None
    assert differing(announced, read) == []


@settings(max_examples=100, deadline=None)
@given(places=st.dictionaries(st.integers(0, len(KEYS_H264) - 1), st.integers(0, 255), min_size=1, max_size=4))
def test_damaged_packets_never_make_the_header_say_something_else(places: dict[int, int]) -> None:
    damaged = bytearray(KEYS_H264)
    media = damaged.index(b"mdat") + 4
    for place, value in places.items():
        # Mostly at the head of a packet's unit, where its kind is told.
        damaged[max(media, place)] = value
    try:
        announced, read = both(bytes(damaged))
    except VideoError:
        return
    assert announced is None or differing(announced, read) == []


@pytest.mark.parametrize("options", ONE_GROUP.values(), ids=ONE_GROUP)
def test_the_first_wanted_frame_comes_before_the_last_byte(options: dict[str, str]) -> None:
    clip = moov_first(make_clip(200, **options))
    wanted = order_16(200)
    reader = Dribble(clip)
    with open_video(reader) as video:
        stream = FrameStream(video, wanted, GEOMETRY)
        frame = stream.next()
        assert frame is not None
        assert number_of(frame.pixels) == wanted[0]
        assert reader.furthest < 0.9 * len(clip)


def test_the_whole_corpus_is_taken_at_its_word_only_where_that_holds(shared_dir: Path) -> None:
    taken = {}
    for path in sorted((shared_dir / "videos").iterdir()):
        for place, data in (("as it is", path.read_bytes()), ("header first", moov_first(path.read_bytes()))):
            try:
                announced, read = both(data)
            except VideoError:
                continue
            if announced is not None:
                taken[path.name, place] = differing(announced, read)
    assert {name: wrong for name, wrong in taken.items() if wrong} == {}
    assert ("mp4_faststart.mp4", "as it is") in taken
    assert ("zeroed_middle.mp4", "as it is") in taken
    assert len(taken) >= 25


@settings(max_examples=150, deadline=None)
@example(changes={555: 2})  # lengths of NAL units in three bytes instead of four
@given(changes=st.dictionaries(st.sampled_from(HEADER), st.integers(0, 255), min_size=1, max_size=2))
def test_a_header_that_lies_is_not_believed(changes: dict[int, int]) -> None:
    lying = bytearray(FASTSTART)
    for place, value in changes.items():
        lying[place] = value
    try:
        announced, read = both(bytes(lying))
    except VideoError:
        return
    assert announced is None or differing(announced, read) == []


HEVC = moov_first(make_clip(20, **ONE_GROUP["hevc, several key frames"]))
KEYS = HEVC.index(b"stss") + 8
REFUSED = {
    "a list of no key frames": HEVC[:KEYS] + bytes(4) + HEVC[KEYS + 4 :],
    "header at the end": make_clip(20, g="600", sc_threshold="0"),
    "a recovery point that the header does not call a key frame": RECOVERY_POINTS,
    "an H.264 key frame that is none": KEYS_H264.replace(b"\x65\x88", b"\x41\x88", 2),
    "cut": FASTSTART[:-1],
    "something after the media": FASTSTART + b"\0\0\0\x08free",
    "fragmented": make_clip(20, g="600", sc_threshold="0", movflags="frag_keyframe+empty_moov"),
    "another codec": moov_first(make_clip(20, codec="mpeg4", g="600")),
    "a configuration that states three bytes for each length": (
        FASTSTART[: FASTSTART.index(b"avcC") + 8] + b"\xfe" + FASTSTART[FASTSTART.index(b"avcC") + 9 :]
    ),
    "another container": make_clip(20, container="matroska", g="600"),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_is_not_certain_is_read_from_the_packets(data: bytes) -> None:
    assert both(data)[0] is None


def test_limits_hold_where_the_header_is_believed() -> None:
    for limits, error, words in (
        (MediaLimits(max_seconds=2), TooLong, "longer than 2 s"),
        (MediaLimits(max_seconds=3.62), TooLong, "at most 3.62 s"),
        (MediaLimits(max_frames=108), TooLong, "more than 108 frames"),
        (MediaLimits(max_pixels=320 * 100), TooManyPixels, "320×240"),
    ):
        with pytest.raises(error, match=words), open_video(io.BytesIO(FASTSTART), limits):
            pass


def test_frames_are_the_same_wherever_the_header_stands() -> None:
    clip = make_clip(40, g="600", sc_threshold="0", bf="3")
    wanted = order_16(40)
    late, one, _ = read_frames(clip, wanted)
    early, other, video = read_frames(moov_first(clip), wanted)
    assert [(f.position, f.index, f.time_s) for f in early] == [(f.position, f.index, f.time_s) for f in late]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(early, late, strict=True))
    assert one.frames_decoded == other.frames_decoded <= video.index.packets
