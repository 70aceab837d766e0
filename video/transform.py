"""Turns a decoded picture into the square that a model sees, for training and for the service alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import av
import numpy as np
from av.sidedata.sidedata import SideData
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

# Without the other flags, shortcuts with chroma cost up to 2 grey levels on average.
_FILTER = (
    Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)
# The YUV matrices that the scaler knows (numbers of ITU-T H.273); it fails on others.
_KNOWN_MATRICES = frozenset({0, 1, 2, 4, 5, 6, 7, 9})
_UNSPECIFIED_MATRIX = 2
# A frame is cut before it is scaled if its longer side exceeds its shorter one by this factor.
_LONGEST = 16
_TURNS: Final = (0, 90, 180, 270)


Fit = Literal["crop", "letterbox", "squeeze"]
"""How a picture becomes a square, as `Geometry` says."""


@dataclass(frozen=True)
class Geometry:
    """How a picture becomes a square of ``crop`` × ``crop`` pixels.

    Attributes:
        resize: of ``crop``: length of the shorter side after resizing, pixels; of the others the same as ``crop``.
        crop: side of the square, pixels.
        fit: ``crop`` takes the centre square of the resized picture, as published. ``letterbox`` shows the whole
            picture, its longer side as long as the square, with black bars beside the other. ``squeeze`` shows the
            whole picture, stretched to the square.
    """

    resize: int
    crop: int
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resize:
            raise ValueError(f"crop must be 1..resize ({self.resize}), got {self.crop}")
        if self.fit not in get_args(Fit):
            raise ValueError(f"fit must be {', '.join(get_args(Fit))}; got {self.fit!r}")
        if self.fit != "crop" and self.resize != self.crop:
            raise ValueError(f"resize must be crop ({self.crop}) with fit {self.fit!r}, got {self.resize}")


@dataclass(frozen=True)
class PatchBox:
    """A patch, in pixels of the displayed video."""

    x: int
    y: int
    width: int
    height: int


def resized_size(width: int, height: int, resize: int) -> tuple[int, int]:
    """Returns width and height with the shorter side at ``resize``; the other is truncated to whole pixels."""
    if width <= height:
        return resize, max(resize, int(resize * height / width))
    return max(resize, int(resize * width / height)), resize


def placed(width: int, height: int, geometry: Geometry) -> tuple[int, int, int, int]:
    """Returns where a whole picture of that width and height lies in the square: left, top, width, height, pixels.

    With ``crop`` it is larger than the square, and left or top are negative.
    """
    side = geometry.crop
    if geometry.fit == "squeeze":
        return 0, 0, side, side
    if geometry.fit == "letterbox":
        longer = max(width, height)
        new_width, new_height = max(1, round(width * side / longer)), max(1, round(height * side / longer))
    else:
        new_width, new_height = resized_size(width, height, geometry.resize)
        return -crop_offset(new_width, side), -crop_offset(new_height, side), new_width, new_height
    return (side - new_width) // 2, (side - new_height) // 2, new_width, new_height


def crop_offset(size: int, crop: int) -> int:
    """Returns the first pixel of the centre ``crop`` of ``size`` pixels; halves are rounded to even."""
    return round((size - crop) / 2)


@dataclass(frozen=True)
class Orientation:
    """The orientation that makes a stored picture the displayed one: turned first, then mirrored.

    Attributes:
        rotation: degrees clockwise: 0, 90, 180 or 270.
        mirrored: left and right change places.
    """

    rotation: Literal[0, 90, 180, 270] = 0
    mirrored: bool = False

    @property
    def swaps_sides(self) -> bool:
        """True if width and height change places."""
        return self.rotation in (90, 270)

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns a view of ``uint8 [H, W, C]`` as it is displayed."""
        turned = np.rot90(pixels, k=-self.rotation // 90)
        return turned[:, ::-1] if self.mirrored else turned


def orientation_of(matrix: Sequence[int]) -> Orientation:
    """The orientation nearest to a display matrix (ISO/IEC 14496-12 8.3.2).

    Args:
        matrix: nine numbers, row by row: a stored pixel (x, y) is displayed at (a·x + c·y, b·x + d·y), with a, b the
            first two numbers, and c, d the fourth and fifth. A matrix that flattens the picture turns nothing.
    """
    a, b, _, c, d, *_ = matrix
    size = a * d - b * c
    if not size:
        return Orientation()
    # A mirrored picture is displayed by its turn and then with x negated: undo that first.
    across, down = (-a, b) if size < 0 else (a, b)
    quarters = round(math.atan2(down, across) / (math.pi / 2)) % 4
    return Orientation(_TURNS[quarters], mirrored=size < 0)


def orientation(frame: av.VideoFrame) -> Orientation:
    """Return the orientation of a decoded frame by its display matrix; upright if it has none."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(data, SideData):
        return Orientation()
    return orientation_of(np.frombuffer(bytes(data), dtype=np.int32, count=9).tolist())


_UPRIGHT = Orientation()


class Resizer:
    """Turns decoded frames into square RGB pictures. Use one Resizer per thread: it holds a scaler.

    The scaler stays prepared for frames of one size and format, also from one video to the next.

    The scaler's bilinear filter widens when it shrinks, like that of Pillow, with which published models were trained;
    the mean difference from Pillow is 0.2 grey levels (tests/video/test_transform.py). The frame's colour matrix and
    range are applied; a frame without them is read as BT.601 with limited range, as by FFmpeg's command line, with
    which frames are extracted to image files. High dynamic range is not mapped, transparency is ignored, and pixels are
    taken as square.
    """

    def __init__(self, resize: int, crop: int, fit: Fit = "crop") -> None:
        """Prepares for squares of that `Geometry`.

        Raises:
            ValueError: there is no such geometry.
        """
        self.geometry = Geometry(resize, crop, fit)
        """Of the squares that it makes."""
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame, orientation: Orientation = _UPRIGHT) -> NDArray[np.uint8]:
        """Returns the square of a frame as it is displayed.

        Args:
            frame: as decoded, of any size and pixel format.
            orientation: applied to the frame.

        Returns:
            ``uint8 [crop, crop, 3]``, RGB, contiguous.

        Raises:
            av.FFmpegError: the frame has a pixel format that cannot be converted.
        """
        if frame.colorspace not in _KNOWN_MATRICES:
            frame.colorspace = _UNSPECIFIED_MATRIX
        if self.geometry.fit != "crop":
            return self._whole(frame, orientation)
        scaled = self._scaled(frame)
        crop = self.geometry.crop
        pixels = orientation.apply(scaled)
        top, left = (crop_offset(side, crop) for side in pixels.shape[:2])
        return np.ascontiguousarray(pixels[top : top + crop, left : left + crop])

    def _whole(self, frame: av.VideoFrame, orientation: Orientation) -> NDArray[np.uint8]:
        """Returns the square that shows the whole frame."""
        side = self.geometry.crop
        _, _, width, height = placed(frame.width, frame.height, self.geometry)
        pixels = orientation.apply(self._rgb(frame, width, height))
        height, width = pixels.shape[:2]
        if height == width == side:
            return np.ascontiguousarray(pixels)
        square = np.empty((side, side, 3), dtype=np.uint8)
        top, left = (side - height) // 2, (side - width) // 2
        square[:top] = square[top + height :] = 0
        square[top : top + height, :left] = square[top : top + height, left + width :] = 0
        square[top : top + height, left : left + width] = pixels
        return square

    def _scaled(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Returns the frame with its shorter side at ``resize``; of a very long frame only the middle."""
        resize = self.geometry.resize
        short, long = sorted((frame.width, frame.height))
        if long <= _LONGEST * short:
            width, height = resized_size(frame.width, frame.height, resize)
            return self._rgb(frame, width, height)
        # A strip of 8192 by 16 pixels would grow to 100 MB. Its middle scales to the same pixels.
        whole = self._rgb(frame, frame.width, frame.height)
        ends = (long - _LONGEST * short) // 2
        cut = whole[:, ends : long - ends] if frame.width > frame.height else whole[ends : long - ends]
        part = av.VideoFrame.from_ndarray(np.ascontiguousarray(cut), format="rgb24")
        return self._rgb(part, *resized_size(part.width, part.height, resize))

    def _rgb(self, frame: av.VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
        try:
            scaled = self._reformatter.reformat(
                frame, width=width, height=height, format="rgb24", interpolation=_FILTER, threads=1
            )
        except BaseException:
            self._reformatter = VideoReformatter()  # the next frame must not meet a half-prepared scaler
            raise
        plane = scaled.planes[0]
        if plane.line_size < 3 * width:  # a picture that is stored upside down, and was not converted
            return np.asarray(scaled.to_ndarray(), dtype=np.uint8)
        # A view, whose rows may have something behind them: every caller copies what it needs anyway.
        everything: NDArray[np.uint8] = np.frombuffer(plane, dtype=np.uint8)  # type: ignore[call-overload] # is a buffer
        rows = everything.reshape(-1, plane.line_size)
        return rows[:height, : 3 * width].reshape(height, width, 3)


def patch_box(width: int, height: int, geometry: Geometry, patch_size: int, centre_yx: tuple[float, float]) -> PatchBox:
    """Returns where a patch lies in the displayed video.

    Args:
        width: of the video as displayed, pixels.
        height: of the video as displayed, pixels.
        geometry: of the square that the model sees.
        patch_size: side of the patch in pixels of that square.
        centre_yx: the policy's action, (y, x) in [0, 1]: 0 is flush with the top or left, 1 with the bottom or right.

    Returns:
        The box in whole pixels, within the video, at least one pixel wide and high.
    """
    left, top, new_width, new_height = placed(width, height, geometry)
    room = geometry.crop - patch_size
    spans = []
    for old, new, first, action in ((width, new_width, left, centre_yx[1]), (height, new_height, top, centre_yx[0])):
        start = min(max(float(action), 0.0), 1.0) * room - first
        low = min(max(round(start * old / new), 0), old - 1)
        high = min(max(round((start + patch_size) * old / new), low + 1), old)
        spans.append((low, high - low))
    (x, box_width), (y, box_height) = spans
    return PatchBox(x=x, y=y, width=box_width, height=box_height)


def view_box(width: int, height: int, geometry: Geometry) -> PatchBox:
    """Returns the part of the displayed video that the square shows, in its pixels; its bars lie outside the video."""
    left, top, new_width, new_height = placed(width, height, geometry)
    side = geometry.crop
    across, down = width / new_width, height / new_height
    if geometry.fit == "crop":
        return patch_box(width, height, geometry, side, (0.0, 0.0))
    return PatchBox(round(-left * across), round(-top * down), round(side * across), round(side * down))
