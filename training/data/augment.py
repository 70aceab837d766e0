"""From decoded squares to the model's input: random in training, exactly the server's arithmetic otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from adafocus.training.data.frame_store import Pixels
from adafocus.training.recipe import DataRecipe

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

TINT = 1 / 3
"""Strength of the random tint relative to that of brightness and contrast."""


Jitter = Callable[[np.random.Generator, int, int], npt.NDArray[np.int64]]
"""Draws which of its candidates each segment shows: generator, segments, candidates -> int64 [segments]."""


def jitter_per_segment(random: np.random.Generator, segments: int, candidates: int) -> npt.NDArray[np.int64]:
    """Draw a candidate for each segment, independently of the others, as the released code does."""
    return random.integers(candidates, size=segments)


def normalise(frames: Tensor) -> Tensor:
    """Normalise [..., 3, H, W] in 0..255 by ImageNet's mean and deviation."""
    mean = torch.tensor(IMAGENET_MEAN, device=frames.device).view(3, 1, 1) * 255
    std = torch.tensor(IMAGENET_STD, device=frames.device).view(3, 1, 1) * 255
    return (frames.float() - mean) / std


def serving_batch(pixels: Sequence[Pixels]) -> Tensor:
    """Return clips as served, ``uint8 [T, S, S, 3]`` each in visiting order, as [B, T, 3, S, S], normalised."""
    return normalise(torch.from_numpy(np.stack(pixels)).permute(0, 1, 4, 2, 3))


class Augment:
    """Random crop, mirroring and colour, drawn once for all frames of a clip."""

    def __init__(self, recipe: DataRecipe, frame_size: int, device: torch.device | None = None) -> None:
        self._device = device
        self._recipe = recipe
        self._size = frame_size

    def __call__(self, pixels: Pixels, random: np.random.Generator) -> Tensor:
        """Return frames ``uint8 [K, S, S, 3]`` of a clip as float [K, 3, frame_size, frame_size] in 0..255."""
        return self.with_points(pixels, np.empty((0, 2), np.float32), random)[0]

    def with_points(
        self, pixels: Pixels, points: npt.NDArray[np.float32], random: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """As above, and where points of the square lie afterwards.

        Args:
            pixels: ``uint8 [K, S, S, 3]``.
            points: [N, 2], (y, x) shares of the square's sides; NaN for none.
            random: decides what is done.

        Returns:
            The frames, and the points [N, 2] as shares of the new square's sides; NaN where they were cut off.
        """
        recipe = self._recipe
        top, left, height, width = self._box(pixels.shape[1], random)
        cut = np.ascontiguousarray(pixels[:, top : top + height, left : left + width])
        frames = torch.from_numpy(cut).to(self._device).permute(0, 3, 1, 2).float()
        if frames.shape[2:] != (self._size, self._size):  # otherwise this would be a slow copy
            frames = F.interpolate(frames, size=(self._size, self._size), mode="bilinear", antialias=True)
        moved = torch.from_numpy((points * pixels.shape[1] - (top, left)) / (height, width)).float()
        if random.random() < recipe.flip:
            frames = frames.flip(3)
            moved[:, 1] = 1 - moved[:, 1]
        moved[((moved < 0) | (moved > 1)).any(dim=1)] = torch.nan
        return (_recolour(frames, recipe.colour, random) if recipe.colour else frames), moved

    def _box(self, side: int, random: np.random.Generator) -> tuple[int, int, int, int]:
        """Return top, left, height and width of a crop; the scales of its sides are at most one apart."""
        scales = sorted(self._recipe.scales)
        first = int(random.integers(len(scales)))
        second = int(np.clip(first + random.integers(-1, 2), 0, len(scales) - 1))
        height, width = round(side * scales[first]), round(side * scales[second])
        top, left = random.integers(side - height + 1), random.integers(side - width + 1)
        return int(top), int(left), height, width


def _recolour(frames: Tensor, strength: float, random: np.random.Generator) -> Tensor:
    """Change contrast about the clip's mean, brightness and tint at random: [T, 3, H, W], clamped to 0..255."""
    contrast, brightness = random.uniform(1 - strength, 1 + strength, 2)
    tint = torch.from_numpy(random.uniform(1 - strength * TINT, 1 + strength * TINT, (1, 3, 1, 1))).float()
    mean = frames.mean()
    return (((frames - mean) * float(contrast) + mean) * float(brightness) * tint.to(frames.device)).clamp(0, 255)
