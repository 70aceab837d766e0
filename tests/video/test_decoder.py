from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from adafocus.video.cursor import Cursor
from adafocus.video.decoder import FrameStream
from adafocus.video.errors import TooManyPixels, Undecodable
from adafocus.video.limits import MediaLimits
from adafocus.video.probe import open_video
from adafocus.video.sampler import visiting_order, wanted_frames
from adafocus.video.transform import Geometry
from tests import tolerances
from tests.video.clips import GEOMETRY, claim_key_frames, make_clip, named, number_of, order_16, read_frames, reader
from tests.video.defects import with_display_matrix

GOP_CLIPS = {
    "h264, no reordering": {"codec": "libx264", "g": "10", "bf": "0"},
    "h264, B-frames": {"codec": "libx264", "g": "12", "bf": "3"},
    "h264, one key frame": {"codec": "libx264", "g": "600", "bf": "3"},
    "h264 in MPEG-TS": {"codec": "libx264", "container": "mpegts", "g": "10", "bf": "2"},
    "h264 in FLV": {"codec": "libx264", "container": "flv", "g": "10", "bf": "2"},
    "h264 in Matroska": {"codec": "libx264", "container": "matroska", "g": "10", "bf": "2"},
    "mpeg4 in AVI": {"codec": "mpeg4", "container": "avi", "g": "10", "bf": "2"},
    "mpeg2 in MPEG-PS": {"codec": "mpeg2video", "container": "vob", "g": "10", "bf": "2"},
    "vp8": {"codec": "libvpx", "container": "webm", "g": "10"},
    "vp9": {"codec": "libvpx-vp9", "container": "webm", "g": "10"},
    "av1": {"codec": "libsvtav1", "container": "matroska", "g": "10"},
    "wmv": {"codec": "wmv2", "container": "asf", "g": "10"},
    "all intra": {"codec": "mjpeg", "container": "mov"},
    "gif": {"codec": "gif", "container": "gif", "pix_fmt": "rgb8"},
}
FILES = ["open_gop_bpyramid.mp4", "mpeg1_ps.mpg", "truncated_ts_midpacket.ts", "ts_size_change_midstream.ts"]


@pytest.mark.parametrize("options", GOP_CLIPS.values(), ids=GOP_CLIPS)
def test_each_frame_is_the_one_asked_for(options: dict[str, str]) -> None:
    clip = make_clip(60, **options)
    wanted = order_16(60)
    frames, stream, video = read_frames(clip, wanted)
    assert [number_of(frame.pixels) for frame in frames] == list(wanted)
    assert [frame.index for frame in frames] == list(wanted)
    assert [frame.position for frame in frames] == list(range(16))
    assert [frame.time_s for frame in frames] == pytest.approx(
        [index / 25 for index in wanted], abs=tolerances.FRAME_TIME_S
    )
    assert stream.frames_decoded <= video.index.packets == 60


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_seeking_gives_what_a_scan_gives_bit_for_bit(name: str, data: st.DataObject) -> None:
    clip = named(name)
    scan = {frame.index: frame.pixels for frame in read_frames(clip)[0]}
    assert len(scan) >= 69
    wanted = data.draw(st.lists(st.integers(0, 108 if len(scan) > 100 else 69), min_size=1, max_size=20))
    assume(any(index in scan for index in wanted))
    frames, stream, video = read_frames(clip, wanted)
    assert [frame.index for frame in frames] == [index for index in wanted if index in scan]
    assert all(np.array_equal(frame.pixels, scan[frame.index]) for frame in frames)
    assert stream.frames_decoded <= video.index.packets


def test_a_full_read_is_one_scan() -> None:
    for name in FILES:
        _, stream, video = read_frames(named(name))
        assert stream.frames_decoded == video.index.packets


