"""Trains every arm of the study of ``sky`` for itself in folds of sessions, and keeps what it answers to unseen ones.

    python -m benchmarks.evidence.sky_folds DATA MAPS OUT --weights IMAGENET [--arms NAME ...] [--seeds N ...]

MAPS is what `benchmarks.evidence.sky_views` made. All arms start from the same ImageNet weights, with the same layers
fixed, and take the same number of steps over the same clips. A run that is there already is not repeated.
`benchmarks.evidence.sky_claim` makes the tables.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from adafocus.model.backbones import spatial_mean
from adafocus.model.heatmap import HeatmapPolicy
from adafocus.model.patch import crop_patches
from adafocus.training.data.boxes import clip_points, read_boxes
from adafocus.training.data.crop_plan import CropPlan, training_plan
from adafocus.training.data.crops import decode_all
from adafocus.training.staged.cuts import half
from adafocus.training.staged.fixed_start import FixedStart, Maps
from adafocus.training.staged.stages import Empty, learn_to_find, learn_to_recognise, taken
from adafocus.training.staged.train import find_settings, recognise_settings
from adafocus.training.staged.views import to_images
from benchmarks.evidence.sky_study import FOLDS, Study
from benchmarks.evidence.sky_views import fixed_start


@dataclass(frozen=True)
class Trained:
    """How an arm is trained.

    Attributes:
        cut: the views that it learns from, of `benchmarks.evidence.sky_views`.
        steps: as a share of the recipe's, so that the training of each arm takes about the processor time of both
            stages of the method. A step of an arm that sees whole frames takes several times as long.
    """

    cut: str
    steps: float = 1.0


ARMS = {
    "method": Trained("box"),
    "middle": Trained("middle"),
    "glance128": Trained("seen128", 2.0),
    "glance256": Trained("seen256", 0.5),
    "full512": Trained("seen512", 0.125),
}
"""The arms. The method also answers for patches on the true box."""


def find(study: Study, fold: int, seed: int, weights: Path, out: Path) -> None:
    """Train the glance and the heatmap without a fold, and keep them and where they look in its clips."""
    torch.manual_seed(1000 * seed + fold)
    config, stages = study.recipe.model_config(len(study.data.labels)), study.recipe.stages
    glance = fixed_start(replace(config.glance, input_size=None, shrink="bilinear"), weights)
    channels, side = glance.backbone.channels, config.glance_size // 16
    policy = HeatmapPolicy(channels, side, config.policy_channels, config.frame_size, config.patch_size)
    maps, _, places, shares = study.learned("whole256", fold)
    settings = find_settings(stages)
    loss = learn_to_find(glance, policy, maps, places, shares, settings, np.random.default_rng([seed, fold]))
    own, served = study.judged(fold), study.served("whole256")
    with torch.no_grad():
        centres = [policy(glance(taken(served[number], np.arange(served.shape[1])))).centres.numpy() for number in own]
    torch.save({"glance": glance.backbone.state_dict(), "policy": policy.state_dict()}, out / f"find-{fold}-{seed}.pt")
    np.savez(out / f"find-{fold}-{seed}.npz", clips=own, centres=np.stack(centres), loss=loss)


def cut_where_it_looks(
    study: Study, fold: int, seed: int, plan: CropPlan, cache: Path | None, start: FixedStart, out: Path
) -> None:
    """Keep the maps of the patches that the policy chose in a fold's clips, and whether each holds the thing."""
    looked = np.load(out / f"find-{fold}-{seed}.npz")
    config, size = study.recipe.model_config(2), study.recipe.model_config(2).frame_size
    crops = decode_all(study.data.only([study.data.clips[number] for number in looked["clips"]]), plan, cache)
    assert study.data.boxes is not None  # noqa: S101 # the data set has boxes
    points = clip_points(crops.data.clips, read_boxes(study.data.boxes), plan)
    middles = np.arange(plan.candidates // 2, plan.steps * plan.candidates, plan.candidates)
    kept, holds = [], []
    for frames, every, centres in zip(crops.pixels, points, torch.from_numpy(looked["centres"]), strict=True):
        patches = crop_patches(to_images(frames[middles]), centres, config.patch_size)
        wide = (config.focus_size, config.focus_size)
        kept.append(half(start.maps(nn.functional.interpolate(patches, size=wide, mode="bilinear"))))
        corner, places = centres.numpy() * (size - config.patch_size), every[middles] * size
        inside = ((places >= corner) & (places <= corner + config.patch_size)).all(axis=1).astype(float)
        holds.append(np.where(np.isnan(places).any(axis=1), np.nan, inside))
    file = out / f"patches-{fold}-{seed}.npz"
    np.savez(file, clips=looked["clips"], maps=np.stack(kept), holds=np.stack(holds))


def recognise(study: Study, arm: str, fold: int, seed: int, rate: float, weights: Path, out: Path) -> None:
    """Train an arm without a fold and keep its logits of every frame of the fold's clips, in time order."""
    file = out / f"{arm}-{fold}-{seed}-{rate:g}.npz"
    if file.exists():
        return
    torch.manual_seed(1000 * seed + fold)
    config = study.recipe.model_config(len(study.data.labels))
    start = fixed_start(replace(config.focus, input_size=None), weights, grey=study.recipe.stages.grey)
    head = nn.Linear(start.backbone.channels, config.num_classes)
    cut, own = ARMS[arm].cut, study.judged(fold)
    maps, clips, _, shares = study.learned(cut, fold)
    labels = torch.from_numpy(study.labels[clips])
    settings = recognise_settings(study.recipe.stages)
    settings = replace(settings, lr=rate, steps=round(ARMS[arm].steps * settings.steps))
    empty, portion = None, study.recipe.stages.empty
    if portion and arm == "method":
        without = study.learned("empty", fold)
        empty = Empty(without[0], without[3], portion)
    random = np.random.default_rng([seed, fold])
    loss = learn_to_recognise(start, head, maps, labels, shares, settings, random, empty=empty)
    served = study.served(cut)

    def logits(of: Maps) -> npt.NDArray[np.float32]:
        with torch.no_grad():
            made: npt.NDArray[np.float32] = head(spatial_mean(start(taken(of, np.arange(len(of)))))).numpy()
        return made

    of_cut = np.stack([logits(served[number]) for number in own])
    found = {"clips": own, "loss": np.array(loss), "logits": of_cut}
    if arm == "method":
        looked = np.load(out / f"patches-{fold}-{seed}.npz")["maps"]
        found |= {"box": of_cut, "logits": np.stack([logits(patches) for patches in looked])}
        torch.save({"focus": start.backbone.state_dict(), "head": head.state_dict()}, file.with_suffix(".pt"))
    np.savez(file, **found)  # type: ignore[arg-type] # numpy's stubs
    right = float((found["logits"].mean(axis=1).argmax(axis=1) == study.labels[own]).mean())
    print(f"{arm} fold {fold} seed {seed} rate {rate:g}: loss {loss:.3f}, {right:.3f} of {len(own)} clips", flush=True)


def look(study: Study, fold: int, seed: int, weights: Path, cache: Path | None, out: Path) -> None:
    """Train the policy without a fold and cut the patches that it chooses there, unless that is done."""
    patches = out / f"patches-{fold}-{seed}.npz"
    if patches.exists():
        return
    if not (out / f"find-{fold}-{seed}.npz").exists():
        find(study, fold, seed, weights, out)
    focus = replace(study.recipe.model_config(2).focus, input_size=None)
    start = fixed_start(focus, weights, grey=study.recipe.stages.grey)
    cut_where_it_looks(study, fold, seed, training_plan(study.recipe), cache, start, out)
    held = np.nanmean(np.load(patches)["holds"])
    print(f"fold {fold} seed {seed}: the patch holds the thing in {held:.3f} of the frames", flush=True)


def folds_options(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the arguments that the scripts which train in folds share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("maps", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="of MobileNetV2 for ImageNet")
    parser.add_argument("--cache", type=Path, help="folder of decoded frames")
    parser.add_argument("--config", default="sky", help="recipe: the name of a shipped one, or a .toml file")
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3])
    return parser


def main() -> None:
    """Train what is asked for and not there yet."""
    parser = folds_options(__doc__)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    study = Study.open(given.data, given.maps, given.config)
    for seed, fold in product(given.seeds, given.folds):
        if "method" in given.arms:
            look(study, fold, seed, given.weights, given.cache, given.out)
        for rate, arm in product(given.rates, given.arms):
            recognise(study, arm, fold, seed, rate, given.weights, given.out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
