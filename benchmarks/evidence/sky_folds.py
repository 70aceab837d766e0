"""Trains every arm of the study of ``sky`` for itself in folds of sessions, and keeps what it answers to unseen ones.

    python -m benchmarks.evidence.sky_folds DATA MAPS OUT --weights IMAGENET [--arms NAME ...] [--seeds N ...]

MAPS is what `benchmarks.evidence.sky_views` made. All arms start from the same ImageNet weights, with the same layers
fixed, and take the same number of steps over the same clips. A run that is there already is not repeated.
`benchmarks.evidence.sky_claim` makes the tables.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from adafocus.model.backbones import spatial_mean
from adafocus.model.heatmap import HeatmapPolicy
from adafocus.model.patch import crop_patches
from adafocus.training.data.boxes import clip_points, read_boxes
from adafocus.training.data.clips import ClipSet
from adafocus.training.data.crop_plan import CropPlan, training_plan
from adafocus.training.data.crops import decode_all
from adafocus.training.data.groups import assign_parts
from adafocus.training.data.manifests import list_clips
from adafocus.training.recipe import Recipe
from adafocus.training.recipe_files import load_recipe
from adafocus.training.staged.cuts import half
from adafocus.training.staged.fit import Fit, balanced_shares
from adafocus.training.staged.fixed_start import FixedStart, Maps
from adafocus.training.staged.stages import learn_to_find, learn_to_recognise, taken
from adafocus.training.staged.views import to_images
from benchmarks.evidence.sky_sessions import sessions
from benchmarks.evidence.sky_views import fixed_start

FOLDS = 5
FIND = Fit(steps=120, lr=5e-4, head_factor=4.0, batch_size=8, weight_decay=0.02)
RECOGNISE = {
    "method": Fit(steps=80, lr=1e-3),
    "middle": Fit(steps=80, lr=1e-3),
    "glance128": Fit(steps=80, lr=1e-3),
    "glance256": Fit(steps=40, lr=1e-3),
}
"""Steps by arm: those of the larger glance take as long on a processor as both stages of the method together."""
ARMS = {"method": "box", "middle": "middle", "glance128": "whole128", "glance256": "whole256"}
"""The arms, and the views that each learns from. The method also answers for patches on the true box."""


@dataclass(frozen=True)
class Study:
    """The clips and what belongs to each of them.

    Attributes:
        data: the clips. items: their rows of the manifest. units: their sessions. folds: in which each is judged.
        maps: folder of the maps. recipe: of the shipped model.
    """

    data: ClipSet
    items: list[dict[str, Any]]
    units: list[str]
    folds: npt.NDArray[np.int64]
    maps: Path
    recipe: Recipe

    @classmethod
    def open(cls, folder: Path, maps: Path) -> Study:
        """Read the manifest; folds spread classes and sensors evenly, as far as sessions permit."""
        data = list_clips(folder)
        rows = {row["file"]: row for row in json.loads((folder / "manifest.json").read_text())["items"]}
        items = [rows[str(clip.path.relative_to(folder))] for clip in data.clips]
        units = sessions(items)
        kinds = [2 * clip.label + (item["sensor"] == "visible") for clip, item in zip(data.clips, items, strict=True)]
        part = assign_parts(units, kinds, FOLDS, seed=0)
        return cls(data, items, units, np.array([part[unit] for unit in units]), maps, load_recipe("sky"))

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class of each clip."""
        return np.array([clip.label for clip in self.data.clips])

    def learned(self, cut: str, fold: int) -> tuple[Maps, npt.NDArray[np.int64], Tensor, npt.NDArray[np.float64]]:
        """Return of the views of the other folds: maps, clips, places, and how often each is drawn."""
        index = np.load(self.maps / f"{cut}.npz")
        clips, labels = index["clips"], self.labels
        kept = np.flatnonzero(self.folds[clips] != fold)
        maps = np.load(self.maps / f"{cut}.learned.npy", mmap_mode="r")
        own = sorted(set(clips[kept].tolist()))
        of_clip = dict(zip(own, balanced_shares([labels[n] for n in own], [self.units[n] for n in own]), strict=True))
        counts = np.bincount(clips[kept], minlength=len(labels))
        shares = np.zeros(len(clips))
        shares[kept] = [of_clip[n] / counts[n] for n in clips[kept].tolist()]
        return maps, clips, torch.from_numpy(index["places"]), shares / shares.sum()

    def judged(self, fold: int) -> npt.NDArray[np.int64]:
        """Return the numbers of a fold's clips."""
        return np.flatnonzero(self.folds == fold)

    def served(self, cut: str) -> Maps:
        """Return the maps of the frames as served, [clips, steps, channels, h, w]."""
        maps: Maps = np.load(self.maps / f"{cut}.served.npy", mmap_mode="r")
        return maps


