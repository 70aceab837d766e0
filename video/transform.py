"""From a decoded picture to the square that a model sees. The same code serves training and the service."""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray


@dataclass(frozen=True)
class Geometry:
    """Shorter side to ``resize`` pixels, then the centre ``crop`` × ``crop`` square of it."""

    resize: int
    crop: int

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resize:
            raise ValueError(f"crop must be 1..resize ({self.resize}), got {self.crop}")


@dataclass(frozen=True)
class PatchBox:
    """A patch in pixels of the displayed video."""

    x: int
    y: int
    width: int
    height: int


def resized_size(width: int, height: int, resize: int) -> tuple[int, int]:
    """Width and height after the shorter side has become ``resize``; the other one truncated to whole pixels."""
    if width <= height:
        return resize, max(resize, int(resize * height / width))
    return max(resize, int(resize * width / height)), resize


def crop_offset(size: int, crop: int) -> int:
    """First pixel of the centre ``crop`` of ``size`` pixels; halves go to the even neighbour."""
    return round((size - crop) / 2)


class Resizer:
    """Turns decoded frames into ``crop`` × ``crop`` RGB squares. Holds one scaler: one Resizer per thread."""

    def __init__(self, resize: int, crop: int) -> None:
        self._geometry = Geometry(resize, crop)
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame, rotation: int = 0) -> NDArray[np.uint8]:
        """The centre square of ``frame`` turned clockwise by ``rotation``: ``uint8 [crop, crop, 3]``, RGB, contiguous."""
        width, height = resized_size(frame.width, frame.height, self._geometry.resize)
        scaled = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=Interpolation.BILINEAR, threads=1
        )
        crop = self._geometry.crop
        pixels = np.rot90(np.asarray(scaled.to_ndarray(), dtype=np.uint8), k=-rotation // 90)
        top, left = crop_offset(pixels.shape[0], crop), crop_offset(pixels.shape[1], crop)
        return np.ascontiguousarray(pixels[top : top + crop, left : left + crop])


def patch_box(
    width: int, height: int, resize: int, crop: int, patch_size: int, centre_yx: tuple[float, float]
) -> PatchBox:
    """Where a patch lies in the displayed video.

    Args:
        width: of the video as displayed, pixels.
        height: of the video as displayed, pixels.
        resize: length of the shorter side after resizing.
        crop: side of the centre square.
        patch_size: side of the patch in pixels of that square.
        centre_yx: the policy's action, (y, x) in [0, 1]: 0 is flush with the top or left, 1 with the bottom or right.

    Returns:
        The box in whole pixels, within the video, at least one pixel wide and high.
    """
    new_width, new_height = resized_size(width, height, resize)
    spans = []
    for old, new, action in ((width, new_width, centre_yx[1]), (height, new_height, centre_yx[0])):
        start = crop_offset(new, crop) + min(max(float(action), 0.0), 1.0) * (crop - patch_size)
        low = min(max(round(start * old / new), 0), old - 1)
        high = min(max(round((start + patch_size) * old / new), low + 1), old)
        spans.append((low, high - low))
    (x, box_width), (y, box_height) = spans
    return PatchBox(x=x, y=y, width=box_width, height=box_height)