def test_leaving_after_the_first_frame_decodes_little() -> None:
    clip = make_clip(240, codec="libx264", g="12", bf="2")
    wanted = order_16(240)
    with open_video(io.BytesIO(clip)) as video:
        stream = FrameStream(video, wanted, GEOMETRY)
        frame = stream.next()
        assert frame is not None
        assert number_of(frame.pixels) == wanted[0]
        # At most the first frame with its reordering delay, and one group of pictures.
        assert stream.frames_decoded <= 5 + 12 + 2
        stream.close()
        assert stream.next() is None
        assert stream.frames_decoded <= 5 + 12 + 2


def test_nothing_is_decoded_before_it_is_asked_for() -> None:
    with open_video(io.BytesIO(make_clip(60, codec="mjpeg", container="mov"))) as video:
        stream = FrameStream(video, order_16(60), GEOMETRY)
        assert stream.frames_decoded == 1
        assert stream.next() is not None
        assert stream.frames_decoded == 2


def test_a_frame_wanted_twice_comes_twice_and_is_decoded_once() -> None:
    frames, stream, _ = read_frames(make_clip(3), order_16(3))
    assert len(frames) == 16
    assert stream.frames_decoded <= 3


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_frames_are_turned_as_they_are_displayed(rotation: int) -> None:
    upright = read_frames(make_clip(1, size=(128, 64)), geometry=Geometry(64, 64))[0][0].pixels
    frames, _, video = read_frames(make_clip(1, size=(128, 64), rotation=rotation), geometry=Geometry(64, 64))
    assert video.info.rotation == (360 - rotation) % 360
    assert (video.info.width, video.info.height) == ((128, 64) if rotation == 180 else (64, 128))
    assert np.array_equal(frames[0].pixels, np.rot90(upright, k=rotation // 90))


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_frames_are_mirrored_as_they_are_displayed(container: str, rotation: int) -> None:
    upright = read_frames(make_clip(1, size=(128, 64)), geometry=Geometry(64, 64))[0][0].pixels
    a, b = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[rotation]
    clip = with_display_matrix(make_clip(1, container=container, size=(128, 64)), (-a, b, b, a))
    frames, _, video = read_frames(clip, geometry=Geometry(64, 64))
    assert video.info.rotation == rotation
    assert np.array_equal(frames[0].pixels, np.rot90(upright, k=-rotation // 90)[:, ::-1])


def test_a_rotated_file_equals_its_upright_twin_turned() -> None:
    upright = read_frames(named("mp4_faststart.mp4"), (40,), Geometry(60, 60))[0][0].pixels
    rotated = read_frames(named("rotate_90.mp4"), (40,), Geometry(60, 60))[0][0].pixels
    assert np.array_equal(rotated, np.rot90(upright))


def test_frames_follow_a_size_that_changes_midway() -> None:
    frames, _, video = read_frames(named("ts_size_change_midstream.ts"))
    assert len(frames) == video.index.frames == 109
    assert (video.info.width, video.info.height) == (320, 240)


def test_a_size_that_grows_over_the_limit_midway_is_refused() -> None:
    limits = MediaLimits(max_pixels=320 * 240)
    with (
        io.BytesIO(named("ts_size_change_midstream.ts")) as opened,
        open_video(opened, limits) as video,
    ):
        stream = FrameStream(video, range(109), GEOMETRY)
        given_before = 0
        with pytest.raises((TooManyPixels, Undecodable)):
            while stream.next() is not None:
                given_before += 1
            raise Undecodable(f"the larger part was left out after {given_before} frames")
        assert given_before < 109


def test_damage_costs_the_damaged_frames_only() -> None:
    frames, stream, video = read_frames(named("zeroed_middle.mp4"))
    assert 40 <= len(frames) < video.index.frames
    assert stream.frames_decoded == video.index.packets


def test_a_cut_file_gives_what_is_there() -> None:
    whole = named("mp4_faststart.mp4")
    frames, _, video = read_frames(whole[: len(whole) // 2])
    assert video.index.frames < 60
    assert len(frames) >= video.index.frames - 1


def test_a_video_of_which_no_wanted_frame_can_be_had_is_undecodable() -> None:
    there = {frame.index for frame in read_frames(named("zeroed_middle.mp4"))[0]}
    lost = next(index for index in range(109) if index not in there)
    with pytest.raises(Undecodable, match="none of the wanted frames"):
        read_frames(named("zeroed_middle.mp4"), (lost,))


@pytest.mark.parametrize("wanted", [(), (5,), (-1, 2)])
def test_only_frames_of_the_video_can_be_wanted(wanted: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"some of 0\.\.4"):
        read_frames(make_clip(5), wanted)


def test_packets_wrongly_marked_as_key_frames_are_not_visited_first() -> None:
    honest = make_clip(60, codec="libx265", **{"x265-params": "keyint=600:log-level=none"})
    frames, stream, video = read_frames(claim_key_frames(honest, "mp4", every=8), order_16(60))
    assert video.index.keys.tolist() == [0]
    assert [frame.index for frame in frames] == list(order_16(60))
    assert all(number_of(frame.pixels) == frame.index for frame in frames)
    assert stream.frames_decoded <= video.index.packets


@pytest.mark.parametrize("name", FILES)
def test_a_container_that_cannot_seek_gives_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = named(name)
    wanted = (60, 5, 30, 31)
    seeking, stream, _ = read_frames(clip, wanted)
    monkeypatch.setattr(Cursor, "_seek", lambda *_: False)
    reading, other, _ = read_frames(clip, wanted)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(seeking, reading, strict=True))
    assert stream.frames_decoded == other.frames_decoded


def test_times_go_on_where_a_second_part_begins_before_the_first_ends() -> None:
    frames, _, video = read_frames(named("ts_size_change_midstream.ts"), (108, 0, 54))
    assert (video.info.frames, video.info.duration_s) == (109, pytest.approx(109 / 30, abs=tolerances.FRAME_TIME_S))
    assert [frame.index for frame in frames] == [108, 0, 54]
    assert [frame.time_s for frame in frames] == pytest.approx([108 / 30, 0, 54 / 30], abs=tolerances.FRAME_TIME_S)


def test_frames_are_contiguous_rgb_squares() -> None:
    for frame in read_frames(make_clip(4), (3, 1))[0]:
        assert frame.pixels.shape == (GEOMETRY.crop, GEOMETRY.crop, 3)
        assert frame.pixels.dtype == np.uint8
        assert frame.pixels.flags.c_contiguous


@pytest.mark.parametrize("options", GOP_CLIPS.values(), ids=GOP_CLIPS)
def test_key_frames_are_reached_with_fewer_packets_and_are_the_frames_that_they_are_said_to_be(
    options: dict[str, str],
) -> None:
    clip = make_clip(60, **options)
    with reader(clip) as opened, open_video(opened) as video:
        key_frames = video.index.key_frames
    assert key_frames[0] == 0
    order = visiting_order(4, "coarse_to_fine")
    plain = read_frames(clip, wanted_frames(60, frames=4, order=order))[1]
    wanted = wanted_frames(60, frames=4, order=order, key_frames=key_frames)
    frames, stream, _ = read_frames(clip, wanted)
    assert [number_of(frame.pixels) for frame in frames] == [frame.index for frame in frames] == list(wanted)
    assert stream.frames_decoded <= plain.frames_decoded


def test_a_key_frame_costs_one_packet_each() -> None:
    clip = make_clip(80, g="10", bf="0", sc_threshold="0")
    with reader(clip) as opened, open_video(opened) as video:
        assert video.index.key_frames == tuple(range(0, 80, 10))
    wanted = wanted_frames(80, frames=8, order=visiting_order(8, "coarse_to_fine"), key_frames=range(0, 80, 10))
    assert read_frames(clip, wanted)[1].frames_decoded == 8
