"""Views of frames for the stages: squares around a place, and whole frames in which the thing is moved about.

A view is a random similarity of the plane followed by random colours, so that one network serves visible and infrared
cameras. Images are floats in 0..1, [N, 3, H, W]; places are (y, x) shares of the frame's sides, as everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adafocus.training.data.frame_store import Pixels

OTHER_BARS = (9 / 16, 1.0)
"""Heights of the picture in the square, as shares, that training shows besides the frame's own."""


@dataclass(frozen=True)
class ViewRange:
    """The ranges that a view's geometry is drawn from.

    Attributes:
        zoom: smallest and largest side of what is seen, as a multiple of the side as served.
        off_centre: standard deviation of the distance from the place aimed at, as a share of the side.
        turn: largest angle, radians. stretch: largest natural logarithm of width over height, halved.
        anywhere: of whole frames, probability that the thing is moved to a uniformly random place.
    """

    zoom: tuple[float, float] = (0.7, 1.4)
    off_centre: float = 0.15
    turn: float = 0.25
    stretch: float = 0.15
    anywhere: float = 0.6


def to_images(pixels: Pixels) -> Tensor:
    """Return uint8 [N, H, W, 3] as float [N, 3, H, W] in 0..1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def square_views(
    images: Tensor, places: Tensor, share: float, size: int, ranges: ViewRange, random: np.random.Generator
) -> Tensor:
    """Return random views [N, 3, size, size] of the squares around places.

    Args:
        images: [N, 3, S, S].
        places: [N, 2].
        share: side of the square as served, as a share of the frame's.
        size: side of a view, pixels.
        ranges: of the geometry.
        random: draws it.
    """
    n = len(images)
    sides = share * _between(random, n, *(math.log(edge) for edge in ranges.zoom)).exp()
    middles = places * 2 - 1 + 2 * sides[:, None] * ranges.off_centre * _normal(random, n, 2)
    turn, stretch = _between(random, n, -ranges.turn, ranges.turn), _between(random, n, -ranges.stretch, ranges.stretch)
    mirrored = 1.0 - 2.0 * torch.from_numpy(random.integers(2, size=n)).float()
    across, down = mirrored * stretch.exp(), (-stretch).exp()
    rows = [
        torch.stack([sides * turn.cos() * across, -sides * turn.sin() * down, middles[:, 1]], dim=1),
        torch.stack([sides * turn.sin() * across, sides * turn.cos() * down, middles[:, 0]], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), [n, 3, size, size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def whole_views(
    images: Tensor, places: Tensor, height: float, ranges: ViewRange, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return random views of whole frames, and where the thing lies in each: [N, 3, S, S] and [N, 2].

    The picture is moved and zoomed inside its letterbox, continued by its mirror image, and boxed again, so that bars
    stay where bars are.

    Args:
        images: [N, 3, S, S], letterboxed.
        places: [N, 2], of the thing.
        height: of the picture without its bars, as a share of the square.
        ranges: of the geometry; there is no turning.
        random: draws it.
    """
    n, size = len(images), images.shape[-1]
    across = _between(random, n, *(math.log(edge) for edge in ranges.zoom)).exp()
    stretch = _between(random, n, -ranges.stretch, ranges.stretch).exp()
    mirrored = 1.0 - 2.0 * torch.from_numpy(random.integers(2, size=n)).float()
    scale = torch.stack([across / stretch, across * stretch * mirrored], dim=1)  # (n, 2), y and x
    room = torch.tensor([0.94 * height, 0.92])
    moved = torch.from_numpy(random.random(n) < ranges.anywhere)[:, None]
    near = places * 2 - 1 + ranges.off_centre * _normal(random, n, 2)
    target = torch.where(moved, _between(random, 2 * n, -1.0, 1.0).view(n, 2) * room, near)
    target = torch.maximum(torch.minimum(target, room), -room)
    steps = (torch.arange(size) + 0.5) * 2 / size - 1
    offset = places * 2 - 1 - scale * target
    y = _mirrored_into(steps * scale[:, :1] + offset[:, :1], height)  # (n, S)
    x = _mirrored_into(steps * scale[:, 1:] + offset[:, 1:], 1.0)
    grid = torch.stack([x[:, None, :].expand(n, size, size), y[:, :, None].expand(n, size, size)], dim=3)
    views = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return views, (target + 1) / 2


def boxed_again(views: Tensor, places: Tensor, height: float, random: np.random.Generator) -> Tensor:
    """Return whole views with black bars: the frame's own, or others that leave the thing in the picture."""
    steps = (torch.arange(views.shape[-1]) + 0.5) * 2 / views.shape[-1] - 1
    boxed = views.clone()
    for number, place in enumerate(places):
        share = height if random.random() < 0.7 else OTHER_BARS[int(random.integers(len(OTHER_BARS)))]
        if abs(float(place[0]) * 2 - 1) > share - 0.03:
            share = height
        boxed[number][:, steps.abs() > share] = 0
    return boxed


def recolour(images: Tensor, random: np.random.Generator, *, blur: bool) -> Tensor:
    """Return images in 0..1 in random colours: grey, inverted, of other contrast, noisy, blurred."""
    n = len(images)
    grey = _chance(random, n, 0.4)
    images = grey * images.mean(dim=1, keepdim=True) + (1 - grey) * images
    inverted = _chance(random, n, 0.1)
    images = inverted * (1 - images) + (1 - inverted) * images
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * _each(_between(random, n, 0.6, 1.5)) + mean + _each(_between(random, n, -0.2, 0.2))
    images = images * (1 + _between(random, 3 * n, -0.08, 0.08).view(n, 3, 1, 1))
    noise = torch.from_numpy(random.standard_normal(images.shape, dtype=np.float32))
    images = images + noise * _each(_between(random, n, 0.0, 0.03))
    if blur:
        blurred = _chance(random, n, 0.25)
        smooth = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), 3, 1)
        images = blurred * smooth + (1 - blurred) * images
    return images.clamp(0, 1)


def _mirrored_into(positions: Tensor, limit: float) -> Tensor:
    """Positions reflected until they lie in -limit..limit, slightly inside of it."""
    folded = torch.remainder((positions + limit) / (2 * limit), 2.0)
    return (torch.where(folded > 1, 2 - folded, folded) * 2 - 1) * limit * 0.995


def _between(random: np.random.Generator, count: int, low: float, high: float) -> Tensor:
    return torch.from_numpy(random.uniform(low, high, count)).float()


def _normal(random: np.random.Generator, rows: int, columns: int) -> Tensor:
    return torch.from_numpy(random.standard_normal((rows, columns), dtype=np.float32))


def _chance(random: np.random.Generator, count: int, probability: float) -> Tensor:
    return _each(torch.from_numpy(random.random(count) < probability).float())


def _each(values: Tensor) -> Tensor:
    return values[:, None, None, None]
