"""Cutting the patch out of the frame, differentiably in where it lies (PAPER section 1).

The patch's top-left corner is ``centre * (frame - patch)`` in pixels, fractional, and patch pixel i shows the frame at
``corner + i`` by bilinear interpolation. The two functions compute the same: one the paper's way, one as two slices and
an interpolation, which exports to plain gathers and is exact in uint8 input as well.
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


def crop_patches_lerp(frames: Tensor, centre: Tensor, patch_size: int) -> Tensor:
    """The same crop as a gather of (P+1)² pixels and a 2×2 interpolation; also differentiable in ``centre``.

    Args:
        frames: [N, C, H, W], floating point or uint8.
        centre: [N, 2] in (y, x) order, each in [0, 1].
        patch_size: P, at most H and W.

    Returns:
        [N, C, P, P] in the type of ``centre``, in the units of ``frames``.
    """
    C, H, W = frames.shape[1:]
    top, y = _split(centre[:, 0] * (H - patch_size))
    left, x = _split(centre[:, 1] * (W - patch_size))
    offsets = torch.arange(patch_size + 1, device=frames.device)
    rows = (top[:, None] + offsets).clamp(max=H - 1)  # (N, P+1); the last is past the edge only where its weight is 0
    columns = (left[:, None] + offsets).clamp(max=W - 1)
    pixels = (rows[:, :, None] * W + columns[:, None, :]).flatten(1)  # (N, (P+1)²)
    window = frames.flatten(2).gather(2, pixels[:, None].expand(-1, C, -1))
    window = window.view(-1, C, patch_size + 1, patch_size + 1).to(centre.dtype)
    across = torch.lerp(window[..., :-1], window[..., 1:], x[:, None, None, None])
    return torch.lerp(across[..., :-1, :], across[..., 1:, :], y[:, None, None, None])


def _split(corner: Tensor) -> tuple[Tensor, Tensor]:
    """Whole and fractional part of a coordinate [N] in pixels; only the fraction carries a gradient."""
    whole = corner.detach().floor()
    return whole.long(), corner - whole
