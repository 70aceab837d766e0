"""Compares the arms of the study of ``sky``: tables by subset and by fold, and curves of accuracy against compute.

    python -m benchmarks.evidence.sky_claim DATA MAPS RUNS [--recipe RUNS] [--write]

Reads what `benchmarks.evidence.sky_folds` kept: of arms that were trained alike, and of the method as the recipe of the
shipped model trains it now. Every clip is judged by networks that saw no clip of its session. The
rate of an arm in a fold is the one that is best in the other folds with the first seed, so no clip chooses how it is
judged. Intervals come from a bootstrap over sessions, in which arms are paired: 95 %. Those of the gains are given over
clips, too, because one session holds three clips of ten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from adafocus.model import build
from adafocus.model.adafocus import AdaFocus
from adafocus.model.config import BackboneConfig, ModelConfig
from adafocus.model.flops import step_flops
from adafocus.training.evaluate.exit_curve import exit_curve
from adafocus.video.sampler import visiting_order
from benchmarks.evidence.sky import SUBSETS, macro_f1
from benchmarks.evidence.sky_study import FOLDS, Study, study_options
from benchmarks.machine import write_results

RESAMPLES = 10_000
SHOWN = ("method", "box", "middle", "glance128", "glance256", "tsm256", "full512", "full512at2")
"""The arms. ``box`` is the method with its patches on the true box."""

AT_ONCE = ("tsm256",)
"""Arms whose frames see each other, so that they answer once, after the last one."""

RECIPE = {"recipe": "method", "recipe box": "box"}
"""The arms of the second folder, and their names there."""

FRAMES = {"full512at2": ("full512", 2)}
"""Arms that are another one's answers after so many frames: those that cost about as much as the method."""

Steps = npt.NDArray[np.float32]
"""[clips, steps, classes]: the logits after each step."""

Runs = Mapping[tuple[str, str, str], Path]
"""Files of answers by fold, seed and rate, as their names have them."""


@dataclass(frozen=True)
class Arm:
    """What an arm answered.

    Attributes:
        steps: by seed, its logits after each step for every clip; NaN in folds that it was not run in. A seed that was
            run in fewer folds than another is left out.
        rates: chosen in each fold of the first seed.
    """

    steps: dict[int, Steps]
    rates: list[float]

    def answers(self, seed: int) -> npt.NDArray[np.int64]:
        """Return the class of every clip after the last step."""
        found: npt.NDArray[np.int64] = self.steps[seed][:, -1].argmax(axis=1)
        return found

    @property
    def frames(self) -> int:
        """Return the number of frames that it sees of a clip."""
        count: int = next(iter(self.steps.values())).shape[1]
        return count

    @property
    def judged(self) -> npt.NDArray[np.bool_]:
        """Which clips it was judged on."""
        seen: npt.NDArray[np.bool_] = ~np.isnan(next(iter(self.steps.values()))[:, 0, 0])
        return seen


def after_each_step(logits: Steps) -> Steps:
    """Return what the shipped classifier makes of frames in time order: the mean of those so far."""
    visited = logits[:, list(visiting_order(logits.shape[1], "coarse_to_fine"))]
    seen = np.arange(1, visited.shape[1] + 1, dtype=np.float32)
    steps: Steps = (visited.cumsum(axis=1) / seen[:, None]).astype(np.float32)
    return steps


def read_arm(study: Study, runs: Path, arm: str) -> Arm | None:
    """Return an arm's answers, with the rate of each fold chosen by the others; None if it was not run at all."""
    if arm in FRAMES:
        name, frames = FRAMES[arm]
        longer = read_arm(study, runs, name)
        return longer and Arm({seed: steps[:, :frames] for seed, steps in longer.steps.items()}, longer.rates)
    kept, name = ("box", "method") if arm == "box" else ("logits", arm)
    files = runs_of(runs, name)
    if not files:
        return None
    seeds = sorted({int(key[1]) for key in files})
    chosen = chosen_rates(files, study.labels)
    steps = {seed: steps_at(study, files, chosen, seed, kept) for seed in seeds}
    missing = {seed: int(np.isnan(whole[:, 0, 0]).sum()) for seed, whole in steps.items()}
    fewest = min(missing.values())
    whole_seeds = {seed: whole for seed, whole in steps.items() if missing[seed] == fewest}
    return Arm(whole_seeds, [float(rate) for rate in chosen.values()])


def runs_of(runs: Path, name: str) -> Runs:
    """Return the files of answers that `benchmarks.evidence.sky_folds` kept of an arm."""
    return {(fold, seed, rate): file for file in runs.glob(f"{name}-*.npz")
            for fold, seed, rate in [file.stem.split("-", 3)[1:]]}  # fmt: skip


