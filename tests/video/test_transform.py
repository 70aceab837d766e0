from __future__ import annotations

import json
import math
import zlib
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from adafocus.video.transform import (
    Fit,
    Geometry,
    Orientation,
    PatchBox,
    Resizer,
    crop_offset,
    orientation_of,
    patch_box,
    placed,
    resized_size,
    view_box,
)
from tests.fixtures.authors.weights import make_image
from tests.video.clips import FIXTURES

EXPECTED = json.loads((FIXTURES / "transforms_expected.json").read_text())["images"]
MEAN_GREY_LEVELS = 0.25
"""Mean absolute difference to Pillow that is tolerated; the issue asks for at most 1, 0.19 is what was measured."""


def pillow_crop(image: NDArray[np.uint8], resize: int = 256, crop: int = 224) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    resized = Image.fromarray(image).resize(resized_size(width, height, resize), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized)
    top, left = (crop_offset(side, crop) for side in pixels.shape[:2])
    return pixels[top : top + crop, left : left + crop]


def as_frame(image: NDArray[np.uint8]) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda e: "{}x{}".format(*e["size_wh"]))
def test_a_frame_is_resized_and_cropped_as_in_training(expected: dict[str, Any]) -> None:
    width, height = expected["size_wh"]
    image = make_image(f"image{width}x{height}", width, height)
    assert list(resized_size(width, height, 256)) == expected["resized_wh"]
    assert [crop_offset(side, 224) for side in expected["resized_wh"]] == expected["crop_left_top"]
    reference = pillow_crop(image)
    assert zlib.crc32(reference.tobytes()) == expected["crop_crc32"], "Pillow is no longer what training used"
    pixels = Resizer(256, 224)(as_frame(image))
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert difference(pixels, reference) <= MEAN_GREY_LEVELS


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_rotated_frame_equals_the_rotated_picture(rotation: int) -> None:
    image = make_image("image320x240", 320, 240)
    upright = np.rot90(image, k=-rotation // 90)
    assert (
        difference(Resizer(256, 224)(as_frame(image), Orientation(rotation)), pillow_crop(upright)) <= MEAN_GREY_LEVELS
    )


# Where the corners of the stored picture, R G over B W, are displayed: top left, top right, bottom left, bottom right.
# As FFmpeg's command line turns them.
ORIENTATIONS = {
    (1, 0, 0, 1): ("RGBW", 0, False),
    (-1, 0, 0, 1): ("GRWB", 0, True),
    (1, 0, 0, -1): ("BWRG", 180, True),
    (-1, 0, 0, -1): ("WBGR", 180, False),
    (0, 1, 1, 0): ("RBGW", 90, True),
    (0, -1, 1, 0): ("GWRB", 270, False),
    (0, 1, -1, 0): ("BRWG", 90, False),
    (0, -1, -1, 0): ("WGBR", 270, True),
}


@pytest.mark.parametrize(("matrix", "expected"), ORIENTATIONS.items())
def test_a_display_matrix_is_one_of_eight_orientations(
    matrix: tuple[int, int, int, int], expected: tuple[str, int, bool]
) -> None:
    a, b, c, d = (value << 16 for value in matrix)
    found = orientation_of([a, b, 0, c, d, 0, 5 << 16, 7 << 16, 1 << 30])
    corners, rotation, mirrored = expected
    assert (found.rotation, found.mirrored) == (rotation, mirrored)
    stored = np.frombuffer(b"RGBW", dtype=np.uint8).reshape(2, 2, 1)
    assert found.apply(stored).tobytes().decode() == corners


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=9, max_size=9))
def test_any_matrix_has_an_orientation(matrix: list[int]) -> None:
    assert orientation_of(matrix).rotation in (0, 90, 180, 270)


def test_a_matrix_that_is_nearly_a_turn_is_taken_for_it() -> None:
    quarter = math.radians(80)
    a, b = round(65536 * math.cos(quarter)), round(65536 * math.sin(quarter))
    assert orientation_of([a, b, 0, -b, a, 0, 0, 0, 1 << 30]) == Orientation(90)
    assert orientation_of([-a, b, 0, b, a, 0, 0, 0, 1 << 30]) == Orientation(90, mirrored=True)
    assert orientation_of([0] * 9) == Orientation()


