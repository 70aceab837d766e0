"""From clips to squares of pixels: decoded once through the well that serves, then kept.

Training keeps several candidate frames per step in a larger square, so that crops and moments can vary; evaluation
takes exactly what a server would: the same sampler, decoder and resizer.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from training.data import Clip, ClipSet
from training.errors import DataError
from training.recipe import Recipe
from video.decoder import FrameStream
from video.errors import VideoError
from video.probe import open_video
from video.sampler import sample_indices, visiting_order, wanted_frames
from video.transform import Geometry

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class CropPlan:
    """Which frames of a clip are kept, and how large.

    Attributes:
        steps: T, frames that the model visits.
        order: how it visits them.
        first_frame: frames before this index are never sampled.
        resize: shorter side after resizing, pixels. crop: side of the kept centre square.
        candidates: frames per step. With 1, frames are kept in visiting order, as served: [T, crop, crop, 3]. With
            more, in time order: [T·candidates, crop, crop, 3].
    """

    steps: int
    order: tuple[int, ...]
    first_frame: int
    resize: int
    crop: int
    candidates: int = 1

    def wanted(self, num_frames: int) -> tuple[int, ...]:
        """Frame indices to keep of a video of so many frames."""
        if self.candidates > 1:
            return sample_indices(num_frames, self.steps * self.candidates, self.first_frame)
        return wanted_frames(num_frames, frames=self.steps, order=self.order, first_frame=self.first_frame)


def serving_plan(recipe: Recipe) -> CropPlan:
    """What a server would see."""
    config = recipe.model_config(2)
    order = visiting_order(config.steps, config.frame_order)
    return CropPlan(config.steps, order, recipe.data.first_frame, recipe.data.resize, config.frame_size)


def training_plan(recipe: Recipe) -> CropPlan:
    """What training crops are cut from: the centre square whole, at the source size."""
    served = serving_plan(recipe)
    source = recipe.data.source
    return CropPlan(served.steps, served.order, served.first_frame, source, source, max(2, recipe.data.candidates))


def decode_clip(path: Path, plan: CropPlan) -> Pixels:
    """The planned frames of a video: ``uint8 [K, crop, crop, 3]``. A lost frame is replaced by its neighbour.

    Raises:
        VideoError: the file is no usable video.
        OSError: it cannot be read.
    """
    with path.open("rb") as file, open_video(file) as video:
        if not video.info.frames:
            raise DataError("the video does not tell how many frames it has")
        wanted = plan.wanted(video.info.frames)
        stream = FrameStream(video, wanted, Geometry(plan.resize, plan.crop))
        have = {}
        while (frame := stream.next()) is not None:
            have[frame.index] = frame.pixels
        stream.close()
    nearest = [min(have, key=lambda index, want=want: (abs(index - want), index)) for want in wanted]  # type: ignore[misc]
    return np.stack([have[index] for index in nearest])


@dataclass(frozen=True)
class Broken:
    """A clip that cannot be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Crops:
    """Decoded clips.

    Attributes:
        data: the clips that could be decoded.
        pixels: for each of them ``uint8 [K, crop, crop, 3]``; a memory map if they are kept on disk.
        broken: the others.
    """

    data: ClipSet
    pixels: Sequence[Pixels]
    broken: tuple[Broken, ...]


def decode_all(
    data: ClipSet,
    plan: CropPlan,
    cache: Path | None = None,
    report: Callable[[Broken], None] | None = None,
) -> Crops:
    """Decode every clip once, in memory or, with ``cache``, in files that later runs find again.

    A clip that cannot be decoded is reported and left out.

    Raises:
        DataError: not one clip could be decoded.
    """
    good: list[Clip] = []
    pixels: list[Pixels] = []
    broken: list[Broken] = []
    for clip in tqdm(data.clips, unit="clip", desc="decoding", disable=not sys.stderr.isatty(), leave=False, delay=1):
        try:
            pixels.append(_cached(clip, plan, cache) if cache else decode_clip(clip.path, plan))
            good.append(clip)
        except (VideoError, DataError, OSError) as error:
            broken.append(Broken(clip.path, str(error)))
            if report is not None:
                report(broken[-1])
    if not good:
        raise DataError(f"not one of {len(data.clips)} clips can be decoded; the first: {broken[0].reason}")
    return Crops(data.only(good), pixels, tuple(broken))


def _cached(clip: Clip, plan: CropPlan, cache: Path) -> Pixels:
    key = hashlib.sha256(repr((clip.identity, astuple(plan))).encode()).hexdigest()[:32]
    file = cache / key[:2] / f"{key}.npy"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".part")
        with temporary.open("wb") as stream:
            np.save(stream, decode_clip(clip.path, plan))
        temporary.replace(file)
    kept: Pixels = np.load(file, mmap_mode="r")
    return kept
