"""The exported graphs, step by step as they serve, against the plain torch forward of the same model and video.

Both run all 16 frames of one video at batch 1 in fp32 with the same number of threads, weights from the parity recipe.
A B A B; the ratio is the median of the pairs'.

Run ``python -m benchmarks.against_torch BUNDLE [--rounds 10]`` with a bundle of ``benchmarks.recipe_bundle``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import write_results
from bundle.store import load_bundle
from model.adafocus import AdaFocus
from service.cores import usable_cores
from service.engine.runners.base import Runner
from service.engine.runners.choose import RunnerOptions, open_runner
from tests.parity import authors


def by_steps(runner: Runner, frames: np.ndarray) -> None:
    """All steps of one video, as the engine runs them: ``frames uint8 [T, H, W, 3]``."""
    policy = np.zeros((1, runner.widths.policy), dtype=np.float32)
    pooled = np.zeros((1, runner.widths.pooled), dtype=np.float32)
    for step, frame in enumerate(frames):
        glance = runner.glance(frame[None], policy)
        focus = runner.focus(frame[None], glance.patch_centre, glance.feature, pooled, np.array([step], dtype=np.int64))
        policy, pooled = glance.policy_state, focus.pooled_state


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--backend", default="onnxruntime-cpu")
    ask = parser.parse_args()
    threads = usable_cores()
    torch.set_num_threads(threads)
    runner = open_runner(
        load_bundle(ask.bundle), RunnerOptions(backend=ask.backend, threads=threads, batch_sizes=(1,), precision="fp32")
    )
    runner.warm_up()
    with tempfile.TemporaryDirectory() as folder:
        model = authors.load("act_mbv2_p128", authors.FRAME_CONFIGS["act_mbv2_p128"], Path(folder)).eval()
    if not isinstance(model, AdaFocus):
        raise TypeError("the recipe is of a frame model")
    frames = np.random.default_rng(0).integers(0, 256, (16, 224, 224, 3), dtype=np.uint8)
    clip = torch.randn(1, 16, 3, 224, 224)
    ours, theirs = [], []
    with torch.inference_mode():
        for _ in range(ask.rounds + 1):
            begun = time.perf_counter()
            by_steps(runner, frames)
            between = time.perf_counter()
            model(clip)
            theirs.append(time.perf_counter() - between)
            ours.append(between - begun)
    ours, theirs = ours[1:], theirs[1:]
    row = {
        "model": "actnet_mbv2_p128",
        "backend": ask.backend,
        "threads": threads,
        "steps_ms": round(statistics.median(ours) * 1e3, 1),
        "torch_forward_ms": round(statistics.median(theirs) * 1e3, 1),
        "ratio": round(statistics.median(b / a for a, b in zip(ours, theirs, strict=True)), 2),
        "rounds": ask.rounds,
    }
    print(row)
    print(write_results("against_torch", ask.backend, [row]))


if __name__ == "__main__":
    main()