@pytest.mark.parametrize("size", [(8192, 16), (16, 8192), (1280, 64), (40, 1001)])
def test_a_very_long_frame_is_cut_before_it_is_enlarged(size: tuple[int, int]) -> None:
    image = make_image("strip", *size)
    assert difference(Resizer(256, 224)(as_frame(image)), pillow_crop(image)) <= MEAN_GREY_LEVELS


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 200)])
def test_a_tiny_frame_is_enlarged(size: tuple[int, int]) -> None:
    image = make_image("tiny", *size)
    assert Resizer(64, 56)(as_frame(image)).shape == (56, 56, 3)


def yuv_frame(colour_matrix: int, colour_range: int) -> av.VideoFrame:
    frame = av.VideoFrame(64, 48, "yuv420p")
    for plane, value in zip(frame.planes, (120, 100, 160), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    frame.colorspace, frame.color_range = colour_matrix, colour_range
    return frame


@pytest.mark.parametrize(
    ("colour_matrix", "colour_range", "rgb"),
    [
        (1, 1, (178, 110, 62)),  # BT.709
        (1, 2, (170, 110, 68)),
        (6, 1, (172, 106, 65)),  # BT.601
        (9, 1, (175, 106, 61)),  # BT.2020
        (2, 0, (172, 106, 65)),  # nothing said: BT.601, limited range
        (8, 1, (172, 106, 65)),  # a matrix that the scaler does not know
        (3, 0, (172, 106, 65)),  # a reserved number
    ],
)
def test_colours_follow_what_the_frame_says(colour_matrix: int, colour_range: int, rgb: tuple[int, int, int]) -> None:
    pixels = Resizer(32, 32)(yuv_frame(colour_matrix, colour_range))
    assert np.abs(pixels.reshape(-1, 3).astype(int) - rgb).max() <= 1


def test_one_resizer_takes_frames_of_any_size_and_format_in_turn() -> None:
    resizer = Resizer(32, 32)
    for pix_fmt in ("yuv420p", "yuv422p10le", "gbrp", "gray", "pal8", "bgra"):
        for size in ((64, 48), (48, 64), (321, 241)):
            assert resizer(av.VideoFrame(*size, pix_fmt)).shape == (32, 32, 3)


def test_a_crop_larger_than_the_resized_side_is_refused() -> None:
    with pytest.raises(ValueError, match=r"crop must be 1..resize \(64\), got 65"):
        Geometry(64, 65)


def test_patches_at_the_corners_of_the_crop() -> None:
    # 320×240 becomes 341×256; the crop 224 begins at (58, 16); one of its pixels is 0.9375 of a video pixel.
    assert patch_box(320, 240, Geometry(256, 224), 128, (0.0, 0.0)) == PatchBox(x=54, y=15, width=121, height=120)
    assert patch_box(320, 240, Geometry(256, 224), 128, (1.0, 1.0)) == PatchBox(x=145, y=105, width=120, height=120)
    assert patch_box(320, 240, Geometry(256, 224), 224, (0.5, 0.5)) == PatchBox(x=54, y=15, width=211, height=210)


@settings(max_examples=300)
@given(
    st.integers(1, 4000),
    st.integers(1, 4000),
    st.integers(1, 224),
    st.floats(allow_nan=False),
    st.floats(0, 1),
)
def test_a_patch_stays_inside_the_video(width: int, height: int, patch: int, y: float, x: float) -> None:
    box = patch_box(width, height, Geometry(256, 224), patch, (y, x))
    assert 0 <= box.x < box.x + box.width <= width
    assert 0 <= box.y < box.y + box.height <= height


WHOLE: tuple[Fit, ...] = ("letterbox", "squeeze")


@pytest.mark.parametrize("fit", WHOLE)
def test_a_geometry_that_shows_the_whole_frame_has_one_size(fit: Fit) -> None:
    with pytest.raises(ValueError, match=r"resize must be crop \(64\) with fit '.*', got 72"):
        Geometry(72, 64, fit)


def test_another_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="fit must be crop, letterbox, squeeze; got 'stretch'"):
        Geometry(64, 64, "stretch")  # type: ignore[arg-type]


def bright(width: int, height: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 200, dtype=np.uint8)


@pytest.mark.parametrize(("width", "height", "bars"), [(320, 256, (6, 0)), (256, 320, (0, 6)), (64, 64, (0, 0))])
def test_a_letterbox_has_black_bars_beside_the_whole_frame(width: int, height: int, bars: tuple[int, int]) -> None:
    pixels = Resizer(64, 64, "letterbox")(as_frame(bright(width, height)))
    assert pixels.shape == (64, 64, 3) and pixels.flags.c_contiguous
    top, left = bars
    inside = np.zeros((64, 64), dtype=bool)
    inside[top : 64 - top or 64, left : 64 - left or 64] = True
    lines = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert (pixels[~_shrunk(lines, -1)] == 0).all()
    assert (pixels[_shrunk(lines, 1)] > 190).all()


