"""Trains every arm of the study on a data set, with several seeds, and stores the results on unseen clips.

    python -m benchmarks.evidence.study DATA --config FILE|NAME --out runs/evidence/NAME [--seeds 0 1 2] [--share 0/2]

DATA has a manifest with the splits ``train`` and ``val``. A fifth of the training split is held out to solve
thresholds; ``val`` is used only for evaluation. Each training resumes where it was stopped, and finished ones are
skipped. ``--share`` divides the work between several processes. `benchmarks.evidence.report` makes the tables.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from adafocus.model import AdaFocus
from adafocus.model.checkpoint import read_checkpoint
from adafocus.training.data.augment import serving_batch
from adafocus.training.data.clips import ClipSet, digest, hold_out
from adafocus.training.data.crop_plan import serving_plan
from adafocus.training.data.crops import Crops, decode_all
from adafocus.training.data.manifests import list_clips
from adafocus.training.evaluate.report import labels_of, predict
from adafocus.training.optimise.initial_weights import InitialWeights, Start
from adafocus.training.optimise.objective import Model
from adafocus.training.recipe import Recipe, parse_recipe
from adafocus.training.recipe_files import load_recipe
from adafocus.training.run.train import train
from benchmarks.evidence.arms import ARMS, Arm, OneNetwork, multiply_adds

SIZE_STEP = 8
"""A glance that has the focus's compute, too, sees a larger frame: by so many pixels at a time."""


@dataclass(frozen=True)
class FromRun(Start):
    """Start from the weights of an earlier phase."""

    checkpoint: Path

    def load(self, model: Model) -> None:
        """All of them."""
        model.load_state_dict(read_checkpoint(self.checkpoint).state)

    def digests(self) -> dict[str, str]:
        """The digest of the earlier phase."""
        return {"all": self.checkpoint.parent.name}


@dataclass(frozen=True)
class Pretrained(Start):
    """Start glance and focus from weights that `benchmarks.evidence.pretrain` made."""

    weights: Path

    def load(self, model: Model) -> None:
        """Load focus and glance. A single network starts with the ability to read, like a focus."""
        states = torch.load(self.weights, weights_only=True)
        glance = "glance"
        if isinstance(model, OneNetwork):
            like_focus = model.config.glance == replace(model.config.focus, input_size=None)
            glance = "focus" if like_focus else "alone"
        model.focus.load_state_dict(states["focus"])
        model.glance.load_state_dict(states[glance])

    def digests(self) -> dict[str, str]:
        """Of the file."""
        return {"glance and focus": digest(self.weights)}


def arm_recipe(arm: Arm, recipe: Recipe, classes: int) -> Recipe:
    """The recipe of an arm: the remedies that are off, and sizes that match the published model's compute."""
    content = recipe.to_dict()
    content["remedies"] = {**content["remedies"], **dict.fromkeys(arm.off, False)}
    if arm.compute == "same":
        return parse_recipe(content)
    budget = multiply_adds(AdaFocus(recipe.model_config(classes)))
    model = content["model"]
    if arm.compute == "large":
        sizes = range(model["glance"]["input_size"], model["frame_size"] + 1, SIZE_STEP)
        if model["glance"].get("shrink") == "area":
            whole = [size for size in sizes if model["frame_size"] % size == 0]
            larger = [_with_glance(content, input_size=size) for size in whole]
            return next(one for one in larger if _cost(one, classes) >= budget)
        larger = [_with_glance(content, input_size=size) for size in sizes]
        return min(larger, key=lambda one: abs(_cost(one, classes) - budget))
    whole = parse_recipe({**content, "model": {**model, "glance": {**model["focus"], "input_size": None}}})
    frames = max(1, round(budget * model["steps"] / _cost(whole, classes)))
    return parse_recipe({**content, "model": {**whole.to_dict()["model"], "steps": int(frames)}})


def _with_glance(content: dict[str, dict[str, object]], **changes: object) -> Recipe:
    glance = {**content["model"]["glance"], **changes}
    return parse_recipe({**content, "model": {**content["model"], "glance": glance}})


def _cost(recipe: Recipe, classes: int) -> int:
    return multiply_adds(OneNetwork(recipe.model_config(classes)))


def run(
    arm: Arm, recipe: Recipe, data: ClipSet, test: ClipSet, out: Path, cache: Path, initial: Start | None = None
) -> None:
    """Run one training and its evaluation; does nothing if the result exists."""
    if (out / "judged.npz").exists():
        return
    recipe = arm_recipe(arm, recipe, len(data.labels))
    initial = initial or InitialWeights()
    seconds, epochs = 0.0, 0
    checkpoint = out
    for phase in arm.phases:
        own = recipe.with_options(epochs=round(recipe.optimiser.epochs * phase.share))
        begun = time.process_time()
        outcome = train(data, own, out / phase.name, cache, print, initial, "cpu", arm.method(phase))
        seconds += time.process_time() - begun
        epochs += own.optimiser.epochs
        checkpoint = outcome.checkpoint
        initial = FromRun(checkpoint)
    model = arm.build(recipe.model_config(len(data.labels)))
    model.load_state_dict(read_checkpoint(checkpoint).state)
    _, aside = hold_out(data, recipe.parts, recipe.fold)
    found = {}
    for name, clips in (("aside", aside), ("val", test)):
        crops = decode_all(clips, serving_plan(recipe), cache)
        torch.manual_seed(recipe.seed)
        found[f"{name}_logits"], found[f"{name}_labels"] = predict(model, crops), labels_of(crops.data)
        found[f"{name}_centres"] = centres(model, crops)
    told = {"flops_per_step": multiply_adds(model), "steps": recipe.model["steps"], "epochs": epochs, "cpu_s": seconds}
    (out / "told.json").write_text(json.dumps(told), encoding="utf-8")
    np.savez_compressed(out / "judged.part.npz", **found)
    (out / "judged.part.npz").replace(out / "judged.npz")


@torch.no_grad()
def centres(model: AdaFocus, crops: Crops) -> np.ndarray:
    """Where the focus looks: float32 [N, T, 2]."""
    model.eval()
    parts = [
        model(serving_batch(crops.pixels[start : start + 16])).patch_centres.numpy()
        for start in range(0, len(crops.pixels), 16)
    ]
    return np.concatenate(parts)


def main() -> None:
    """Run all trainings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--config", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--precision", help="instead of the recipe's")
    parser.add_argument("--weights", type=Path, help="of benchmarks.evidence.pretrain, to start from")
    parser.add_argument("--share", default="0/1", metavar="I/N", help="the I-th of N processes that divide the work")
    options = parser.parse_args()
    mine, of = (int(number) for number in options.share.split("/"))
    data, test = list_clips(options.data, "train"), list_clips(options.data, "val")
    recipe = load_recipe(options.config).with_options(epochs=options.epochs, precision=options.precision)
    initial = Pretrained(options.weights) if options.weights else None
    work = [(name, seed) for seed in options.seeds for name in options.arms]
    for name, seed in work[mine::of]:
        own = replace(recipe, seed=seed)
        run(ARMS[name], own, data, test, options.out / f"{name}-{seed}", options.out / "cache", initial)


if __name__ == "__main__":
    main()
