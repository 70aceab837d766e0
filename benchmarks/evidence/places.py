"""Judges the trainings of a study on the synthetic set with intervals over clips, and their weights with other patches.

    python -m benchmarks.evidence.places DATA --config FILE --runs runs/evidence/hatching_blind [--write]

Every finished training of `benchmarks.evidence.study` in the folder is a row. The weights of ``learned`` are judged
again with every patch on the orange plate, and in the middle of the frame. Intervals are those of a paired bootstrap
over clips, 95 %; seeds of an arm are averaged clip by clip first.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from adafocus.model import AdaFocus
from adafocus.model.checkpoint import read_checkpoint
from adafocus.training.data.augment import serving_batch
from adafocus.training.data.crop_plan import serving_plan
from adafocus.training.data.crops import Crops, decode_all
from adafocus.training.data.manifests import list_clips
from adafocus.training.evaluate.report import BATCH
from adafocus.training.recipe_files import load_recipe
from benchmarks.evidence.oracle import plate_middles
from benchmarks.machine import Row, write_results

RESAMPLES = 2000
MEGA = 1e6

Share = npt.NDArray[np.float64]


def patches_hold_plate(centres: torch.Tensor, middles: torch.Tensor, size: int, patch: int) -> torch.Tensor:
    """Whether a patch holds the middle of the plate: [..., 2] and [..., 2] as shares -> bool [...]."""
    corners = centres * (size - patch)
    return ((middles * size >= corners) & (middles * size <= corners + patch)).all(dim=-1)


@torch.no_grad()
def elsewhere(model: AdaFocus, crops: Crops, labels: npt.NDArray[np.int64]) -> tuple[dict[str, Share], float]:
    """Right answers [N] of weights by the place of their patches, and how often the policy's patch holds the plate."""
    model.eval()
    size, patch = model.config.frame_size, model.config.patch_size
    right: defaultdict[str, list[npt.NDArray[np.bool_]]] = defaultdict(list)
    held = []
    for start in range(0, len(crops.pixels), BATCH):
        frames = serving_batch(crops.pixels[start : start + BATCH])
        glance = model.glance_clip(frames)
        middles = plate_middles(frames.flatten(0, 1)).view_as(glance.patch_centres)
        held.append(patches_hold_plate(glance.patch_centres, middles, size, patch).float().mean().item())
        centres = {
            "on the plate": ((middles * size - patch / 2) / (size - patch)).clamp(0, 1),
            "in the middle": torch.full_like(middles, 0.5),
        }
        for place, own in centres.items():
            logits = model.focus_clip(frames, glance.features, own).step_logits[:, -1]
            right[place].append(logits.argmax(dim=1).numpy() == labels[start : start + BATCH])
    return {place: np.concatenate(parts).astype(np.float64) for place, parts in right.items()}, float(np.mean(held))


def judged(folder: Path) -> Iterator[tuple[str, int, Share, npt.NDArray[np.int64], dict[str, float]]]:
    """Arm, seed, right answers [N], labels [N] and costs of every finished training."""
    for path in sorted(folder.glob("*/judged.npz")):
        arm, seed = path.parent.name.rsplit("-", 1)
        with np.load(path) as file:
            logits, labels = file["val_logits"], file["val_labels"].astype(np.int64)
        told = json.loads((path.parent / "told.json").read_text(encoding="utf-8"))
        yield arm, int(seed), (logits[:, -1].argmax(axis=1) == labels).astype(np.float64), labels, told


def table(right: dict[str, list[Share]], costs: dict[str, float], held: list[float], data: str) -> list[Row]:
    """A row for each arm: accuracy and what ``learned`` gains over it, with intervals over clips."""
    mean = {arm: np.mean(seeds, axis=0) for arm, seeds in right.items()}
    clips = len(next(iter(mean.values())))
    drawn = np.random.default_rng(0).integers(clips, size=(RESAMPLES, clips))
    found: list[Row] = []
    for arm, own in mean.items():
        low, high = np.percentile(own[drawn].mean(axis=1), [2.5, 97.5])
        gain = mean["learned"] - own
        gain_low, gain_high = np.percentile(gain[drawn].mean(axis=1), [2.5, 97.5])
        found.append({
            "data": data, "arm": arm, "seeds": len(right[arm]), "clips": clips, "mflops_per_video": costs.get(arm, ""),
            "accuracy": round(float(own.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4),
            "by_seed": " ".join(f"{seed.mean():.4f}" for seed in right[arm]),
            "learned_gains": round(float(gain.mean()), 4),
            "gains_low": round(float(gain_low), 4), "gains_high": round(float(gain_high), 4),
            "patch_holds_plate": round(float(np.mean(held)), 4) if arm == "learned" else "",
        })  # fmt: skip
    return found


def main() -> None:
    """Judge, print, and write the CSV with ``--write``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--config", required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe, test = load_recipe(options.config), list_clips(options.data, "val")
    crops = decode_all(test, serving_plan(recipe), options.runs / "cache")
    right: defaultdict[str, list[Share]] = defaultdict(list)
    costs, held = {}, []
    for arm, seed, answers, labels, told in judged(options.runs):
        right[arm].append(answers)
        costs[arm] = round(told["flops_per_step"] * told["steps"] / MEGA, 3)
        if arm == "learned":
            model = AdaFocus(recipe.model_config(len(test.labels)))
            model.load_state_dict(read_checkpoint(options.runs / f"{arm}-{seed}" / "all" / "last.pt").state)
            elsewhere_right, share = elsewhere(model, crops, labels)
            held.append(share)
            for place, own in elsewhere_right.items():
                right[f"learned, patch {place}"].append(own)
    rows = table(right, costs, held, options.runs.name)
    for row in rows:
        print(row)
    if options.write:
        print(write_results("evidence-places", options.runs.name, rows))


if __name__ == "__main__":
    main()
