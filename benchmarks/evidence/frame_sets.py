"""Counts the different sets of frames that a clip shows in 1,000 draws: with the jitter as it was, and as it is.

    python -m benchmarks.evidence.frame_sets

Nothing is decoded: a clip is its number of frames. `benchmarks.evidence.report` makes the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from adafocus.training.data.augment import Jitter, jitter_per_segment
from adafocus.training.data.crop_plan import CropPlan, training_plan
from adafocus.training.recipe_files import load_recipe
from benchmarks.evidence.temporal_jitter import one_offset
from benchmarks.machine import Row, write_results

DRAWS = 1000
FRAMES = (24, 100, 254, 3000)
RECIPES = ("actnet_mbv2_p128", "sthv1_tsm_p128", "tank_state", "small")


def kept(plan: CropPlan, frames: int, jitter: Jitter, random: np.random.Generator) -> tuple[int, ...]:
    """Draw from the moments that a plan keeps."""
    moments = plan.wanted(frames)
    drawn = jitter(random, plan.segments, plan.candidates)
    return tuple(moments[place * plan.candidates + int(one)] for place, one in zip(plan.positions, drawn, strict=True))


def distinct(draw: Callable[[np.random.Generator], tuple[int, ...]]) -> tuple[int, int]:
    """Return how many sets, and how many frames, come up in all draws."""
    random = np.random.default_rng(0)
    shown = [draw(random) for _ in range(DRAWS)]
    return len(set(shown)), len({frame for frames in shown for frame in frames})


def rows_of(name: str, frames: int) -> list[Row]:
    """One recipe on clips of one length, before and after."""
    plan = training_plan(load_recipe(name))
    before = replace(plan, candidates=plan.candidates or 2)  # the published recipes kept two

    def drawn_now(random: np.random.Generator) -> tuple[int, ...]:
        if plan.candidates == 0:
            return plan.draw(frames, random)
        return kept(plan, frames, jitter_per_segment, random)

    ways: dict[str, tuple[int, Callable[[np.random.Generator], tuple[int, ...]]]] = {
        "before": (before.candidates, lambda random: kept(before, frames, one_offset, random)),
        "after": (plan.candidates, drawn_now),
    }
    rows: list[Row] = []
    for way, (candidates, draw) in ways.items():
        sets, seen = distinct(draw)
        row = {"recipe": name, "segments": plan.segments, "clip_frames": frames, "jitter": way}
        rows.append({**row, "candidates": candidates, "draws": DRAWS, "distinct_sets": sets, "distinct_frames": seen})
    return rows


def main() -> None:
    """Count, and write the CSV."""
    rows = [row for name in RECIPES for frames in FRAMES for row in rows_of(name, frames)]
    print(write_results("evidence-frame-sets", "all", rows))


if __name__ == "__main__":
    main()
