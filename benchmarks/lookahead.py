"""What it could save, at most, to look at several frames of one video in one batch (look-ahead).

A video alone runs its steps at batch 1. Glance, patch and focus of several frames could run as one batch, if the graphs
were cut apart at the policy's recurrence; frames beyond the exit would then be computed in vain. The bound: a step of k
frames of one video cannot be faster than one of k videos, in which even the recurrence runs side by side. So the graphs
as they are, at batch 1, k, 1, k …, say what a video would take that looks ahead by k: its exit step, rounded up to a
multiple of k. Exit steps: none before the last (``full``), and those of the default point's calibration; a bundle
without a calibration gets steps with a mean of 6 of 16.

Run ``python -m benchmarks.lookahead [--bundle FOLDER ...] [--rounds 60]``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.machine import write_results
from benchmarks.refill import exit_steps, make_frames
from benchmarks.service_process import ROOT
from bundle.manifest import Manifest
from bundle.store import Bundle, load_bundle
from service.cores import usable_cores
from service.engine.runners.base import Runner
from service.engine.runners.choose import RunnerOptions, graph_threads, open_runner

AHEAD = (1, 2, 4)
MADE_UP = "mean 6 of 16"


def step_seconds(runner: Runner, frames: np.ndarray) -> float:
    """Glance and focus of these frames, as rows of one batch."""
    rows = len(frames)
    begun = time.perf_counter()
    glance = runner.glance(frames, np.zeros((rows, runner.widths.policy), dtype=np.float32))
    runner.focus(
        frames,
        glance.patch_centre,
        glance.feature,
        np.zeros((rows, runner.widths.pooled), dtype=np.float32),
        np.zeros(rows, dtype=np.int64),
    )
    return time.perf_counter() - begun


def shares(manifest: Manifest, point: str) -> Sequence[float]:
    """The share of videos that leave after each step."""
    if point == "full":
        return [0.0] * (manifest.steps - 1) + [1.0]
    known = None if point == MADE_UP else manifest.point(point).exit_shares
    if known is not None:
        return known
    leaving = exit_steps(1000, manifest.steps, 6 * manifest.steps / 16, seed=0)
    return [leaving.count(step + 1) / len(leaving) for step in range(manifest.steps)]


def measure(bundle: Bundle, rounds: int) -> list[dict[str, object]]:
    """Rows of the CSV for one bundle."""
    manifest = bundle.manifest
    threads = graph_threads(manifest, usable_cores())
    runner = open_runner(bundle, RunnerOptions(threads, AHEAD, backend="onnxruntime-cpu", precision="fp32"))
    runner.warm_up()
    frame = make_frames(bundle)[0]
    batches = {ahead: np.stack([frame] * ahead) for ahead in AHEAD}
    seconds: dict[int, list[float]] = {ahead: [] for ahead in AHEAD}
    for _ in range(rounds):
        for ahead, frames in batches.items():
            seconds[ahead].append(step_seconds(runner, frames))
    runner.close()
    taken = {ahead: statistics.median(each) for ahead, each in seconds.items()}
    rows: list[dict[str, object]] = []
    default = manifest.default_point
    points = ["full", default if default != "full" else MADE_UP]
    for point in points:
        left = shares(manifest, point)
        base = sum(share * step * taken[1] for step, share in enumerate(left, start=1))
        for ahead in AHEAD:
            runs = sum(share * -(-step // ahead) for step, share in enumerate(left, start=1))
            looked = sum(share * step for step, share in enumerate(left, start=1))
            rows.append(
                {
                    "model": f"{manifest.name}-{manifest.version}",
                    "exit": point,
                    "ahead": ahead,
                    "ms_per_run": round(taken[ahead] * 1e3, 3),
                    "ms_per_frame": round(taken[ahead] / ahead * 1e3, 3),
                    "mean_exit_step": round(looked, 2),
                    "frames_computed": round(min(runs * ahead, manifest.steps), 2),
                    "graphs_ms_per_video": round(runs * taken[ahead] * 1e3, 2),
                    "of_one_by_one": round(runs * taken[ahead] / base, 3),
                    "threads": threads,
                    "rounds": rounds,
                }
            )
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--bundle", type=Path, nargs="+", default=[ROOT / "bundles" / "tank-state"])
    ask = parser.parse_args()
    rows = [row for folder in ask.bundle for row in measure(load_bundle(folder), ask.rounds)]
    print(write_results("lookahead", "onnxruntime-cpu", rows))


if __name__ == "__main__":
    main()
