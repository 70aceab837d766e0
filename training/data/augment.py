"""From kept squares to the model's input: random in training, exactly the server's arithmetic otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.data.crops import CropPlan, Pixels
from training.recipe import DataRecipe

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

TINT = 1 / 3
"""Strength of the random tint relative to that of brightness and contrast."""


def normalise(frames: Tensor) -> Tensor:
    """[..., 3, H, W] in 0..255 -> normalised by ImageNet's mean and deviation (PAPER section 1)."""
    mean = torch.tensor(IMAGENET_MEAN, device=frames.device).view(3, 1, 1) * 255
    std = torch.tensor(IMAGENET_STD, device=frames.device).view(3, 1, 1) * 255
    return (frames.float() - mean) / std


def serving_batch(pixels: Sequence[Pixels]) -> Tensor:
    """Clips as served, ``uint8 [T, S, S, 3]`` each in visiting order -> [B, T, 3, S, S], normalised."""
    return normalise(torch.from_numpy(np.stack(pixels)).permute(0, 1, 4, 2, 3))


class Augment:
    """Random moments, crops, mirroring and colour; one draw per clip, the same for all its frames."""

    def __init__(self, plan: CropPlan, recipe: DataRecipe, frame_size: int, device: torch.device | None = None) -> None:
        self._plan = plan
        self._device = device
        self._recipe = recipe
        self._size = frame_size

    def __call__(self, pixels: Sequence[Pixels], random: np.random.Generator) -> Tensor:
        """Clips ``uint8 [K·candidates, S, S, 3]`` in time order -> [B, K, 3, frame_size, frame_size], normalised."""
        return normalise(torch.stack([self._clip(clip, random) for clip in pixels]))

    def _clip(self, pixels: Pixels, random: np.random.Generator) -> Tensor:
        plan, recipe = self._plan, self._recipe
        offset = random.integers(plan.candidates)
        positions = [*plan.order, *range(plan.steps, plan.steps + plan.focus_steps)]
        chosen = pixels[[position * plan.candidates + offset for position in positions]]
        top, left, height, width = self._box(plan.crop, random)
        cut = np.ascontiguousarray(chosen[:, top : top + height, left : left + width])
        frames = torch.from_numpy(cut).to(self._device).permute(0, 3, 1, 2).float()
        if frames.shape[2:] != (self._size, self._size):  # else it would only be copied, slowly
            frames = F.interpolate(frames, size=(self._size, self._size), mode="bilinear", antialias=True)
        if random.random() < recipe.flip:
            frames = frames.flip(3)
        return _recolour(frames, recipe.colour, random) if recipe.colour else frames

    def _box(self, side: int, random: np.random.Generator) -> tuple[int, int, int, int]:
        """Top, left, height and width of a crop: one of the scales for each side, not more than one scale apart."""
        scales = sorted(self._recipe.scales)
        first = int(random.integers(len(scales)))
        second = int(np.clip(first + random.integers(-1, 2), 0, len(scales) - 1))
        height, width = round(side * scales[first]), round(side * scales[second])
        top, left = random.integers(side - height + 1), random.integers(side - width + 1)
        return int(top), int(left), height, width


def _recolour(frames: Tensor, strength: float, random: np.random.Generator) -> Tensor:
    """Random contrast about the clip's mean, brightness, and tint: [T, 3, H, W] in 0..255, kept there."""
    contrast, brightness = random.uniform(1 - strength, 1 + strength, 2)
    tint = torch.from_numpy(random.uniform(1 - strength * TINT, 1 + strength * TINT, (1, 3, 1, 1))).float()
    mean = frames.mean()
    return (((frames - mean) * float(contrast) + mean) * float(brightness) * tint.to(frames.device)).clamp(0, 255)
