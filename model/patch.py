"""Crops the patch from the frame, differentiably with respect to its position (arXiv 2112.14238).

The patch's top-left corner is ``centre * (frame - patch)`` in pixels, fractional, and patch pixel i shows the frame at
``corner + i`` by bilinear interpolation: a pure shift. ``export.graphs`` serves the same as gathers and a lerp, which
ONNX Runtime computes several times faster; the tests hold the two together.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def crop_patches(frames: Tensor, centre: Tensor, patch_size: int) -> Tensor:
    """Crop by affine grid and grid sampling, as the paper does; gradients reach ``centre``.

    Args:
        frames: [N, C, H, W], floating point.
        centre: [N, 2] in (y, x) order, each in [0, 1].
        patch_size: P, at most H and W.

    Returns:
        [N, C, P, P].
    """
    N, C, H, W = frames.shape
    y = (2 * centre[:, 0] * (H - patch_size) + patch_size) / H - 1  # (N,), the patch's middle where the frame spans
    x = (2 * centre[:, 1] * (W - patch_size) + patch_size) / W - 1  # (N,), -1 to 1
    zero = torch.zeros_like(x)
    rows = [torch.stack([zero + patch_size / W, zero, x], dim=1), torch.stack([zero, zero + patch_size / H, y], dim=1)]
    theta = torch.stack(rows, dim=1)  # (N, 2, 3): scale and shift
    grid = F.affine_grid(theta, [N, C, patch_size, patch_size], align_corners=False)
    return F.grid_sample(frames, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