def find(study: Study, fold: int, weights: Path, out: Path) -> None:
    """Train the glance and the heatmap without a fold, and keep them and where they look in its clips."""
    torch.manual_seed(fold)
    config = study.recipe.model_config(len(study.data.labels))
    glance = fixed_start(replace(config.glance, input_size=None, shrink="bilinear"), weights)
    channels, side = glance.backbone.channels, config.glance_size // 16
    policy = HeatmapPolicy(channels, side, config.policy_channels, config.frame_size, config.patch_size)
    maps, _, places, shares = study.learned("whole256", fold)
    loss = learn_to_find(glance, policy, maps, places, shares, FIND, np.random.default_rng(fold))
    own, served = study.judged(fold), study.served("whole256")
    with torch.no_grad():
        centres = [policy(glance(taken(served[number], np.arange(served.shape[1])))).centres.numpy() for number in own]
    torch.save({"glance": glance.backbone.state_dict(), "policy": policy.state_dict()}, out / f"find-{fold}.pt")
    np.savez(out / f"find-{fold}.npz", clips=own, centres=np.stack(centres), loss=loss)


def cut_where_it_looks(
    study: Study, fold: int, plan: CropPlan, cache: Path | None, start: FixedStart, out: Path
) -> None:
    """Keep the maps of the patches that the policy chose in a fold's clips, and whether each holds the thing."""
    looked = np.load(out / f"find-{fold}.npz")
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
    np.savez(out / f"patches-{fold}.npz", clips=looked["clips"], maps=np.stack(kept), holds=np.stack(holds))


def recognise(study: Study, arm: str, fold: int, seed: int, settings: Fit, weights: Path, out: Path) -> None:
    """Train an arm without a fold and keep its logits of every frame of the fold's clips, in time order."""
    times = settings.steps // RECOGNISE[arm].steps
    name = arm if times == 1 else f"{arm}x{times}"
    file = out / f"{name}-{fold}-{seed}-{settings.lr:g}.npz"
    if file.exists():
        return
    torch.manual_seed(1000 * seed + fold)
    config = study.recipe.model_config(len(study.data.labels))
    start = fixed_start(replace(config.focus, input_size=None), weights)
    head = nn.Linear(start.backbone.channels, config.num_classes)
    cut, own = ARMS[arm], study.judged(fold)
    maps, clips, _, shares = study.learned(cut, fold)
    labels = torch.from_numpy(study.labels[clips])
    random = np.random.default_rng([seed, fold])
    loss = learn_to_recognise(start, head, maps, labels, shares, settings, random)
    served = study.served(cut)

    def logits(of: Maps) -> npt.NDArray[np.float32]:
        with torch.no_grad():
            made: npt.NDArray[np.float32] = head(spatial_mean(start(taken(of, np.arange(len(of)))))).numpy()
        return made

    found = {
        "clips": own,
        "loss": np.array(loss),
        "box" if arm == "method" else "logits": [logits(served[n]) for n in own],
    }
    if arm == "method":
        found["logits"] = [logits(patches) for patches in np.load(out / f"patches-{fold}.npz")["maps"]]
        if seed == 0:
            torch.save({"focus": start.backbone.state_dict(), "head": head.state_dict()}, file.with_suffix(".pt"))
    np.savez(file, **{name: np.asarray(value) for name, value in found.items()})
    right = float((np.mean(found["logits"], axis=1).argmax(axis=1) == study.labels[own]).mean())
    print(
        f"{name} fold {fold} seed {seed} rate {settings.lr:g}: loss {loss:.3f}, {right:.3f} of {len(own)} clips",
        flush=True,
    )


def main() -> None:
    """Train what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("maps", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="of MobileNetV2 for ImageNet")
    parser.add_argument("--cache", type=Path, help="folder of decoded frames")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--longer", type=int, default=1, help="times the steps in which an arm learns to recognise")
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 4e-4])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    study = Study.open(given.data, given.maps)
    for fold in given.folds:
        if "method" in given.arms and not (given.out / f"patches-{fold}.npz").exists():
            find(study, fold, given.weights, given.out)
            focus = replace(study.recipe.model_config(2).focus, input_size=None)
            start = fixed_start(focus, given.weights)
            cut_where_it_looks(study, fold, training_plan(study.recipe), given.cache, start, given.out)
            held = np.nanmean(np.load(given.out / f"patches-{fold}.npz")["holds"])
            print(f"fold {fold}: the patch holds the thing in {held:.3f} of the frames", flush=True)
        for seed, rate, arm in product(given.seeds, given.rates, given.arms):
            settings = replace(RECOGNISE[arm], lr=rate, steps=given.longer * RECOGNISE[arm].steps)
            recognise(study, arm, fold, seed, settings, given.weights, given.out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
