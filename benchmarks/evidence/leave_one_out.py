"""Trains without one camera, or place, of a data set at a time, and evaluates on the clips of that one.

This answers what to expect from a camera that the model has never seen. `benchmarks.evidence.cross_validation` answers
what to expect from new clips of known cameras.

    python -m benchmarks.evidence.leave_one_out DATA --config tank_state --out runs/cameras [--group-by location]

A training continues where it was stopped, and a finished one is not repeated. Intervals of one camera are Wilson's, at
95 %, over its clips. The interval over all of them resamples whole cameras, because clips of one resemble each other.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adafocus.model.checkpoint import read_checkpoint
from adafocus.training.data.clips import ClipSet
from adafocus.training.data.crop_plan import serving_plan
from adafocus.training.data.crops import decode_all
from adafocus.training.data.manifests import list_clips
from adafocus.training.evaluate.metrics import Indices
from adafocus.training.evaluate.report import labels_of, predict
from adafocus.training.optimise.objective import ONE_STAGE
from adafocus.training.recipe import Recipe
from adafocus.training.recipe_files import load_recipe
from adafocus.training.run.train import train
from benchmarks.evidence.cross_validation import Judged, grouped, rows
from benchmarks.machine import Row, write_results

CAMERA = ("location", "camera_id")
RESAMPLES = 10_000


def without(data: ClipSet, group: str, recipe: Recipe, out: Path, cache: Path) -> Judged:
    """Train on the clips of all other groups, and evaluate on those of this one."""
    others = data.only(clip for clip in data.clips if clip.group != group)
    own = data.only(clip for clip in data.clips if clip.group == group)
    outcome = train(others, recipe, out / group.replace(" ", "-"), cache, print, None, "cpu")
    crops = decode_all(own, serving_plan(recipe), cache)
    model = ONE_STAGE.model(recipe.model_config(len(data.labels)))
    model.load_state_dict(read_checkpoint(outcome.checkpoint).state)
    return Judged([clip.identity for clip in crops.data.clips], predict(model, crops), labels_of(crops.data))


def group_interval(right: Sequence[int], clips: Sequence[int]) -> tuple[float, float]:
    """The 95 % interval of the share of right answers, when whole groups are drawn again.

    Args:
        right: right answers by group.
        clips: clips by group.
    """
    drawn = np.random.default_rng(0).integers(len(clips), size=(RESAMPLES, len(clips)))
    shares = np.array(right)[drawn].sum(axis=1) / np.array(clips)[drawn].sum(axis=1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def majority(labels: Indices) -> float:
    """The share of the largest class: what a constant answer would reach on these clips."""
    return float(np.bincount(labels).max() / len(labels))


def main() -> None:
    """Train and evaluate group after group; write the CSV when all are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--config", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--precision", help="instead of the recipe's")
    parser.add_argument("--group-by", nargs="+", default=list(CAMERA), metavar="FIELD", help="fields of the manifest")
    parser.add_argument("--only", nargs="+", metavar="GROUP", help="leave out only these, one at a time")
    options = parser.parse_args()
    data = grouped(list_clips(options.data), options.data, options.group_by)
    recipe = load_recipe(options.config).with_options(holdout=0, epochs=options.epochs, precision=options.precision)
    groups = sorted({clip.group for clip in data.clips})
    if unknown := set(options.only or ()) - set(groups):
        parser.error(f"no clips of {', '.join(sorted(unknown))}; there are {', '.join(groups)}")
    groups = sorted(options.only or groups)
    parts = [without(data, group, recipe, options.out, options.out / "cache") for group in groups]
    where = [group for group, part in zip(groups, parts, strict=True) for _ in part.identities]
    predicted = np.concatenate([part.logits[:, -1].argmax(axis=1) for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    every, *each = rows(where, predicted, labels, len(data.labels))
    low, high = group_interval([int(str(row["right"])) for row in each], [len(part.labels) for part in parts])
    every = {**every, "low": round(low, 4), "high": round(high, 4)}
    largest = [majority(labels), *(majority(part.labels) for part in parts)]
    found: list[Row] = [
        {**row, "largest_class": round(share, 4), "epochs": recipe.optimiser.epochs, "seed": recipe.seed}
        for row, share in zip((every, *each), largest, strict=True)
    ]
    print(
        write_results("evidence-leave-one-out", "-".join([data.source.get("name", "clips"), *options.group_by]), found)
    )


if __name__ == "__main__":
    main()
