"""Plans of decoding: the frames of a clip and their size, for training and exactly as the service decodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from adafocus.training.recipe import Recipe
from adafocus.video.sampler import Snap, sample_clip_indices, sample_indices, visiting_order, wanted_frames
from adafocus.video.transform import Fit


@dataclass(frozen=True)
class CropPlan:
    """The frames of a clip to decode, and their size.

    A clip is divided into segments of equal length, one for each step. Serving takes the middle frame of each; training
    takes another one each time.

    Attributes:
        steps: T, the number of frames that the model visits.
        order: the order in which it visits them; for a clip model, its glance frames in time order.
        first_frame: frames before this index are never sampled.
        resize: shorter side after resizing, pixels. crop: side of the square that is kept.
        fit: how a frame becomes that square.
        candidates: frames of each segment that are kept to draw from, in time order: [segments·candidates, crop, crop,
            3]. With 1 they are those that serving takes, in visiting order: [segments, crop, crop, 3]. With 0 none is
            kept: frames are drawn from the whole segment and decoded anew each time.
        focus_steps: frames of a clip model's focus, which follow those of its glance; 0 for a frame model.
        jpeg_quality: kept frames are JPEG of this quality; 0 keeps raw pixels.
        snap: whether the frames that serving takes move to key frames of their segments.
    """

    steps: int
    order: tuple[int, ...]
    first_frame: int
    resize: int
    crop: int
    candidates: int = 1
    focus_steps: int = 0
    jpeg_quality: int = 0
    fit: Fit = "crop"
    snap: Snap = "none"

    @property
    def segments(self) -> int:
        """Number of frames that a model is given of one clip."""
        return self.steps + self.focus_steps

    @property
    def positions(self) -> tuple[int, ...]:
        """The segments in the order in which the model is given them."""
        return (*self.order, *range(self.steps, self.segments))

    def wanted(self, num_frames: int, key_frames: Sequence[int] = ()) -> tuple[int, ...]:
        """Return the frame indices to keep of a video of ``num_frames`` frames, some of which are key frames."""
        if self.candidates > 1:
            return tuple(index for count in self._parts for index in self._moments(num_frames, count))
        return wanted_frames(
            num_frames,
            frames=self.steps,
            order=self.order,
            first_frame=self.first_frame,
            focus_frames=self.focus_steps or None,
            key_frames=key_frames if self.snap == "keyframe" else (),
        )

    def draw(self, num_frames: int, random: np.random.Generator) -> tuple[int, ...]:
        """Return a random frame index of each segment, in the model's order.

        Each is drawn independently and uniformly over its whole segment. A video with no more frames than segments is
        sampled as for serving.
        """
        drawn = [index for count in self._parts for index in self._any_moments(num_frames, count, random)]
        return tuple(drawn[position] for position in self.positions)

    @property
    def _parts(self) -> tuple[int, ...]:
        """Segments of the glance, and of a clip model's focus, each of which divides the clip by itself."""
        return (self.steps, self.focus_steps) if self.focus_steps else (self.steps,)

    def _served(self, num_frames: int, count: int) -> tuple[int, ...]:
        sample = sample_clip_indices if self.focus_steps else sample_indices
        return sample(num_frames, count, self.first_frame)

    def _moments(self, num_frames: int, count: int) -> list[int]:
        """The candidates of each of ``count`` segments, in time order; a clip too short to choose gives none."""
        first = min(self.first_frame, num_frames - 1)
        usable = num_frames - first
        if usable <= count:
            return [index for index in self._served(num_frames, count) for _ in range(self.candidates)]
        pieces = count * self.candidates
        if usable > pieces:
            return list(sample_indices(num_frames, pieces, self.first_frame))
        return [first + (2 * piece + 1) * usable // (2 * pieces) for piece in range(pieces)]

    def _any_moments(self, num_frames: int, count: int, random: np.random.Generator) -> list[int]:
        first = min(self.first_frame, num_frames - 1)
        usable = num_frames - first
        if usable <= count:
            return list(self._served(num_frames, count))
        bounds = np.arange(count + 1) * usable // count
        return [int(index) for index in first + random.integers(bounds[:-1], bounds[1:])]


def serving_plan(recipe: Recipe) -> CropPlan:
    """Return the plan of the frames that the service would decode."""
    config = recipe.model_config(2)
    sampling = config.sampling
    return CropPlan(
        steps=sampling.frames,
        order=visiting_order(sampling.frames, sampling.order),
        first_frame=recipe.data.first_frame,
        resize=recipe.data.resize,
        crop=config.frame_size,
        focus_steps=sampling.focus_frames or 0,
        fit=recipe.data.fit,
        snap=recipe.data.snap,
    )


def training_plan(recipe: Recipe) -> CropPlan:
    """Return the plan of the frames that training crops are cut from: the whole square at the source size."""
    source = recipe.data.source
    return replace(
        serving_plan(recipe),
        resize=source,
        crop=source,
        candidates=recipe.data.candidates,
        jpeg_quality=recipe.data.jpeg_quality,
    )
