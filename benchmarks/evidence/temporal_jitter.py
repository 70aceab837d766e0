"""Measures the effect of the temporal jitter: one offset for the whole clip, as it was, against one for each segment.

    python -m benchmarks.evidence.temporal_jitter ../shared/datasets/tank_state --out runs/jitter

The clips of the training split are cut into three folds by camera (`--group-by`): no camera is both trained on and
judged. Clips of the validation split that show a camera of the training clips are judged, too. Arms take turns, seed by
seed and fold by fold. What is done is kept, in the folder and in the CSV, and what a CSV lacks is added to it.
`benchmarks.evidence.report` makes the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from adafocus.model.checkpoint import read_checkpoint
from adafocus.training.data.augment import Jitter, jitter_per_segment
from adafocus.training.data.clips import ClipSet, hold_out
from adafocus.training.data.crop_plan import serving_plan
from adafocus.training.data.crops import decode_all
from adafocus.training.data.manifests import list_clips
from adafocus.training.evaluate.metrics import accuracy, macro_f1, negative_log_likelihood
from adafocus.training.evaluate.report import labels_of, predict
from adafocus.training.optimise.objective import Method
from adafocus.training.recipe import Recipe
from adafocus.training.recipe_files import load_recipe
from adafocus.training.run.train import train
from benchmarks.evidence.cross_validation import grouped
from benchmarks.machine import Row, with_earlier, write_results

FOLDS = 3
SPLITS = ("train", "val")


def one_offset(random: np.random.Generator, segments: int, candidates: int) -> npt.NDArray[np.int64]:
    """The jitter as it was: every segment shows the same one of its candidates."""
    return np.full(segments, random.integers(candidates))


ARMS: dict[str, tuple[Jitter, int]] = {
    "one offset, 3 moments": (one_offset, 3),
    "per segment, 31 moments": (jitter_per_segment, 31),  # nearly every frame of a segment of these clips
    "per segment, 3 moments": (jitter_per_segment, 3),
}
"""How moments are drawn, and how many of each segment are kept."""


def judge(name: str, number: int, data: ClipSet, other: ClipSet, recipe: Recipe, out: Path) -> Row:
    """Train one arm without a fold, and judge it on that fold, and on other clips of the cameras that it has seen."""
    jitter, candidates = ARMS[name]
    own = replace(recipe, fold=number, data=replace(recipe.data, candidates=candidates))
    folder, method = out / f"{name.replace(' ', '-').replace(',', '')}-{recipe.seed}", Method(jitter=jitter)
    done = train(data, own, folder / f"fold{number}", out / "cache", print, device="cpu", method=method)
    trained, aside = hold_out(data, FOLDS, number)
    groups, seen = {clip.group for clip in trained.clips}, {clip.identity for clip in trained.clips}
    known = other.only(clip for clip in other.clips if clip.group in groups and clip.identity not in seen)
    model = method.model(own.model_config(len(data.labels)))
    model.load_state_dict(read_checkpoint(done.checkpoint).state)
    found: dict[str, object] = {}
    for prefix, clips in (("", aside), ("known_", known)):
        crops = decode_all(clips, serving_plan(own), out / "cache")
        logits, labels = predict(model, crops), labels_of(crops.data)
        predicted = logits[:, -1].argmax(axis=1)
        found |= {
            f"{prefix}clips": len(labels),
            f"{prefix}accuracy": round(accuracy(predicted, labels), 4),
            f"{prefix}macro_f1": round(macro_f1(predicted, labels, len(data.labels)), 4),
            f"{prefix}log_loss": round(negative_log_likelihood(logits[:, -1:], labels), 4),
        }
    return {
        "data": data.source.get("name", "clips"),
        "jitter": name,
        "seed": recipe.seed,
        "fold": number,
        "groups": len({clip.group for clip in aside.clips}),
        "frames": own.model["steps"],
        "epochs": own.optimiser.epochs,
        **found,
        "training_loss": round(done.history[-1]["loss"], 4),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and evaluate every arm that has no result yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--config", default="tank_state")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=4, help="frames of each clip, instead of the recipe's")
    parser.add_argument("--precision", help="instead of the recipe's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)))
    parser.add_argument("--only", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--group-by", nargs="+", default=["location", "camera_id"], metavar="FIELD")
    options = parser.parse_args(arguments)
    data, other = (grouped(list_clips(options.data, split), options.data, options.group_by) for split in SPLITS)
    base = load_recipe(options.config).with_options(
        holdout=1 / FOLDS, epochs=options.epochs, precision=options.precision
    )
    base = replace(base, model={**base.model, "steps": options.steps})
    for fold in options.folds:
        for seed in options.seeds:
            for name in options.only:
                row = judge(name, fold, data, other, replace(base, seed=seed), options.out)
                rows = with_earlier("evidence-jitter", [row], ("data", "jitter", "seed", "fold"))
                print(write_results("evidence-jitter", str(row["data"]), rows))


if __name__ == "__main__":
    main()
