"""The generator's own tests: what it writes can be read back, in every container and codec that the tests use."""

from __future__ import annotations

import io
import os

import av
import numpy as np
import pytest

from tests.media.clips import AudioTrack, VideoTrack, make_clip, make_file
from tests.media.damage import boxes, cut, moov_first, remuxed, zeroed
from tests.media.named import NAMES, named
from tests.media.pictures import BITS, CORNERS, SMALLEST, numbered_picture, read_corners, read_number

KINDS = [
    ("mp4", "libx264"),
    ("mp4", "libx265"),
    ("mp4", "libsvtav1"),
    ("mov", "mjpeg"),
    ("mov", "prores_ks"),
    ("3gp", "h263"),
    ("matroska", "ffv1"),
    ("webm", "libvpx"),
    ("webm", "libvpx-vp9"),
    ("mpegts", "mpeg2video"),
    ("vob", "mpeg2video"),
    ("mpeg", "mpeg1video"),
    ("avi", "mpeg4"),
    ("avi", "msmpeg4v2"),
    ("avi", "msmpeg4"),
    ("avi", "dvvideo"),
    ("flv", "flv"),
    ("asf", "wmv2"),
    ("gif", "gif"),
]
SIZES = {"h263": (176, 144), "dvvideo": (720, 576)}
OPTIONS = {"libx265": {"x265-params": "log-level=none"}, "prores_ks": {}}
PIXELS = {"dvvideo": "yuv420p", "prores_ks": "yuv422p10le"}


def decoded(data: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(data)) as opened:
        return [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]


@pytest.mark.parametrize("number", [0, 1, 255, 1234, (1 << BITS) - 1])
@pytest.mark.parametrize("size", [(SMALLEST, SMALLEST), (64, 64), (320, 240), (90, 160)])
def test_a_picture_tells_its_number_and_its_corners(number: int, size: tuple[int, int]) -> None:
    picture = numbered_picture(number, *size)
    assert picture.shape == (size[1], size[0], 3)
    assert read_number(picture) == number
    assert read_corners(picture) == CORNERS
    assert read_corners(np.rot90(picture, k=-1)) == ("yellow", "red", "green", "blue")
    assert read_corners(picture[:, ::-1]) == ("green", "red", "yellow", "blue")


def test_a_part_of_a_picture_tells_the_number_too() -> None:
    assert read_number(numbered_picture(77, 160, 96)[6:-6, 38:-38], zoom=96 / 84) == 77


def test_a_picture_without_a_code_tells_none() -> None:
    assert read_number(np.full((64, 64, 3), 128, np.uint8)) is None
    assert read_number(np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)) is None
    with pytest.raises(ValueError, match=r"must be in 0\.\.4095, got 4096"):
        numbered_picture(4096)


@pytest.mark.parametrize(("container", "codec"), KINDS)
def test_every_kind_of_clip_can_be_read_back(container: str, codec: str) -> None:
    size = SIZES.get(codec, (64, 64))
    options = OPTIONS.get(codec, {})
    data = make_clip(8, container=container, codec=codec, size=size, pix_fmt=PIXELS.get(codec), first=40, **options)
    assert data == make_clip(
        8, container=container, codec=codec, size=size, pix_fmt=PIXELS.get(codec), first=40, **options
    )
    pictures = decoded(data)
    assert [read_number(picture) for picture in pictures] == list(range(40, 48))
    assert {read_corners(picture) for picture in pictures} == {CORNERS}


def test_frames_have_the_times_that_were_asked_for() -> None:
    times = [0, 7, 8, 30, 31]
    data = make_clip(5, container="matroska", codec="ffv1", times=times, clock=1000)
    with av.open(io.BytesIO(data)) as opened:
        assert [round(frame.time * 1000) for frame in opened.decode(video=0)] == times


def test_encoding_leaves_the_priority_of_the_process_as_it_is() -> None:
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    make_clip(3, codec="libsvtav1", container="matroska")
    assert (os.sched_getscheduler(0), os.sched_getparam(0)) == before


def test_a_file_can_have_several_streams() -> None:
    data = make_file("matroska", VideoTrack(3), AudioTrack(0.2), VideoTrack(3, size=(96, 64), first=9))
    with av.open(io.BytesIO(data)) as opened:
        assert [stream.type for stream in opened.streams] == ["video", "audio", "video"]
        assert read_number(next(opened.decode(video=1)).to_ndarray(format="rgb24")) == 9


def test_damage_changes_only_what_it_says() -> None:
    clip = make_clip(30, size=(128, 96))
    assert cut(clip, 0.25, 0.5) == clip[len(clip) // 4 : len(clip) // 2]
    assert len(zeroed(clip, 0.4, 0.6)) == len(clip)
    first = moov_first(clip)
    assert [name for name, _, _ in boxes(first)][:2] == ["ftyp", "moov"]
    assert [read_number(picture) for picture in decoded(first)] == list(range(30))
    assert moov_first(b"no clip") == b"no clip"
    kept = remuxed(make_clip(9, codec="mjpeg", container="mov"), "mov", keep=(0, 4, 8))
    assert [read_number(picture) for picture in decoded(kept)] == [0, 4, 8]


@pytest.mark.parametrize("name", NAMES)
def test_every_named_clip_is_made(name: str) -> None:
    assert len(named(name)) > 5000


def test_an_announced_encryption_decodes_all_the_same() -> None:
    assert [read_number(picture) for picture in decoded(named("encrypted_but_decodes.mp4"))] == list(range(30))


@pytest.mark.parametrize(("container", "codec"), KINDS)
def test_the_same_call_gives_the_same_bytes(container: str, codec: str) -> None:
    def make() -> bytes:
        return make_clip(
            40,
            codec=codec,
            container=container,
            size=SIZES.get(codec, (160, 120)),
            pix_fmt=PIXELS.get(codec),
            **OPTIONS.get(codec, {}),
        )

    assert make() == make()
