"""Measures where the time of a training goes: decoding with and without a cache, and the stages of an epoch.

    python -m benchmarks.training_time ../shared/datasets/tank_state --config tank_state [--rounds 3]

Epochs in one stage, in both precisions and on one and two threads, and in each of the four stages of the study
(`benchmarks.evidence.arms`) take turns; medians over rounds. `benchmarks.readme` makes the table.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from adafocus.training.data.clips import ClipSet
from adafocus.training.data.crop_plan import training_plan
from adafocus.training.data.crops import decode_all, decode_clip
from adafocus.training.data.manifests import list_clips
from adafocus.training.recipe import Recipe
from adafocus.training.recipe_files import load_recipe
from adafocus.training.run.train import train
from benchmarks.evidence.arms import ONE_STAGE, STAGES, Arm, Phase
from benchmarks.machine import write_results
from benchmarks.training_tables import STAGES as TIMED


@dataclass(frozen=True)
class Variant:
    """An epoch to measure."""

    phase: Phase
    precision: str
    threads: int


VARIANTS = (
    Variant(ONE_STAGE[0], "fp32", 1),
    Variant(ONE_STAGE[0], "fp32", 2),
    Variant(ONE_STAGE[0], "bf16", 1),
    *(Variant(phase, "bf16", 1) for phase in STAGES),
)


def epochs(data: ClipSet, recipe: Recipe, cache: Path, rounds: int) -> Iterator[dict[str, object]]:
    """Seconds of the second epoch of each variant; the first is a warm-up."""
    found: dict[Variant, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for place, variant in enumerate(VARIANTS):
                own = recipe.with_options(epochs=2, precision=variant.precision, threads=variant.threads)
                out = Path(folder) / f"{place}-{number}"
                done = train(data, own, out, cache, device="cpu", method=Arm().method(variant.phase))
                found[variant].append(done.history[-1])
    for variant, seen in found.items():
        named = {"what": f"epoch {variant.phase.name}", "precision": variant.precision, "threads": variant.threads}
        middle = {name: round(statistics.median(row[name] for row in seen), 3) for name in ("train_s", *TIMED)}
        yield named | middle


def decoding(data: ClipSet, recipe: Recipe) -> Iterator[dict[str, object]]:
    """Seconds to decode every clip: one at a time, one per processor at a time, and from the cache."""
    plan = training_plan(recipe)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        ways: dict[str, Callable[[], object]] = {
            "one at a time": lambda: [decode_clip(clip, plan) for clip in data.clips],
            "as many as processors": lambda: decode_all(data, plan, cache),
            "cached": lambda: decode_all(data, plan, cache),
        }
        for name, decode in ways.items():
            begun = time.perf_counter()
            decode()
            yield {"what": f"decode {name}", "train_s": round(time.perf_counter() - begun, 3)}
        size = sum(file.stat().st_size for file in cache.rglob("*.npy"))
        yield {"what": "cache MB", "train_s": round(size / 1e6)}


def main() -> None:
    """Measure, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--config", default="tank_state")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    data, recipe = list_clips(options.data, "train"), replace(load_recipe(options.config), holdout=0.2)
    with tempfile.TemporaryDirectory() as cache:
        rows = [*epochs(data, recipe, Path(cache), options.rounds), *decoding(data, recipe)]
    columns = dict.fromkeys(name for row in rows for name in row)
    rows = [{name: row.get(name, "") for name in columns} for row in rows]
    print(write_results("training-time", data.source.get("name", "clips"), rows))


if __name__ == "__main__":
    main()
