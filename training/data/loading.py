"""Batches for training, made by background workers while the batch before is learned from.

Every clip of a batch gets a generator of its own, seeded in the order of the batches. The result therefore does not
depend on how many workers there are, nor on which of them is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import torch

from adafocus.training.data.augment import Augment, Jitter, normalise
from adafocus.training.data.batches import Batch, drawn_labels
from adafocus.training.data.crop_plan import CropPlan
from adafocus.training.data.crops import UNUSABLE, Crops, decode_clip
from adafocus.training.data.frame_store import Pixels
from adafocus.training.data.prefetch import ahead, processors
from adafocus.training.data.storage import processes_here
from adafocus.training.errors import DataError

Clock = Callable[[str], AbstractContextManager[object]]
"""Counts the time spent in its context, under a name."""

TRIES = 8
"""A clip that has become unreadable is replaced by the next one that can be read, within so many."""


class Moments(Protocol):
    """Draws which frames of a clip are learned from."""

    def __call__(self, number: int, random: np.random.Generator) -> tuple[int, Pixels]:
        """Return the number of the clip that is shown, and its frames in the model's order, uint8 [K, S, S, 3]."""
        ...


class KeptMoments:
    """Draws from the frames that are kept of each segment."""

    def __init__(self, crops: Crops, plan: CropPlan, jitter: Jitter) -> None:
        self._pixels, self._plan, self._jitter = crops.pixels, plan, jitter
        self._positions = np.array(plan.positions)

    def __call__(self, number: int, random: np.random.Generator) -> tuple[int, Pixels]:
        """Draw for a clip.

        Raises:
            DataError: its frames are missing from the cache.
        """
        if self._plan.candidates == 1:  # as served, in the model's order already
            return number, self._pixels[number][np.arange(self._plan.segments)]
        drawn = self._jitter(random, self._plan.segments, self._plan.candidates)
        return number, self._pixels[number][self._positions * self._plan.candidates + drawn]


class AnyMoment:
    """Draws from every frame of each segment, and decodes what was drawn."""

    def __init__(self, crops: Crops, plan: CropPlan, say: Callable[[str], None]) -> None:
        self._clips, self._plan, self._say = crops.data.clips, plan, say
        self._told: set[int] = set()

    def __call__(self, number: int, random: np.random.Generator) -> tuple[int, Pixels]:
        """Draw for a clip, or for the next one that can be decoded.

        Raises:
            DataError: nor can the ones after it.
        """
        reason: Exception | None = None
        for step in range(TRIES):
            shown = (number + step) % len(self._clips)
            try:
                return shown, decode_clip(self._clips[shown], self._plan, random)
            except UNUSABLE as error:
                reason = error
                if shown not in self._told:
                    self._told.add(shown)
                    self._say(f"{self._clips[shown].path} cannot be decoded any more, the next clip is taken: {error}")
        raise DataError(f"{TRIES} clips in a row cannot be decoded any more; the last: {reason}") from reason


class Loader:
    """Makes batches of clips that are learned from."""

    def __init__(self, crops: Crops, moments: Moments, augment: Augment, device: torch.device) -> None:
        self._clips, self._moments, self._augment, self._device = crops.data.clips, moments, augment, device

    def __call__(
        self, every: Sequence[Batch], random: np.random.Generator, clock: Clock
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield frames [B, K, 3, S, S], normalised, and labels int64 [B], of each batch of clip numbers.

        Args:
            every: the batches.
            random: decides everything that is drawn.
            clock: counts the time spent waiting, as ``load``.
        """
        workers = max(1, processors() // processes_here())
        with ThreadPoolExecutor(workers) as clips, ThreadPoolExecutor(1) as whole:

            def load(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
                seeds = random.integers(2**63, size=len(batch))
                made = list(clips.map(self._clip, batch, seeds))
                labels = torch.tensor([label for _, label in made], device=self._device)
                return normalise(torch.stack([frames for frames, _ in made])), labels

            coming = ahead(whole, load, every, depth=1)
            while True:
                with clock("load"):
                    ready = next(coming, None)
                if ready is None:
                    return
                yield ready

    def _clip(self, number: int, seed: int) -> tuple[torch.Tensor, int]:
        random = np.random.default_rng(seed)
        shown, pixels = self._moments(int(number), random)
        return self._augment(pixels, random), drawn_labels([self._clips[shown]], random)[0]
