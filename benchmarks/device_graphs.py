"""Measures each graph on a GPU at several batch sizes, and the difference of its logits from the processor's fp32.

    python -m benchmarks.actnet DIR --precisions fp16
    python -m benchmarks.device_graphs --bundle DIR [--precisions fp32 fp16] [--batches 1 8 32]

Times include the copies of frames to the GPU and of states back to this process's memory. The run takes a minute;
`benchmarks.backends --device cuda` measures the rest, compared with torch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from adafocus.bundle.onnx_runtime import ort
from adafocus.bundle.store import Bundle, load_bundle
from adafocus.export.example_frames import texture
from adafocus.service.cpu import usable_cores
from adafocus.service.engine.runners.base import Runner
from adafocus.service.engine.runners.selection import RunnerOptions, open_runner
from benchmarks.machine import graphics, processor, write_results
from benchmarks.shipped_model import all_steps

COMPARED = (8, 4)
"""Videos, and steps of each, that are compared."""


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--backend", default="onnxruntime-cuda")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "fp16"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=0.25, help="each batch size is run for")
    options = parser.parse_args()
    bundle, device = load_bundle(options.bundle), graphics() or processor()
    sizes = tuple(sorted({*options.batches, COMPARED[0]}))
    exact = logits(open_runner(bundle, RunnerOptions(usable_cores(), sizes, "onnxruntime-cpu", "fp32")), bundle)
    rows: list[dict[str, object]] = []
    for precision in options.precisions:
        begun = time.perf_counter()
        runner = open_runner(bundle, RunnerOptions(usable_cores(), sizes, options.backend, precision))
        runner.warm_up()
        ready = time.perf_counter() - begun
        apart = logits(runner, bundle) - exact
        for batch in options.batches:
            glance_ms, focus_ms = step_ms(runner, bundle, batch, options.seconds)
            rows.append(
                {
                    "device": device,
                    "model": bundle.manifest.name,
                    "backend": options.backend,
                    "precision": precision,
                    "batch": batch,
                    "glance_ms": round(glance_ms, 3),
                    "focus_ms": round(focus_ms, 3),
                    "frames_per_s": round(batch * 1e3 / (glance_ms + focus_ms)),
                    "logits_std": round(float(exact.std()), 3),
                    "logits_max_apart": float(f"{np.abs(apart).max():.2g}"),
                    "logits_rms_apart": float(f"{np.sqrt(np.square(apart).mean()):.2g}"),
                    "ready_s": round(ready, 1),
                    "onnxruntime": ort.__version__,
                    "note": "",
                }
            )
            print(rows[-1], flush=True)
        runner.close()
    print(write_results("device-graphs", f"{bundle.manifest.name}_{options.backend}", rows, device))


def logits(runner: Runner, bundle: Bundle) -> np.ndarray:
    """Logits of the first steps of a few videos of textures."""
    videos, steps = COMPARED
    crop = bundle.manifest.geometry.crop
    return all_steps(np.stack([texture(steps, crop, seed=video) for video in range(videos)]), runner)


def step_ms(runner: Runner, bundle: Bundle, batch: int, seconds: float) -> tuple[float, float]:
    """Median milliseconds of a glance and of a focus of a whole batch."""
    crop = bundle.manifest.geometry.crop
    frames = np.random.default_rng(0).integers(0, 256, (batch, crop, crop, 3), dtype=np.uint8)
    policy = np.zeros((batch, runner.widths.policy), np.float32)
    pooled, step = np.zeros((batch, runner.widths.pooled), np.float32), np.zeros(batch, np.int64)
    times: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        begun = time.perf_counter()
        glance = runner.glance(frames, policy)
        between = time.perf_counter()
        runner.focus(frames, glance.patch_centre, glance.feature, pooled, step)
        times.append((between - begun, time.perf_counter() - between))
    glances, focuses = zip(*times[1:], strict=True)
    return statistics.median(glances) * 1e3, statistics.median(focuses) * 1e3


if __name__ == "__main__":
    main()
