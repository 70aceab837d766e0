"""Judges checkpoints of the synthetic set with the patch in three places, on thousands of clips.

    python -m benchmarks.evidence.places DATA --checkpoint FILE … --name NAME [--logits NAME.npz] [--write]

The same weights are judged with the policy's patch, with every patch on the orange plate (an upper bound), and with the
patch in the middle of the frame. Clips are those of the split ``val``. Intervals are those of a paired bootstrap over
clips, 95 %; several checkpoints, such as seeds, are averaged clip by clip first. ``--logits`` keeps what the policy's
patches gave after each step, of the first checkpoint, for `benchmarks.certified_sets`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from adafocus.model.video_model import VideoModel
from adafocus.training.data.augment import serving_batch
from adafocus.training.data.clips import ClipSet
from adafocus.training.data.crop_plan import CropPlan, serving_plan
from adafocus.training.data.crops import Broken, decode_each
from adafocus.training.data.frame_store import Pixels, load_pixels
from adafocus.training.data.manifests import list_clips
from adafocus.training.evaluate.inference import load_trained
from adafocus.training.evaluate.report import BATCH
from benchmarks.evidence.oracle import plate_middles
from benchmarks.machine import Row, write_results

RESAMPLES = 2000
POLICY, PLATE, MIDDLE = "where the policy looks", "on the plate", "in the middle"


class Judged(NamedTuple):
    """What a model says of clips.

    Attributes:
        logits: by place of the patch, float32 [N, T, C].
        held: of each clip, the share of its frames in which the policy's patch holds the plate's middle, [N].
        labels: int64 [N].
    """

    logits: Mapping[str, npt.NDArray[np.float32]]
    held: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def patches_hold_plate(centres: Tensor, middles: Tensor, size: int, patch: int) -> Tensor:
    """Whether a patch holds the middle of the plate: [..., 2] and [..., 2] as shares -> bool [...]."""
    corners = centres * (size - patch)
    return ((middles * size >= corners) & (middles * size <= corners + patch)).all(dim=-1)


@torch.no_grad()
def judge(model: VideoModel, plan: CropPlan, data: ClipSet) -> Judged:
    """Run a model on clips, with the patch in each place; a clip that cannot be decoded is left out."""
    model.eval()
    logits: defaultdict[str, list[npt.NDArray[np.float32]]] = defaultdict(list)
    held, labels, waiting = [], [], list[Pixels]()

    def run() -> None:
        frames = serving_batch(waiting)
        found, on_plate = in_places(model, frames)
        for place, own in found.items():
            logits[place].append(own.numpy())
        held.append(on_plate.float().mean(dim=1).numpy())
        waiting.clear()

    for clip, made in decode_each(data, plan, None, work="judging"):
        if not isinstance(made, Broken):
            labels.append(clip.label)
            waiting.append(load_pixels(made) if isinstance(made, Path) else made)
        if len(waiting) == BATCH:
            run()
    if waiting:
        run()
    every = {place: np.concatenate(parts) for place, parts in logits.items()}
    return Judged(every, np.concatenate(held), np.array(labels, dtype=np.int64))


def in_places(model: VideoModel, frames: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Step logits [B, T, C] by place of the patch, and whether the policy's patch holds the plate, bool [B, T]."""
    size, patch = model.config.frame_size, model.config.patch_size
    glance = model.glance_clip(frames)
    middles = plate_middles(frames.flatten(0, 1)).view_as(glance.patch_centres)
    centres = {
        POLICY: glance.patch_centres,
        PLATE: ((middles * size - patch / 2) / (size - patch)).clamp(0, 1),
        MIDDLE: torch.full_like(middles, 0.5),
    }
    found = {place: model.focus_clip(frames, glance.features, own).step_logits for place, own in centres.items()}
    return found, patches_hold_plate(glance.patch_centres, middles, size, patch)


def table(name: str, judged: Sequence[Judged]) -> list[Row]:
    """A row for each place: accuracy, and what the policy gains over it, with intervals over clips."""
    right = {
        place: np.mean([(one.logits[place][:, -1].argmax(axis=1) == one.labels) for one in judged], axis=0)
        for place in judged[0].logits
    }
    clips = len(judged[0].labels)
    drawn = np.random.default_rng(0).integers(clips, size=(RESAMPLES, clips))
    found: list[Row] = []
    for place, own in right.items():
        low, high = np.percentile(own[drawn].mean(axis=1), [2.5, 97.5])
        gain = right[POLICY] - own
        gain_low, gain_high = np.percentile(gain[drawn].mean(axis=1), [2.5, 97.5])
        found.append({
            "data": name, "patch": place, "seeds": len(judged), "clips": clips,
            "accuracy": round(float(own.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4),
            "policy_gains": round(float(gain.mean()), 4),
            "gains_low": round(float(gain_low), 4), "gains_high": round(float(gain_high), 4),
            "patch_holds_plate": round(float(np.mean([one.held for one in judged])), 4) if place == POLICY else "",
        })  # fmt: skip
    return found


def main() -> None:
    """Judge, print, and write the CSV with ``--write``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--checkpoint", type=Path, nargs="+", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--logits", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, judged = list_clips(options.data, "val"), []
    for path in options.checkpoint:
        trained = load_trained(path)
        judged.append(judge(trained.model, serving_plan(trained.recipe), data))
    rows = table(options.name, judged)
    for row in rows:
        print(row)
    if options.logits:
        units = np.arange(len(judged[0].labels)).astype(str)
        np.savez_compressed(options.logits, logits=judged[0].logits[POLICY], truth=judged[0].labels, units=units)
    if options.write:
        print(write_results("evidence-places", options.name, rows))


if __name__ == "__main__":
    main()
