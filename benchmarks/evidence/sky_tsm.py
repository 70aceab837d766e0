"""Trains a network with temporal shift (TSM, Lin et al., ICCV 2019) on the whole frames of clips of ``sky``, in folds.

    python -m benchmarks.evidence.sky_tsm DATA MAPS OUT --weights IMAGENET [--seeds N ...]

It is the arm of `benchmarks.evidence.sky_folds` that sees whole frames at 256 pixels, with an eighth of the channels of
each residual block that learns taken from the frame before and as many from the frame after. A view is a clip: its
frames are moved, zoomed and recoloured alike, so that motion stays as it is. MAPS holds ``seen256`` of
`benchmarks.evidence.sky_views`; the views of clips are added to it, and `benchmarks.evidence.sky_claim` reads OUT.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus.model.backbones import MobileNetV2, by_clip, shiftable_blocks, spatial_mean
from adafocus.model.tsm import TemporalShift
from adafocus.training.data.boxes import clip_points, read_boxes
from adafocus.training.data.crop_plan import training_plan
from adafocus.training.data.crops import decode_all
from adafocus.training.data.pictures import picture_heights
from adafocus.training.staged.cuts import WHOLE, Cut, half, learned_views
from adafocus.training.staged.fit import Numbers, fit
from adafocus.training.staged.fixed_start import FixedStart, Maps
from adafocus.training.staged.stages import taken
from adafocus.training.staged.train import recognise_settings
from adafocus.training.staged.views import to_images
from benchmarks.evidence.sky_folds import ARMS, folds_options
from benchmarks.evidence.sky_study import Study
from benchmarks.evidence.sky_views import FIXED_BLOCKS, fixed_start

ARM, SEES = "tsm256", "glance256"
"""The arm, and the one that sees the same frames one by one."""

FRACTION = 8
"""One in so many channels comes from the frame before, and one from the frame after, as in TSM."""


def shifted(start: FixedStart, frames: int) -> FixedStart:
    """Put the temporal shift into the blocks that learn; the fixed ones see each frame alone."""
    network = start.backbone
    assert isinstance(network, MobileNetV2)  # noqa: S101 # the recipe's is
    learning = set(list(network.blocks.children())[FIXED_BLOCKS:])
    for block in shiftable_blocks(network):
        if block in learning:
            block.shift = TemporalShift(frames, FRACTION)
    return start


def clip_view(images: Tensor, place: Tensor, cut: Cut, height: float, seed: list[int]) -> Tensor:
    """Return one random view [T, 3, size, size] of the frames of a clip, [T, 3, S, S], in all of which it is the same.

    The place [1, 2] is where the thing lies in the middle of the clip.
    """
    drawn = [np.random.default_rng(seed) for _ in images]
    pairs = zip(images, drawn, strict=True)
    return torch.cat([learned_views(image[None], place, cut, height, random)[0] for image, random in pairs])


def make_views(study: Study, cache: Path | None, weights: Path) -> None:
    """Add the views of clips that the arm learns from to the maps, unless they are there."""
    if (study.maps / f"{ARM}.npz").exists():
        return
    cut, plan = Cut(256, ranges=WHOLE, views=2), training_plan(study.recipe)
    start = fixed_start(replace(study.recipe.model_config(2).focus, input_size=None), weights)
    assert study.data.boxes is not None  # noqa: S101 # the data set has boxes
    crops = decode_all(study.data, plan, cache)
    points = clip_points(crops.data.clips, read_boxes(study.data.boxes), plan)
    middles = np.arange(plan.candidates // 2, plan.steps * plan.candidates, plan.candidates)
    learned, clips = [], []
    heights = picture_heights(crops.data.clips, plan)
    for number, (frames, every, height) in enumerate(zip(crops.pixels, points, heights, strict=True)):
        shown = every[middles][~np.isnan(every[middles]).any(axis=1)]
        if not len(shown):
            continue
        images, place = to_images(frames[middles]), torch.from_numpy(shown[len(shown) // 2])[None]
        views = (clip_view(images, place, cut, height, [number, view]) for view in range(cut.views))
        learned += [half(start.maps(view)) for view in views]
        clips += [number] * cut.views
    np.save(study.maps / f"{ARM}.learned.npy", np.stack(learned))
    np.savez(study.maps / f"{ARM}.npz", clips=np.array(clips), places=np.zeros((len(clips), 2)))


def logits_of(start: FixedStart, head: nn.Linear, maps: Maps, numbers: Numbers, dropout: float = 0.0) -> Tensor:
    """Return the logits of every frame [N, T, classes] of some of the clips' maps [clips, T, channels, h, w]."""
    some = maps[numbers]
    seen = taken(some.reshape(-1, *some.shape[2:]), np.arange(some.shape[0] * some.shape[1]))
    return by_clip(head(F.dropout(spatial_mean(start(seen)), dropout)), some.shape[1])


def train(study: Study, fold: int, seed: int, rate: float, weights: Path, out: Path) -> None:
    """Train the arm without a fold and keep its logits of every frame of the fold's clips, in time order."""
    file = out / f"{ARM}-{fold}-{seed}-{rate:g}.npz"
    if file.exists():
        return
    torch.manual_seed(1000 * seed + fold)
    config = study.recipe.model_config(len(study.data.labels))
    start = shifted(fixed_start(replace(config.focus, input_size=None), weights), config.steps)
    head = nn.Linear(start.backbone.channels, config.num_classes)
    maps, clips, _, shares = study.learned(ARM, fold)
    labels = torch.from_numpy(study.labels[clips])
    settings = recognise_settings(study.recipe.stages)
    steps, batch = round(ARMS[SEES].steps * settings.steps), settings.batch_size // config.steps

    def loss_of(numbers: Numbers) -> Tensor:
        logits = logits_of(start, head, maps, numbers, config.dropout).mean(dim=1)
        smoothing = study.recipe.optimiser.label_smoothing
        return F.cross_entropy(logits, labels[torch.from_numpy(numbers)], label_smoothing=smoothing)

    start.train()
    settings = replace(settings, lr=rate, steps=steps, batch_size=batch)
    random = np.random.default_rng([seed, fold])
    loss = fit(start.learning(), list(head.parameters()), loss_of, shares, settings, random)
    start.eval()
    own, served = study.judged(fold), study.served(ARMS[SEES].cut)
    with torch.no_grad():
        logits = np.concatenate([logits_of(start, head, served, own[[row]]).numpy() for row in range(len(own))])
    np.savez(file, clips=own, loss=np.array(loss), logits=logits)
    right = float((logits.mean(axis=1).argmax(axis=1) == study.labels[own]).mean())
    print(f"{ARM} fold {fold} seed {seed} rate {rate:g}: loss {loss:.3f}, {right:.3f} of {len(own)} clips", flush=True)


def main() -> None:
    """Train what is asked for and not there yet."""
    given = folds_options(__doc__).parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    study = Study.open(given.data, given.maps, given.config)
    make_views(study, given.cache, given.weights)
    for seed, fold, rate in product(given.seeds, given.folds, given.rates):
        train(study, fold, seed, rate, given.weights, given.out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