def steps_at(study: Study, files: Runs, rates: Mapping[int, str], seed: int, kept: str = "logits") -> Steps:
    """Return what a seed answered in each fold at that fold's rate; NaN in folds that it was not run in."""
    classes = len(study.data.labels)
    whole = np.full((len(study.labels), study.recipe.model_config(classes).steps, classes), np.nan, np.float32)
    for fold, rate in rates.items():
        file = files.get((str(fold), str(seed), rate))
        if file is not None:
            found = np.load(file)
            whole[found["clips"]] = after_each_step(found[kept])
    return whole


def chosen_rates(files: Runs, labels: npt.NDArray[np.int64]) -> dict[int, str]:
    """Return the rate of each fold: of those that the first seed tried there, the best one in the other folds."""
    first = min(int(key[1]) for key in files)
    own = {(int(fold), rate): file for (fold, seed, rate), file in files.items() if int(seed) == first}
    chosen = {}
    for fold in sorted({key[0] for key in own}):
        there = sorted(rate for other, rate in own if other == fold)
        others = [other for other in range(FOLDS) if other != fold and all((other, rate) in own for rate in there)]
        tried = {rate: [own[other, rate] for other in others] for rate in there}
        chosen[fold] = max(there, key=lambda rate: _share_right(tried[rate], labels))
    return chosen


def _share_right(files: Sequence[Path], labels: npt.NDArray[np.int64]) -> float:
    """Share of the clips in files of answers that are right."""
    right = []
    for file in files:
        found = np.load(file)
        right.append(after_each_step(found["logits"])[:, -1].argmax(axis=1) == labels[found["clips"]])
    return float(np.concatenate(right).mean()) if right else 0.0


def gflops_per_step(study: Study) -> dict[str, float]:
    """Return the cost of one step of every arm; the patch in the middle needs no glance."""
    config = study.recipe.model_config(len(study.data.labels))
    with torch.device("meta"):
        model = build(config)
    assert isinstance(model, AdaFocus)  # noqa: S101 # the recipe's kind is frame
    count = step_flops(model)
    alone = {size: _whole_network(config.focus, size) for size in (128, 256, 512)}
    focus = count.breakdown["focus network"]
    flops = {
        "method": count.per_step,
        "box": count.per_step,
        "middle": focus,
        "glance128": alone[128],
        "glance256": alone[256],
        "tsm256": alone[256],
        "full512": alone[512],
        "full512at2": alone[512],
    }
    flops |= dict.fromkeys(RECIPE, count.per_step)
    return {arm: cost / 1e9 for arm, cost in flops.items()}


def _whole_network(network: BackboneConfig, size: int) -> int:
    """Multiply-adds of a network on a square of this size: of the focus of a model whose patch is the frame."""
    alone = BackboneConfig(network.name, network.width)
    with torch.device("meta"):
        model = build(ModelConfig(2, frame_size=size, patch_size=size, glance=alone, focus=alone, mlp_width=8))
    return step_flops(model).breakdown["focus network"]


def table(study: Study, arms: Mapping[str, Arm], holds: npt.NDArray[np.float64]) -> list[dict[str, object]]:
    """Return a row for each subset and arm, over the clips that the arm was judged on."""
    random, labels, costs = np.random.default_rng(0), study.labels, gflops_per_step(study)
    names = sorted(set(study.units))
    unit = np.array([names.index(name) for name in study.units])
    drawn = np.stack([np.bincount(random.integers(len(names), size=len(names)), minlength=len(names))
                      for _ in range(RESAMPLES)])  # fmt: skip
    rows: list[dict[str, object]] = []
    for subset in SUBSETS:
        inside = np.array([subset in _subsets_of(item) for item in study.items])
        for name, arm in arms.items():
            own = inside & arm.judged
            if not own.any():
                continue
            right, method = (_right(each, labels) for each in (arm, arms["method"]))
            weights = drawn[:, unit[own]]
            total = np.maximum(1, weights.sum(axis=1))
            low, high = np.percentile(weights @ right[own] / total, [2.5, 97.5])
            gains = (method - right)[own]
            behind = np.percentile(weights @ gains / total, [2.5, 97.5])
            again = gains[random.integers(len(gains), size=(RESAMPLES, len(gains)))].mean(axis=1)
            by_clip = np.percentile(again, [2.5, 97.5])
            f1 = np.mean([macro_f1(labels[own], arm.answers(seed)[own]) for seed in arm.steps])
            rows.append({
                "subset": subset, "arm": name, "clips": int(own.sum()), "seeds": len(arm.steps),
                "gflops": round(arm.frames * costs[name], 3), "accuracy": round(float(right[own].mean()), 4),
                "low": round(float(low), 4), "high": round(float(high), 4),
                "macro_f1": round(float(f1), 4),
                "method_gains": round(float(gains.mean()), 4),
                "gains_low": round(float(behind[0]), 4), "gains_high": round(float(behind[1]), 4),
                "clips_low": round(float(by_clip[0]), 4), "clips_high": round(float(by_clip[1]), 4),
                "patch_holds_thing": round(float(np.nanmean(holds[own])), 4) if name in ("method", "recipe") else "",
            })  # fmt: skip
    return rows


