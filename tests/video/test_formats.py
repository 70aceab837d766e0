"""Permitted containers and codecs: each default can be read, and a name that FFmpeg does not know is refused."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import pytest

from adafocus.video.formats import NEVER_READ, check_codecs, check_containers, decoder_of
from adafocus.video.limits import CODECS, CONTAINERS
from tests.video.clips import make_clip, number_of, read_frames

DV_SIZE = (720, 576)


def dv_of_type_1() -> bytes:
    """An AVI file as camcorders' software wrote it: one stream of DV that holds picture and sound."""
    clip = make_clip(6, container="avi", codec="dvvideo", size=DV_SIZE)
    assert clip.count(b"vidsdvsd") == 1
    return clip.replace(b"vidsdvsd", b"iavsdvsd")


@pytest.mark.parametrize(
    ("codec", "clip"),
    [
        ("h263", {"container": "3gp", "codec": "h263", "size": (176, 144)}),
        ("h263", {"container": "avi", "codec": "h263p", "size": (176, 144)}),
        ("msmpeg4v2", {"container": "avi", "codec": "msmpeg4v2"}),
        ("msmpeg4v3", {"container": "avi", "codec": "msmpeg4"}),
        ("msmpeg4v3", {"container": "asf", "codec": "msmpeg4"}),
        ("dvvideo", {"container": "avi", "codec": "dvvideo", "size": DV_SIZE}),
        ("dvvideo", {"container": "mov", "codec": "dvvideo", "size": DV_SIZE}),
        ("rawvideo", {"container": "avi", "codec": "rawvideo", "pix_fmt": "yuv420p"}),
        ("rawvideo", {"container": "mov", "codec": "rawvideo", "pix_fmt": "rgb24"}),
        ("rawvideo", {"container": "matroska", "codec": "rawvideo", "pix_fmt": "yuv420p"}),
    ],
)
def test_the_codecs_of_old_archives_are_read_frame_by_frame(codec: str, clip: dict[str, Any]) -> None:
    frames, _, video = read_frames(make_clip(6, **clip))
    assert (video.info.codec, video.info.frames, video.info.fps) == (codec, 6, pytest.approx(25.0))
    assert [number_of(frame.pixels) for frame in frames] == list(range(6))


def test_dv_in_one_stream_with_its_sound_is_read() -> None:
    frames, _, video = read_frames(dv_of_type_1())
    assert (video.info.container, video.info.codec, video.info.frames) == ("avi", "dvvideo", 6)
    assert [number_of(frame.pixels) for frame in frames] == list(range(6))


@pytest.mark.parametrize("pix_fmt", ["bgr24", "bgra", "yuv420p", "yuyv422"])
def test_raw_pictures_stand_upright(pix_fmt: str) -> None:
    """AVI stores rows of RGB from the bottom up."""
    frames, _, _ = read_frames(_red_above_blue(pix_fmt))
    top, bottom = frames[0].pixels[8].mean(axis=0), frames[0].pixels[-8].mean(axis=0)
    assert top[0] > 200 > 100 > top[2]
    assert bottom[2] > 200 > 100 > bottom[0]


def _red_above_blue(pix_fmt: str) -> bytes:
    picture = np.zeros((64, 64, 3), dtype=np.uint8)
    picture[:32, :, 0] = 255
    picture[32:, :, 2] = 255
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="avi") as output:
        stream = output.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pix_fmt
        output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def test_the_defaults_are_names_that_may_be_permitted() -> None:
    check_codecs(CODECS)
    check_containers(CONTAINERS)


def test_further_codecs_and_containers_may_be_permitted() -> None:
    check_codecs(["cinepak", "svq3", "v210"])
    check_containers(["mp4", "webm", "mxf", "dv"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("h265", "did you mean 'hevc'?"),
        ("H264", "did you mean 'h264'?"),
        ("libdav1d", "it is a decoder, whose codec is 'av1'"),
        ("flv", "it is a decoder, whose codec is 'flv1'"),
        ("msmpeg4", "did you mean 'msmpeg4v3'?"),
        ("aac", "'aac' is not a video codec of FFmpeg"),
        ("", "'' is not a video codec of FFmpeg"),
    ],
)
def test_a_codec_that_does_not_exist_is_refused(name: str, says: str) -> None:
    with pytest.raises(ValueError, match="is not a video codec of FFmpeg") as caught:
        check_codecs(["h264", name])
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [("mkv", "did you mean 'matroska'?"), ("MOV", "did you mean 'mov'?"), ("nonsense!", ""), ("matroska,webm", "")],
)
def test_a_container_that_does_not_exist_is_refused(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is not a container of FFmpeg") as caught:
        check_containers(["mov", name])
    assert says in str(caught.value)


@pytest.mark.parametrize("name", [*sorted(NEVER_READ), "png_pipe"])
def test_playlists_devices_and_still_images_cannot_be_permitted(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be permitted"):
        check_containers(["mov", name])


def test_a_codec_is_read_by_the_decoder_that_a_stream_is_given() -> None:
    assert [decoder_of(name) for name in ("h264", "av1", "flv1", "msmpeg4v3")] == ["h264", "libdav1d", "flv", "msmpeg4"]
    with pytest.raises(ValueError, match="no decoder"):
        decoder_of("h265")