def _shrunk(lines: tuple[NDArray[np.int64], NDArray[np.int64]], by: int) -> NDArray[np.bool_]:
    """The rectangle of those rows and columns in 64 × 64, smaller by so many pixels on each side."""
    (top, bottom), (left, right) = ((line[0] + by, line[-1] - by) for line in lines)
    mask = np.zeros((64, 64), dtype=bool)
    mask[max(top, 0) : bottom + 1, max(left, 0) : right + 1] = True
    return mask


def test_a_letterbox_of_a_turned_frame_has_its_bars_where_it_is_displayed() -> None:
    pixels = Resizer(64, 64, "letterbox")(as_frame(bright(320, 160)), Orientation(90))
    assert (pixels[:, :15] == 0).all() and (pixels[:, -15:] == 0).all()
    assert (pixels[:, 17:-17] > 190).all()


def test_a_squeezed_frame_fills_the_square() -> None:
    image = bright(320, 128)
    image[:, 160:] = 40
    pixels = Resizer(64, 64, "squeeze")(as_frame(image)).astype(int)
    assert (pixels[:, :30] > 190).all() and (pixels[:, 34:] < 50).all()


@pytest.mark.parametrize("fit", WHOLE)
@pytest.mark.parametrize(("width", "height"), [(8192, 2), (2, 8192), (1, 1)])
def test_frames_of_extreme_shape_fit(fit: Fit, width: int, height: int) -> None:
    assert Resizer(32, 32, fit)(as_frame(bright(width, height))).shape == (32, 32, 3)


def test_a_patch_of_a_letterbox_in_the_pixels_of_the_video() -> None:
    # 640×512 becomes 512×410 at row 51; a pixel is 1.25 pixels of the video.
    geometry = Geometry(512, 512, "letterbox")
    assert placed(640, 512, geometry) == (0, 51, 512, 410)
    assert patch_box(640, 512, geometry, 96, (0.5, 0.5)) == PatchBox(x=260, y=196, width=120, height=120)
    # At the top, half of the patch shows the bar.
    assert patch_box(640, 512, geometry, 96, (0.0, 0.0)) == PatchBox(x=0, y=0, width=120, height=56)
    assert view_box(640, 512, geometry) == PatchBox(x=0, y=-64, width=640, height=639)


def test_the_view_of_a_crop_lies_in_the_video_and_a_squeeze_shows_all() -> None:
    assert view_box(320, 240, Geometry(256, 224)) == patch_box(320, 240, Geometry(256, 224), 224, (0, 0))
    assert view_box(320, 240, Geometry(64, 64, "squeeze")) == PatchBox(0, 0, 320, 240)


@settings(max_examples=300)
@given(
    st.integers(1, 4000),
    st.integers(1, 4000),
    st.sampled_from(WHOLE),
    st.integers(1, 224),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_patch_of_a_whole_frame_stays_inside_the_video(
    width: int, height: int, fit: Fit, patch: int, y: float, x: float
) -> None:
    box = patch_box(width, height, Geometry(224, 224, fit), patch, (y, x))
    assert 0 <= box.x < box.x + box.width <= width
    assert 0 <= box.y < box.y + box.height <= height


@pytest.mark.parametrize("fit", ["crop", "letterbox"])
def test_a_resizer_that_has_served_other_frames_gives_the_same_pixels(fit: Fit) -> None:
    """Its scaler stays prepared, also after a frame that it cannot convert."""
    used = Resizer(40, 40, fit)
    frames = [
        av.VideoFrame.from_ndarray(make_image(f"{width}x{height}", width, height), "rgb24").reformat(format=pixels)
        for width, height in ((64, 48), (48, 64), (64, 48), (200, 4))
        for pixels in ("yuv420p", "yuv420p", "yuv444p10le", "gray", "rgb24")
    ]
    for frame in frames:
        frame.colorspace = 1
        expected = Resizer(40, 40, fit)(frame)
        assert np.array_equal(used(frame), expected)
        with pytest.raises(av.FFmpegError):
            used(av.VideoFrame(64, 48, "x2bgr10be"))
        assert np.array_equal(used(frame), expected)
