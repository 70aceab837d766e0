"""How much of the square a clip's picture fills: its height as a share, without the bars of a letterbox."""

from __future__ import annotations

from collections.abc import Sequence

from adafocus.training.data.clips import Clip
from adafocus.training.data.crop_plan import CropPlan
from adafocus.training.errors import DataError
from adafocus.video.errors import VideoError
from adafocus.video.probe import open_video
from adafocus.video.transform import Geometry, placed


def picture_heights(clips: Sequence[Clip], plan: CropPlan) -> list[float]:
    """Return of each clip the height of its picture as a share of the square's side, at most 1.

    Raises:
        DataError: a clip cannot be opened any more.
    """
    return [_height(clip, Geometry(plan.resize, plan.crop, plan.fit)) for clip in clips]


def _height(clip: Clip, geometry: Geometry) -> float:
    if clip.path.is_dir():
        return 1.0
    try:
        with clip.path.open("rb") as file, open_video(file) as video:
            width, height = video.info.width, video.info.height
    except (VideoError, OSError) as error:
        raise DataError(f"{clip.path} cannot be opened any more: {error}") from error
    return min(1.0, placed(width, height, geometry)[3] / geometry.crop)
