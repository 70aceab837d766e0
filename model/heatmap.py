"""The heatmap policy: score every cell of the glance's map, and look where the score is highest.

The recurrent policy of arXiv 2112.14238 reduces the map to a vector and learns through the slope of the picture beside
its patch, which says nothing of what lies further away. Here each cell has a score of its own. The patch centre is the
mean position of the cells around the best one, weighted by the softmax of their scores, so that gradients reach all of
them; and where boxes are known, the scores learn from them directly (`training.optimise.boxes`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NEIGHBOURS = 1
"""Cells at most this far from the best one, along each axis, take part in the mean: 3 × 3 of them."""


class Look(NamedTuple):
    """Where the heatmap policy looks in each of N frames."""

    centres: Tensor
    """[N, 2], the patch centres (y, x) in [0, 1]: 0 is flush with the top or left edge, 1 with the bottom or right."""
    scores: Tensor
    """[N, h, w], of the cells, before the softmax."""
    features: Tensor
    """[N, C], mean of the glance's map where the policy looks, weighted as the cells."""


class HeatmapPolicy(nn.Module):
    """Scores from a 1×1 and a 3×3 convolution over the glance's map; it keeps no state between frames."""

    def __init__(self, map_channels: int, map_size: int, channels: int, frame_size: int, patch_size: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(map_channels, channels, 1, bias=False)
        self.squeeze_norm = nn.BatchNorm2d(channels)
        self.spatial = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.spatial_norm = nn.BatchNorm2d(channels)
        self.score = nn.Conv2d(channels, 1, 1)
        self._frame_size, self._patch_size = frame_size, patch_size
        self._map_size = map_size

    def forward(self, feature_map: Tensor) -> Look:
        """[N, map_channels, map_size, map_size] -> where to look."""
        x = torch.relu(self.squeeze_norm(self.squeeze(feature_map)))
        x = torch.relu(self.spatial_norm(self.spatial(x)))
        scores = self.score(x).flatten(1)  # (N, h·w)
        cells = torch.arange(self._map_size**2, device=scores.device)
        rows, columns = cells // self._map_size, cells % self._map_size  # (h·w,)
        weights = F.softmax(scores, dim=1) * _around_the_best(scores, rows, columns)
        weights = weights / weights.sum(dim=1, keepdim=True)
        cell = torch.stack([(weights * rows).sum(dim=1), (weights * columns).sum(dim=1)], dim=1)  # (N, 2)
        features = (feature_map.flatten(2) * weights[:, None]).sum(dim=2)
        return Look(self.centres_of(cell), scores.unflatten(1, (self._map_size, self._map_size)), features)

    def centres_of(self, cells: Tensor) -> Tensor:
        """Positions [N, 2] (y, x) in cells of the map, 0 the middle of the first -> patch centres [N, 2]."""
        pixels = (cells + 0.5) * (self._frame_size / self._map_size)
        room = max(1, self._frame_size - self._patch_size)
        return ((pixels - self._patch_size / 2) / room).clamp(0, 1)


def _around_the_best(scores: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """1 for the best cell and its neighbours, 0 for the others: [N, h·w], given the cells' rows and columns [h·w]."""
    best = scores.argmax(dim=1)
    near_row = (rows - rows[best][:, None]).abs() <= NEIGHBOURS
    near_column = (columns - columns[best][:, None]).abs() <= NEIGHBOURS
    return (near_row & near_column).to(scores.dtype)
