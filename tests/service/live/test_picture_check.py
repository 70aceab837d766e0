"""Black and frozen pictures."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from adafocus.service.live.camera_state import BLACK_BRIGHTNESS, FROZEN_CHANGE
from adafocus.service.live.picture_check import PictureCheck, PictureReport
from tests.media.clips import VideoTrack, make_file
from tests.media.pictures import Pixels

SIZE = (320, 180)
MANY = 8192 * 4320


def scene(number: int, width: int, height: int) -> Pixels:
    """A still scene, as a sensor sees it: with noise of two levels that differs from picture to picture."""
    ramp = np.linspace(40, 200, width, dtype=np.float64)[None, :, None].repeat(height, 0).repeat(3, 2)
    noise = np.random.default_rng(number).normal(0, 2, (height, width, 3))
    return np.clip(ramp + noise, 0, 255).astype(np.uint8)


def stuck(number: int, width: int, height: int) -> Pixels:
    return scene(0, width, height)


def covered(number: int, width: int, height: int) -> Pixels:
    return np.clip(scene(number, width, height).astype(np.int16) - 195, 0, 8).astype(np.uint8)


def reports(draw: object, codec: str = "libx264", **options: str) -> list[PictureReport]:
    """The reports on a video of key pictures alone, which are encoded one by one as a camera's are."""
    track = VideoTrack(4, codec=codec, size=SIZE, draw=draw, options={"g": "1", **options})  # type: ignore[arg-type]
    with av.open(io.BytesIO(make_file("matroska", track))) as container:
        stream = container.streams.video[0]
        check = PictureCheck(stream.codec_context.codec.name, stream.codec_context.extradata, MANY)
        return [check.see(bytes(packet)) for packet in container.demux(stream) if packet.size]


@pytest.mark.parametrize(("codec", "options"), [("libx264", {"crf": "28"}), ("libx264", {"crf": "35"}), ("mjpeg", {})])
def test_a_still_scene_is_neither_black_nor_frozen(codec: str, options: dict[str, str]) -> None:
    first, *rest = reports(scene, codec, **options)
    assert first.change is None
    for report in rest:
        assert report.change is not None and report.change > FROZEN_CHANGE
        assert report.brightness is not None and report.brightness > BLACK_BRIGHTNESS


def test_a_stuck_picture_is_frozen() -> None:
    settled = reports(stuck)[2:]  # an encoder takes a picture to find its rate
    assert all(report.change is not None and report.change < FROZEN_CHANGE for report in settled)


def test_a_covered_lens_is_black() -> None:
    assert all(report.brightness is not None and report.brightness < BLACK_BRIGHTNESS for report in reports(covered))


def test_what_cannot_be_decoded_is_not_judged() -> None:
    check = PictureCheck("h264", None, MANY)
    assert check.see(b"no picture at all") == PictureReport()
    assert PictureCheck("mjpeg", None, 10).see(b"\xff\xd8\xff\xd9") == PictureReport()


def test_a_picture_that_is_too_large_is_not_decoded() -> None:
    track = VideoTrack(1, codec="mjpeg", size=SIZE)
    with av.open(io.BytesIO(make_file("matroska", track))) as container:
        data = next(bytes(packet) for packet in container.demux(video=0) if packet.size)
    assert PictureCheck("mjpeg", None, MANY).see(data).brightness is not None
    assert PictureCheck("mjpeg", None, 100).see(data) == PictureReport()
