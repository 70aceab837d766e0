"""What a stage sees of a frame, at random for learning and as it is served, and the maps of fixed layers over it.

Whole frames are shrunk by averaging, so that nothing rests on pixels that happen to be skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from adafocus.model.patch import crop_patches
from adafocus.training.data.boxes import Points
from adafocus.training.data.frame_store import Frames
from adafocus.training.staged.fixed_start import FixedStart, Maps
from adafocus.training.staged.views import ViewRange, boxed_again, recolour, square_views, to_images, whole_views

EVERY = 2
"""Every second frame that is served of a clip is learned from where the clip is one to learn from."""

PIECE = 8
"""Frames of a clip whose views are made at a time, which bounds the memory."""

AWAY = 4 / 3
"""Sides of a square between the thing and the middle of a square that does not show it, at least."""

TRIES = 20
"""Draws of a place. A distance that most places have is nearly always reached."""

WHOLE = ViewRange(zoom=(0.6, 1.25))
"""Whole frames are more often enlarged than shrunk: what is too small to see teaches nothing."""


@dataclass(frozen=True)
class Cut:
    """A part of a frame.

    Attributes:
        size: pixels of the network's input. share: of a square, its side as a share of the frame; 0 is all of it.
        at_the_thing: the square lies around the thing, else in the middle.
        away: the square that is learned from lies anywhere in the picture where it does not show the thing.
        ranges: of the views that are learned from. views: of each frame.
        kept_frames: all frames that are kept are learned from, else every second one of those that are served.
    """

    size: int
    share: float = 0.0
    at_the_thing: bool = False
    ranges: ViewRange = field(default_factory=ViewRange)
    views: int = 1
    kept_frames: bool = False
    away: bool = False


@dataclass
class Seen:
    """The maps of one cut of many clips.

    Attributes:
        learned: of random views, [N, channels, h, w], in pieces.
        places: of the thing in them, [N, 2]. clips: their numbers.
        served: of the frames as served, [steps, channels, h, w] for each clip.
    """

    learned: list[Maps] = field(default_factory=list)
    places: list[Points] = field(default_factory=list)
    clips: list[int] = field(default_factory=list)
    served: list[Maps] = field(default_factory=list)


def look_at(
    kept: Iterable[tuple[Frames, Points, float]],
    candidates: int,
    cuts: Mapping[str, tuple[Cut, FixedStart]],
    *,
    serving: bool,
) -> dict[str, Seen]:
    """Make the maps of every cut of clips, frame by frame.

    Args:
        kept: of each clip its frames, where the thing lies in them (NaN where it does not), and the picture's height
            as a share of the square.
        candidates: frames kept of each segment; the middle one is served.
        cuts: by name, with the network that sees them.
        serving: whether to keep the maps of frames as served, too.
    """
    seen = {name: Seen() for name in cuts}
    for number, (frames, every, height) in enumerate(kept):
        middles = np.arange(candidates // 2, len(every), candidates)
        images, places = to_images(frames[middles]), torch.from_numpy(every[middles])
        for name, (cut, start) in cuts.items():
            if serving:
                seen[name].served.append(half(start.maps(served_views(images, places, cut))))
            random = np.random.default_rng(number)  # of its own, so that no cut depends on what else is made
            learned = np.arange(len(every)) if cut.kept_frames else middles[::EVERY]
            shown = learned[~np.isnan(every[learned]).any(axis=1)]
            for piece in (shown[first : first + PIECE] for first in range(0, len(shown), PIECE)):
                shots = to_images(frames[piece]).repeat(cut.views, 1, 1, 1)
                where = torch.from_numpy(every[piece]).repeat(cut.views, 1)
                views, moved = learned_views(shots, where, cut, height, random)
                seen[name].learned.append(half(start.maps(views)))
                seen[name].places.append(moved.numpy())
                seen[name].clips += [number] * len(views)
    return seen


def learned_views(
    images: Tensor, places: Tensor, cut: Cut, height: float, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return random views [N, 3, size, size] in 0..1, and the places of the thing in them if the frames are whole."""
    if cut.share:
        middle = places if cut.at_the_thing else torch.full_like(places, 0.5)
        if cut.away:
            middle = elsewhere(places, AWAY * cut.share, height, random)
        views = square_views(images, middle, cut.share, cut.size, cut.ranges, random)
        return recolour(views, random, blur=True), places
    views, moved = whole_views(shrunk(images, cut.size), places, height, cut.ranges, random)
    views = boxed_again(recolour(views, random, blur=False), moved, height, random)
    return F.interpolate(views, size=(cut.size, cut.size), mode="bilinear", antialias=True), moved


def elsewhere(places: Tensor, distance: float, height: float, random: np.random.Generator) -> Tensor:
    """Return random places in the picture that are further from given ones, [N, 2], than a distance along an axis."""
    room = torch.tensor([height, 1.0]) * 0.95
    found, near = torch.full_like(places, 0.5), torch.ones(len(places), dtype=torch.bool)
    for _ in range(TRIES):
        drawn = 0.5 + (torch.from_numpy(random.random((len(places), 2))).float() - 0.5) * room
        found = torch.where(near[:, None], drawn, found)
        near = ((found - places).abs() <= distance).all(dim=1)
    return found


def served_views(images: Tensor, places: Tensor, cut: Cut) -> Tensor:
    """Return frames as they are served, cut; a square around a thing that is not there lies in the middle."""
    if not cut.share:
        return F.interpolate(shrunk(images, cut.size), size=(cut.size, cut.size), mode="bilinear", antialias=True)
    nowhere = places.isnan() if cut.at_the_thing else torch.ones_like(places, dtype=torch.bool)
    middle = torch.where(nowhere, torch.full_like(places, 0.5), places)
    centres = ((middle - cut.share / 2) / max(1e-6, 1 - cut.share)).clamp(0, 1)
    patches = crop_patches(images, centres, round(cut.share * images.shape[-1]))
    return F.interpolate(patches, size=(cut.size, cut.size), mode="bilinear", align_corners=False)


def shrunk(images: Tensor, size: int) -> Tensor:
    """Return images shrunk by averaging, by a whole factor, to at least this size."""
    return F.avg_pool2d(images, max(1, images.shape[-1] // size))


def half(maps: Tensor) -> npt.NDArray[np.float16]:
    """Return maps as they are kept."""
    kept: npt.NDArray[np.float16] = maps.half().numpy()
    return kept
