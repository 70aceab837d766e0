"""Evaluates other configurations (frames, sizes, order, width, no focus) on folds of the training split.

The validation split is not used: each clip of the training split is evaluated by the one of five models that was not
trained on it. The table has the likelihood because accuracy on so few clips hardly distinguishes configurations.

    python -m benchmarks.evidence.sweep DATA --out runs/sweep [--only NAME …] [--seed 0]

Finished results are kept in the folder and in the CSV. `benchmarks.evidence.report` makes the table.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from adafocus.training.data.clips import ClipSet
from adafocus.training.data.manifests import list_clips
from adafocus.training.evaluate.metrics import accuracy, macro_f1, negative_log_likelihood
from adafocus.training.recipe import Recipe, parse_recipe
from adafocus.training.recipe_files import load_recipe
from benchmarks.evidence.arms import ARMS, Arm, multiply_adds
from benchmarks.evidence.cross_validation import FOLDS, Judged, fold
from benchmarks.evidence.results import MEGA
from benchmarks.evidence.study import arm_recipe
from benchmarks.machine import Row, with_earlier, write_results

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "4 frames": {"steps": 4},
    "12 frames": {"steps": 12},
    "visited in time order": {"frame_order": "sequential"},
    "glance at 48, 11 frames": {"steps": 11, "glance": {"input_size": 48}},
    "glance at 80, 5 frames": {"steps": 5, "glance": {"input_size": 80}},
    "patch of 56, 6 frames": {"steps": 6, "patch_size": 56},
    "frame of 128, patch of 40": {"frame_size": 128},
    "frame of 128, patch of 56, 6 frames": {"steps": 6, "frame_size": 128, "patch_size": 56},
    "half as wide again, 4 frames": {"steps": 4, "glance": {"width": 0.375}, "focus": {"width": 0.375}},
}
"""Changes to the shipped recipe's model."""

NO_FOCUS = "no focus, glance at its price"


def changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with another model. The square from which crops are cut grows with the frame."""
    content = recipe.to_dict()
    model = content["model"]
    parts = {name: {**model[name], **part} for name, part in changes.items() if isinstance(part, dict)}
    content["model"] = {**model, **changes, **parts}
    frame, grown = model["frame_size"], content["model"]["frame_size"]
    for key in ("resize", "source_size"):
        content["data"][key] = content["data"][key] * grown // frame
    return parse_recipe(content)


def judge(name: str, data: ClipSet, recipe: Recipe, out: Path) -> Row:
    """Evaluate one configuration on all folds."""
    arm = ARMS["none"] if name == NO_FOCUS else Arm()
    own = arm_recipe(arm, changed(recipe, CONFIGURATIONS.get(name, {})), len(data.labels))
    folder = out / f"{name.replace(' ', '-').replace(',', '')}-{recipe.seed}"
    parts = [fold(data, own, number, folder, out / "cache", arm.method(arm.phases[0])) for number in range(FOLDS)]
    logits, labels = (np.concatenate([getattr(part, field) for part in parts]) for field in Judged._fields[1:])
    right = [accuracy(step, labels) for step in logits.argmax(axis=2).T]
    flops = multiply_adds(arm.build(own.model_config(len(data.labels))))
    return {
        "data": data.source.get("name", "clips"),
        "configuration": name,
        "seed": recipe.seed,
        "frames": own.model["steps"],
        "mflops_per_video": round(flops * own.model["steps"] / MEGA, 3),
        "mflops_per_step": round(flops / MEGA, 3),
        "epochs": own.optimiser.epochs,
        "clips": len(labels),
        "accuracy": round(right[-1], 4),
        "macro_f1": round(macro_f1(logits[:, -1].argmax(axis=1), labels, len(data.labels)), 4),
        "log_loss": round(negative_log_likelihood(logits[:, -1:], labels), 4),
        "accuracy_first_step": round(right[0], 4),
    }


def main() -> None:
    """Evaluate all configurations."""
    names = [*CONFIGURATIONS, NO_FOCUS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--config", default="tank_state")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--only", nargs="+", default=names, choices=names)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = list_clips(options.data, "train")
    base = load_recipe(options.config).with_options(holdout=1 / FOLDS, epochs=options.epochs)
    recipe = replace(base, seed=options.seed)
    for name in options.only:
        row = judge(name, data, recipe, options.out)
        rows = with_earlier("evidence-sweep", [row], ("data", "configuration", "seed"))
        print(write_results("evidence-sweep", str(row["data"]), rows))


if __name__ == "__main__":
    main()
