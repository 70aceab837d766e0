"""Five-fold cross-validation over all clips of a data set. The model that was not trained on a clip evaluates it.

A validation split with a few clips per class is not very informative about a model. This is more informative, and
reports each camera. Classes are spread evenly over the folds. Byte-identical clips stay together, and so do clips of
one `group` of the manifest or, with `--group-by location camera_id`, clips that agree in these fields.

    python -m benchmarks.evidence.cross_validation ../shared/datasets/tank_state --config tank_state --out runs/cv

Intervals are Wilson's, at 95 %. Clips of one camera resemble each other, so the true intervals are wider.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adafocus.model.checkpoint import read_checkpoint
from adafocus.training.data.clips import ClipSet, hold_out
from adafocus.training.data.crop_plan import serving_plan
from adafocus.training.data.crops import decode_all
from adafocus.training.data.manifests import list_clips
from adafocus.training.evaluate.metrics import Indices, Logits, confusion, f1_per_class, macro_f1
from adafocus.training.evaluate.report import labels_of, predict
from adafocus.training.optimise.objective import ONE_STAGE, Method
from adafocus.training.recipe import Recipe
from adafocus.training.recipe_files import load_recipe
from adafocus.training.run.train import train
from benchmarks.machine import write_results

FOLDS = 5
NORMAL_95 = 1.959964


def wilson(right: int, clips: int) -> tuple[float, float]:
    """The interval of a share at 95 %."""
    if not clips:
        return 0.0, 1.0
    share, square = right / clips, NORMAL_95**2
    middle = (share + square / (2 * clips)) / (1 + square / clips)
    half = NORMAL_95 / (1 + square / clips) * math.sqrt(share * (1 - share) / clips + square / (4 * clips**2))
    return max(0.0, middle - half), min(1.0, middle + half)


class Judged(NamedTuple):
    """Results on a held-out fold: the clips' identities, logits after each step [N, T, classes], true classes [N]."""

    identities: list[str]
    logits: Logits
    labels: Indices


def fold(data: ClipSet, recipe: Recipe, number: int, out: Path, cache: Path, method: Method = ONE_STAGE) -> Judged:
    """Train without a fold, and evaluate on it."""
    outcome = train(data, recipe.with_options(fold=number), out / f"fold{number}", cache, print, None, "cpu", method)
    _, aside = hold_out(data, FOLDS, number)
    crops = decode_all(aside, serving_plan(recipe), cache)
    model = method.model(recipe.model_config(len(data.labels)))
    model.load_state_dict(read_checkpoint(outcome.checkpoint).state)
    return Judged([clip.identity for clip in crops.data.clips], predict(model, crops), labels_of(crops.data))


def cameras(data: Path) -> dict[str, str]:
    """The camera of each clip by its sha256, as the manifest names it."""
    items = json.loads((data / "manifest.json").read_text(encoding="utf-8"))["items"]
    return {item["sha256"]: f"{item['location']} {item['camera_id']}" for item in items}


def grouped(data: ClipSet, folder: Path, fields: Sequence[str]) -> ClipSet:
    """The clips with a group made of these fields of the manifest's items, such as place and camera."""
    items = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["items"]
    group = {item["sha256"]: " ".join(str(item[field]) for field in fields) for item in items}
    return data.only(replace(clip, group=group[clip.identity]) for clip in data.clips)


def rows(where: Sequence[str], predicted: Indices, labels: Indices, classes: int) -> list[dict[str, object]]:
    """Accuracy and macro-F1 over all clips, then camera by camera."""
    found = []
    names = np.array(where)
    for name in ("all", *sorted(set(where))):
        own = np.ones(len(names), bool) if name == "all" else names == name
        right, clips = int((predicted[own] == labels[own]).sum()), int(own.sum())
        low, high = wilson(right, clips)
        found.append(
            {
                "camera": name,
                "clips": clips,
                "right": right,
                "accuracy": round(right / clips, 4),
                "low": round(low, 4),
                "high": round(high, 4),
                "macro_f1": round(macro_f1(predicted[own], labels[own], classes), 4),
            }
        )
    return found


def main() -> None:
    """Train the folds, or some of them. When all are done, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--config", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)))
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--group-by", nargs="+", metavar="FIELD", help="keep clips together that agree in these fields")
    options = parser.parse_args()
    data = list_clips(options.data)
    if options.group_by:
        data = grouped(data, options.data, options.group_by)
    recipe = load_recipe(options.config).with_options(holdout=1 / FOLDS, epochs=options.epochs)
    parts = [fold(data, recipe, number, options.out, options.out / "cache") for number in options.folds]
    if len(parts) < FOLDS:
        return
    camera = cameras(options.data)
    where = [camera[identity] for part in parts for identity in part.identities]
    predicted = np.concatenate([part.logits[:, -1].argmax(axis=1) for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    found = rows(where, predicted, labels, len(data.labels))
    scores = f1_per_class(confusion(predicted, labels, len(data.labels)))
    print({name: round(float(score), 3) for name, score in zip(data.labels, scores, strict=True)})
    print(write_results("evidence-cross-validation", data.source.get("name", "clips"), found))


if __name__ == "__main__":
    main()
