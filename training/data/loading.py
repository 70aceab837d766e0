"""Batches for training, made by background workers while the previous batch is trained on.

Every clip of a batch gets a generator of its own, seeded in the order of the batches. The result therefore does not
depend on how many workers there are, nor on which of them is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import numpy as np
import torch

from adafocus.training.data.augment import Augment, Jitter, normalise
from adafocus.training.data.batches import Batch, drawn_labels
from adafocus.training.data.boxes import Points
from adafocus.training.data.crop_plan import CropPlan
from adafocus.training.data.crops import UNUSABLE, Crops, decode_clip
from adafocus.training.data.frame_store import Pixels
from adafocus.training.data.prefetch import ahead, processors
from adafocus.training.data.storage import processes_here
from adafocus.training.errors import DataError

Clock = Callable[[str], AbstractContextManager[object]]
"""Counts the time spent in its context, under a name."""

TRIES = 8
"""Number of following clips that are tried in place of one that has become unreadable."""


class Batched(NamedTuple):
    """A batch to learn from."""

    frames: torch.Tensor
    """[B, K, 3, S, S], normalised."""
    labels: torch.Tensor
    """int64 [B]."""
    points: torch.Tensor | None
    """[B, K, 2], where the thing lies as (y, x) shares of the frame; NaN where that is unknown. None without boxes."""


class Moment(NamedTuple):
    """Frames of a clip that were drawn."""

    number: int
    """Of the clip that is shown."""
    pixels: Pixels
    """uint8 [K, S, S, 3], in the model's order."""
    points: Points | None = None
    """[K, 2], where the thing lies in them; None without boxes."""


class Moments(Protocol):
    """Draws the frames of a clip that are trained on."""

    def __call__(self, number: int, random: np.random.Generator) -> Moment:
        """Draw frames of a clip."""
        ...


class KeptMoments:
    """Draws from the frames that are kept of each segment."""

    def __init__(self, crops: Crops, plan: CropPlan, jitter: Jitter, points: Sequence[Points] | None = None) -> None:
        """Prepare to draw.

        Args:
            crops: the clips.
            plan: which of their frames are kept.
            jitter: draws which candidate each segment shows.
            points: where the thing lies in the kept frames of each clip, if that is known.
        """
        self._pixels, self._plan, self._jitter, self._points = crops.pixels, plan, jitter, points
        self._positions = np.array(plan.positions)

    def __call__(self, number: int, random: np.random.Generator) -> Moment:
        """Draw for a clip.

        Raises:
            DataError: its frames are missing from the cache.
        """
        if self._plan.candidates == 1:  # as served, in the model's order already
            chosen = np.arange(self._plan.segments)
        else:
            drawn = self._jitter(random, self._plan.segments, self._plan.candidates)
            chosen = self._positions * self._plan.candidates + drawn
        return Moment(number, self._pixels[number][chosen], self._points[number][chosen] if self._points else None)


class AnyMoment:
    """Draws from every frame of each segment, and decodes what was drawn."""

    def __init__(self, crops: Crops, plan: CropPlan, say: Callable[[str], None]) -> None:
        self._clips, self._plan, self._say = crops.data.clips, plan, say
        self._told: set[int] = set()

    def __call__(self, number: int, random: np.random.Generator) -> Moment:
        """Draw for a clip, or for the next one that can be decoded.

        Raises:
            DataError: the clips after it cannot be decoded either.
        """
        reason: Exception | None = None
        for step in range(TRIES):
            shown = (number + step) % len(self._clips)
            try:
                return Moment(shown, decode_clip(self._clips[shown], self._plan, random))
            except UNUSABLE as error:
                reason = error
                if shown not in self._told:
                    self._told.add(shown)
                    self._say(f"{self._clips[shown].path} cannot be decoded any more, the next clip is taken: {error}")
        raise DataError(f"{TRIES} clips in a row cannot be decoded any more; the last: {reason}") from reason


class Loader:
    """Makes batches of clips to train on.

    Args:
        crops: the clips.
        moments: draws the frames of a clip.
        augment: varies them.
        device: where labels go.
        every_label: give all labels of a clip, as float32 [B, C] of zeros and ones, instead of one of them.
    """

    def __init__(
        self, crops: Crops, moments: Moments, augment: Augment, device: torch.device, *, every_label: bool = False
    ) -> None:
        self._clips, self._moments, self._augment, self._device = crops.data.clips, moments, augment, device
        self._classes = len(crops.data.labels) if every_label else 0

    def __call__(self, every: Sequence[Batch], random: np.random.Generator, clock: Clock) -> Iterator[Batched]:
        """Yield what each batch of clip numbers shows.

        Args:
            every: the batches.
            random: decides everything that is drawn.
            clock: counts the time spent waiting, as ``load``.
        """
        workers = max(1, processors() // processes_here())
        with ThreadPoolExecutor(workers) as clips, ThreadPoolExecutor(1) as whole:

            def load(batch: Batch) -> Batched:
                seeds = random.integers(2**63, size=len(batch))
                frames, points, labels = zip(*clips.map(self._clip, batch, seeds), strict=True)
                known = torch.stack(points).to(self._device) if points[0].numel() else None
                return Batched(normalise(torch.stack(frames)), torch.stack(labels).to(self._device), known)

            coming = ahead(whole, load, every, depth=1)
            while True:
                with clock("load"):
                    ready = next(coming, None)
                if ready is None:
                    return
                yield ready

    def _clip(self, number: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        random = np.random.default_rng(seed)
        shown, pixels, points = self._moments(int(number), random)
        known = np.empty((0, 2), np.float32) if points is None else points
        frames, moved = self._augment.with_points(pixels, known, random)
        clip = self._clips[shown]
        if not self._classes:
            return frames, moved, torch.tensor(drawn_labels([clip], random)[0])
        labels = torch.zeros(self._classes)
        labels[list(clip.all_labels)] = 1.0
        return frames, moved, labels
