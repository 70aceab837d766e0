"""Where the thing lies in each frame of a clip, for data sets that say so; helps training, and serving never needs it.

A manifest may name a file of ``boxes`` (by default ``boxes.npz`` beside it, if that is there). It holds an array of
integers [frames, 4] by the name of each clip's file without suffix: x, y, width and height in pixels of the video as
displayed, -1 where the thing is not in the picture. Clips without boxes are learned from as ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from adafocus.training.data.clips import Clip
from adafocus.training.data.crop_plan import CropPlan
from adafocus.training.errors import DataError
from adafocus.video.errors import VideoError
from adafocus.video.probe import open_video
from adafocus.video.transform import Geometry, placed

Boxes = npt.NDArray[np.int16]
"""[frames, 4]: x, y, width, height; -1 where there is none."""

Points = npt.NDArray[np.float32]
"""[K, 2]: the middle of the thing in each of K frames as (y, x) shares of the square's sides; NaN where it is not."""


def read_boxes(file: Path) -> dict[str, Boxes]:
    """Return the boxes of every clip by the name of its file without suffix.

    Raises:
        DataError: the file cannot be read, or an array is not of integers [frames, 4].
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is no file of boxes: {error}") from error
    for name, boxes in found.items():
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.issubdtype(boxes.dtype, np.signedinteger):
            raise DataError(
                f"{file}: the boxes of {name!r} are {boxes.dtype} {list(boxes.shape)}; they must be signed integers "
                "[frames, 4]"
            )
    return found


def points_of(boxes: Boxes, indices: Sequence[int], size: tuple[int, int], geometry: Geometry) -> Points:
    """Return the middles of a clip's boxes in frames of these indices, in the square of ``geometry``.

    Args:
        boxes: of the whole clip; frames beyond its end have none.
        indices: of the frames.
        size: width and height of the video as displayed, pixels.
        geometry: how a frame becomes the square.
    """
    width, height = size
    left, top, new_width, new_height = placed(width, height, geometry)
    points = np.full((len(indices), 2), np.nan, dtype=np.float32)
    for row, index in enumerate(indices):
        if index >= len(boxes) or boxes[index][0] < 0:
            continue
        x, y, across, down = (float(value) for value in boxes[index])
        middle = top + (y + down / 2) * new_height / height, left + (x + across / 2) * new_width / width
        if all(0 <= value <= geometry.crop for value in middle):
            points[row] = [value / geometry.crop for value in middle]
    return points


def clip_points(clips: Sequence[Clip], boxes: Mapping[str, Boxes], plan: CropPlan) -> list[Points]:
    """Return the points in the frames that a plan keeps of each clip; all NaN for clips without boxes.

    Raises:
        DataError: a clip that has boxes cannot be opened any more.
    """
    return [_points(clip, boxes.get(clip.path.stem), plan) for clip in clips]


def _points(clip: Clip, boxes: Boxes | None, plan: CropPlan) -> Points:
    if boxes is None or clip.path.is_dir():
        return np.full((plan.segments * max(1, plan.candidates), 2), np.nan, dtype=np.float32)
    try:
        with clip.path.open("rb") as file, open_video(file) as video:
            info = video.info
    except (VideoError, OSError) as error:
        raise DataError(f"{clip.path} cannot be opened any more: {error}") from error
    geometry = Geometry(plan.resize, plan.crop, plan.fit)
    return points_of(boxes, plan.wanted(info.frames or len(boxes)), (info.width, info.height), geometry)
