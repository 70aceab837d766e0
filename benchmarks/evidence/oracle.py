"""An upper bound for the synthetic set: the patch is always on the orange plate.

The plate is found by its colour, which no other thing of the set has. A model can do so only because this set was made;
the tests compare the place with the one that the generator drew.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adafocus.model.adafocus import AdaFocus
from adafocus.model.video_model import GlanceClip
from adafocus.training.data.augment import IMAGENET_MEAN, IMAGENET_STD

ORANGE = 0.5
"""Red exceeds blue by at least so much, of 1, on an orange plate and nowhere else."""


class Oracle(AdaFocus):
    """Every patch lies on the orange plate."""

    def glance_clip(self, frames: Tensor, *, detach_policy: bool = True) -> GlanceClip:
        """As the published model, but for the patch centres."""
        glance = super().glance_clip(frames, detach_policy=detach_policy)
        size, patch = self.config.frame_size, self.config.patch_size
        corners = plate_middles(frames.flatten(0, 1)) * size - patch / 2
        centres = (corners / (size - patch)).clamp(0, 1)
        return glance._replace(patch_centres=centres.view_as(glance.patch_centres))


def plate_middles(frames: Tensor) -> Tensor:
    """Where the orange plate is: normalised frames [N, 3, S, S] -> [N, 2], (y, x) as shares of the sides.

    A frame without orange gives its middle.
    """
    red, blue = (frames[:, band] * IMAGENET_STD[band] + IMAGENET_MEAN[band] for band in (0, 2))
    weight = (red - blue - ORANGE).clamp(min=0)  # (N, S, S)
    total = weight.sum(dim=(1, 2))
    places = (torch.arange(frames.shape[-1], device=frames.device) + 0.5) / frames.shape[-1]
    middles = torch.stack([(weight.sum(dim=2) @ places), (weight.sum(dim=1) @ places)], dim=1)
    return torch.where(total[:, None] > 0, middles / total.clamp(min=1e-6)[:, None], torch.full_like(middles, 0.5))
