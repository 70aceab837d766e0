"""Judges checkpoints of the recipe ``sky``, each on the clips of backgrounds that it was not trained on.

    python -m benchmarks.evidence.sky DATA --checkpoint FILE [FILE ...] [--write]

The clips of several checkpoints, such as those of all folds, are counted together. Three places of the patch are
compared with the same networks: the policy's, the middle of the frame, and the true box, which is an upper bound. A
patch hits if it holds the middle of the box. Intervals come from a paired bootstrap over clips, 95 %. DATA holds
``manifest.json`` with ``sensor`` and ``distance`` of each clip, and ``boxes.npz``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from adafocus.model.video_model import VideoModel
from adafocus.training.data.augment import serving_batch
from adafocus.training.data.boxes import Boxes, clip_points, read_boxes
from adafocus.training.data.clips import Clip
from adafocus.training.data.crop_plan import CropPlan, serving_plan
from adafocus.training.data.crops import decode_clip
from adafocus.training.data.manifests import list_clips
from adafocus.training.evaluate.inference import load_trained
from adafocus.training.optimise.losses import near_points
from benchmarks.machine import write_results

ARMS = ("policy", "middle", "box")
SUBSETS = ("all", "close and medium", "close", "medium", "distant", "visible", "infrared")
RESAMPLES = 10_000


@dataclass(frozen=True)
class Verdict:
    """What was found for one clip.

    Attributes:
        clip: which one. sensor, distance: as the manifest has them.
        answers: by arm, the class after the last step.
        hits: by arm, of the frames that show the thing, in how many the patch holds its middle.
        frames: how many frames show the thing.
    """

    clip: Clip
    sensor: str
    distance: str
    answers: dict[str, int]
    hits: dict[str, int]
    frames: int

    def is_in(self, subset: str) -> bool:
        """Whether the clip belongs to a subset of `SUBSETS`."""
        own = ("all", self.sensor, self.distance, *(["close and medium"] if self.distance != "distant" else []))
        return subset in own


def judge(
    model: VideoModel, plan: CropPlan, clips: Sequence[Clip], boxes: dict[str, Boxes]
) -> Iterator[tuple[Clip, dict[str, int], dict[str, int], int]]:
    """Yield of each clip its answers and hits by arm, and the number of frames that show the thing."""
    size, patch = model.config.frame_size, model.config.patch_size
    for clip in clips:
        points = torch.from_numpy(clip_points([clip], boxes, plan)[0])[None]
        frames = serving_batch([decode_clip(clip, plan)])
        shown = ~points.isnan().any(dim=2)
        with torch.no_grad():
            glance = model.glance_clip(frames)
            centres = {"policy": glance.patch_centres, "middle": torch.full_like(glance.patch_centres, 0.5)}
            centres["box"] = near_points(glance.patch_centres, points, patch / size, spread=0.0)
            answers, hits = {}, {}
            for arm in ARMS:
                logits = model.focus_clip(frames, glance.features, centres[arm]).step_logits
                answers[arm] = int(logits[0, -1].argmax())
                corner = centres[arm] * (size - patch)
                inside = ((points * size >= corner) & (points * size <= corner + patch)).all(dim=2)
                hits[arm] = int((inside & shown).sum())
        yield clip, answers, hits, int(shown.sum())


def of_checkpoint(file: Path, folder: Path, most: int) -> Iterator[Verdict]:
    """Yield what a checkpoint finds in the clips of a folder that it has not learned from, at most so many."""
    trained, data = load_trained(file), list_clips(folder)
    unseen = [clip for clip in data.clips if not trained.has_learned_from(clip)][:most]
    items = {item["file"]: item for item in json.loads((folder / "manifest.json").read_text())["items"]}
    boxes = read_boxes(data.boxes) if data.boxes else {}
    judged = judge(trained.model, serving_plan(trained.recipe), unseen, boxes)
    for number, (clip, answers, hits, frames) in enumerate(judged, 1):
        item = items[str(clip.path.relative_to(folder))]
        print(f"{file}: {number} of {len(unseen)}: {clip.path.name} {answers} hits {hits} of {frames}", flush=True)
        yield Verdict(clip, item["sensor"], item["distance"], answers, hits, frames)


def macro_f1(truth: npt.NDArray[np.int64], answers: npt.NDArray[np.int64]) -> float:
    """Mean F1 over the classes that occur in the truth."""
    scores = []
    for label in np.unique(truth):
        right = int(((truth == label) & (answers == label)).sum())
        scores.append(2 * right / (int((truth == label).sum()) + int((answers == label).sum())))
    return float(np.mean(scores))


def summary(verdicts: Sequence[Verdict]) -> list[dict[str, object]]:
    """A row for each subset and arm."""
    random = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for subset in SUBSETS:
        own = [verdict for verdict in verdicts if verdict.is_in(subset)]
        if not own:
            continue
        truth = np.array([verdict.clip.label for verdict in own])
        drawn = random.integers(len(own), size=(RESAMPLES, len(own)))
        learned = np.array([verdict.answers["policy"] for verdict in own]) == truth
        frames = sum(verdict.frames for verdict in own)
        for arm in ARMS:
            answers = np.array([verdict.answers[arm] for verdict in own])
            right = answers == truth
            low, high = np.percentile(right[drawn].mean(axis=1), [2.5, 97.5])
            less = (learned[drawn].mean(axis=1) - right[drawn].mean(axis=1), (2.5, 97.5))
            behind = np.percentile(*less)
            rows.append({
                "subset": subset, "arm": arm, "clips": len(own), "right": int(right.sum()),
                "accuracy": round(float(right.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4),
                "macro_f1": round(macro_f1(truth, answers), 4),
                "policy_gains": round(float(learned.mean() - right.mean()), 4),
                "gains_low": round(float(behind[0]), 4), "gains_high": round(float(behind[1]), 4),
                "patch_holds_thing": round(sum(verdict.hits[arm] for verdict in own) / max(1, frames), 4),
            })  # fmt: skip
    return rows


def main() -> None:
    """Judge, print the table, and write it with ``--write``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--checkpoint", type=Path, nargs="+", required=True)
    parser.add_argument("--most", type=int, default=100_000, help="judge only so many clips of each checkpoint")
    parser.add_argument("--results", default="evidence-sky", help="name of the results that --write makes")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    verdicts = [verdict for file in given.checkpoint for verdict in of_checkpoint(file, given.data, given.most)]
    rows = summary(verdicts)
    for row in rows:
        print(row)
    if given.write:
        print(write_results(given.results, "unseen-backgrounds", rows))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