def _subsets_of(item: Mapping[str, str]) -> tuple[str, ...]:
    near = ("close and medium",) if item["distance"] != "distant" else ()
    return ("all", item["sensor"], item["distance"], *near)


def _right(arm: Arm, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Share of the seeds that are right about each clip."""
    share: npt.NDArray[np.float64] = np.mean([arm.answers(seed) == labels for seed in arm.steps], axis=0)
    return share


def by_fold(study: Study, arms: Mapping[str, Arm]) -> list[dict[str, object]]:
    """Return a row for each fold and arm."""
    rows: list[dict[str, object]] = []
    near = np.array([item["distance"] != "distant" for item in study.items])
    for fold in range(FOLDS):
        for name, arm in arms.items():
            own = (study.folds == fold) & arm.judged
            if own.any():
                right = _right(arm, study.labels)
                rows.append({
                    "fold": fold, "arm": name, "clips": int(own.sum()), "accuracy": round(float(right[own].mean()), 4),
                    "close_and_medium": round(float(right[own & near].mean()), 4),
                })  # fmt: skip
    return rows


def by_class(study: Study, arms: Mapping[str, Arm]) -> list[dict[str, object]]:
    """Return a row for each arm and class: how much of it is right, and how much of all clips is said to be it."""
    rows: list[dict[str, object]] = []
    for name, arm in arms.items():
        right, answers = _right(arm, study.labels), np.stack([arm.answers(seed) for seed in arm.steps])
        for number, label in enumerate(study.data.labels):
            own = (study.labels == number) & arm.judged
            rows.append({
                "class": label, "arm": name, "clips": int(own.sum()), "accuracy": round(float(right[own].mean()), 4),
                "said": round(float((answers[:, arm.judged] == number).mean()), 4),
            })  # fmt: skip
    return rows


def curves(study: Study, arms: Mapping[str, Arm]) -> list[dict[str, object]]:
    """Return the accuracy after each step, and with exits over a sweep of budgets, against GFLOPs of a video."""
    rows: list[dict[str, object]] = []
    costs = gflops_per_step(study)
    for name, arm in arms.items():
        own = arm.judged
        if name in FRAMES or not own.all():  # on some folds only it would not compare
            continue
        steps = np.concatenate([whole[own] for whole in arm.steps.values()])  # every seed's answers count alike
        labels = np.tile(study.labels[own], len(arm.steps))
        cost = costs[name]
        for step in range(steps.shape[1] - 1 if name in AT_ONCE else 0, steps.shape[1]):
            right = float((steps[:, step].argmax(axis=1) == labels).mean())
            rows.append(
                {"arm": name, "kind": "steps", "gflops": round((step + 1) * cost, 4), "accuracy": round(right, 4)}
            )
        if name in AT_ONCE:
            continue
        found = {
            (round(point.flops_share * steps.shape[1] * cost, 4), round(float(point.accuracy), 4))
            for point in exit_curve(steps, labels, "max_softmax", np.ones(steps.shape[1], np.float32))
        }
        rows += [{"arm": name, "kind": "exit", "gflops": gflops, "accuracy": right} for gflops, right in sorted(found)]
    return rows


def share_held(study: Study, runs: Path, seeds: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return the share of the seeds whose patch holds the thing, [clips, frames]; NaN where nothing is to be held."""
    holds = np.full((len(seeds), len(study.labels), 8), np.nan)
    for row, seed in enumerate(seeds):
        for file in runs.glob(f"patches-*-{seed}.npz"):
            kept = np.load(file)
            holds[row, kept["clips"]] = kept["holds"]
    share: npt.NDArray[np.float64] = holds.mean(axis=0)
    return share


def main() -> None:
    """Print the tables, and write them with ``--write``."""
    parser = study_options(__doc__, "data", "maps", "runs")
    parser.add_argument("--recipe", type=Path, help="folder of runs of the method with the recipe sky")
    given = parser.parse_args()
    study = Study.open(given.data, given.maps)
    found = {name: read_arm(study, given.runs, name) for name in SHOWN}
    if given.recipe:
        found |= {name: read_arm(study, given.recipe, there) for name, there in RECIPE.items()}
    arms = {name: arm for name, arm in found.items() if arm is not None}
    holds = share_held(study, given.runs, list(arms["method"].steps))
    written = {
        "evidence-sky-claim": table(study, arms, holds),
        "evidence-sky-folds": by_fold(study, arms),
        "evidence-sky-classes": by_class(study, arms),
        "evidence-sky-claim-curve": curves(study, arms),
    }
    for name, rows in written.items():
        for row in rows if name != "evidence-sky-claim-curve" else ():
            print(*row.values(), sep="  ")
        if given.write:
            print(write_results(name, "five-folds", rows))
    print({name: arm.rates for name, arm in arms.items()})


if __name__ == "__main__":
    main()
