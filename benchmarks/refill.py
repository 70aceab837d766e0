"""Compares in-flight batching with static batching on the same graphs, videos and exit steps.

Static batching runs a batch of videos until the slowest has exited, then the next batch; rows whose video has exited
continue as padding. The engine refills a row as soon as its video exits. Videos are frames in memory, so no decoding is
timed, and each exits at a step drawn beforehand, so both sides do the same useful work.

With ``--threads 1`` the results are processor time, which equals the time on an idle processor: a graph run then stays
on the calling thread. On a shared machine only these results can be compared.

    python -m benchmarks.refill [--bundle DIR] [--videos 200] [--rounds 5] [--threads 2] [--backend onnxruntime-cuda]
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from adafocus.bundle.store import Bundle, load_bundle
from adafocus.service.cpu import usable_cores
from adafocus.service.engine.engine import Engine, running
from adafocus.service.engine.request import EngineRequest
from adafocus.service.engine.runners.base import Component, Runner
from adafocus.service.engine.runners.graphs import batch_sizes_up_to
from adafocus.service.engine.runners.selection import RunnerOptions, open_runner
from adafocus.service.engine.transport import InProcess
from adafocus.video.decoder import Frame
from benchmarks.machine import graphics, write_results

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Clock:
    """An engine observer that adds up the time spent in graphs."""

    graph_seconds: float = 0.0
    rows: int = 0
    batches: list[int] = field(default_factory=list)

    def batch_ran(self, component: Component, rows: int, seconds: float) -> None:
        """See `EngineObserver`."""
        self.graph_seconds += seconds
        if component == "glance":
            self.rows += rows
            self.batches.append(rows)

    def slots_active(self, count: int) -> None:
        """Not measured here."""

    def queue_depth(self, count: int) -> None:
        """Not measured here."""

    def core_lost_a_video(self) -> None:
        """Not measured here."""


@dataclass
class ProcessorClock:
    """A runner that adds up the processor time of its graph runs.

    Args:
        runner: runs the graphs, on the calling thread.
    """

    runner: Runner
    seconds: float = 0.0
    warmed: float = 0.0

    def warm_up(self) -> None:
        """See `Runner`; its time is not part of serving."""
        begun = time.process_time()
        self.runner.warm_up()
        self.warmed = time.process_time() - begun

    def __getattr__(self, name: str) -> object:
        """As of the runner."""
        return getattr(self.runner, name)

    def glance(self, *inputs: np.ndarray) -> object:
        """See `Runner`."""
        return self._timed(self.runner.glance, inputs)

    def focus(self, *inputs: np.ndarray) -> object:
        """See `Runner`."""
        return self._timed(self.runner.focus, inputs)

    def _timed(self, run: Callable[..., object], inputs: tuple[np.ndarray, ...]) -> object:
        begun = time.thread_time()
        try:
            return run(*inputs)
        finally:
            self.seconds += time.thread_time() - begun


@dataclass
class Frames:
    """A decoded video: the same few frames, repeated."""

    pixels: list[np.ndarray]
    taken: int = 0

    async def next(self) -> Frame | None:
        """The next frame, without waiting."""
        self.taken += 1
        return Frame(self.taken - 1, self.taken - 1, None, self.pixels[self.taken % len(self.pixels)])


def exit_steps(videos: int, steps: int, mean: float, seed: int) -> list[int]:
    """Exit steps from 1 to ``steps`` with that mean. Shares fall or rise geometrically, like the paper's budgets."""
    low, high = 1e-3, 1e3
    for _ in range(100):
        ratio = math.sqrt(low * high)
        shares = ratio ** np.arange(steps, dtype=np.float64)
        reached = float((shares / shares.sum() * np.arange(1, steps + 1)).sum())
        low, high = (ratio, high) if reached < mean else (low, ratio)
    # Evenly spaced quantiles in random order, because the mean of a random sample would vary.
    levels = (np.arange(videos) + 0.5) / videos
    leaving = np.searchsorted(np.cumsum(shares / shares.sum()), levels) + 1
    return [int(step) for step in np.random.default_rng(seed).permutation(np.minimum(leaving, steps))]


async def with_refill(bundle: Bundle, runner: Runner, leaving: list[int], batch: int) -> tuple[float, float, float]:
    """Videos per second through the engine, mean rows of a batch, and the share of time spent outside the graphs."""
    steps, clock = bundle.manifest.steps, Clock()
    transport = InProcess(bundle.manifest, runner, slots=4 * batch, max_batch=batch)
    engine = Engine(bundle.manifest, transport, slots=2 * batch, max_queue=len(leaving), observer=clock)
    pixels = make_frames(bundle)

    async def video(step: int) -> None:
        thresholds = (math.inf,) * (step - 1) + (-math.inf,) * (steps - step + 1)
        async with engine.admission.slot(None):
            await engine.classify(EngineRequest(thresholds), Frames(pixels))

    async with running(engine):
        begun = time.perf_counter()
        await asyncio.gather(*(video(step) for step in leaving))
        seconds = time.perf_counter() - begun
    return len(leaving) / seconds, statistics.mean(clock.batches), 1 - clock.graph_seconds / seconds


def without_refill(bundle: Bundle, runner: Runner, leaving: list[int], batch: int) -> float:
    """Videos per second in static batches."""
    frames = np.stack([make_frames(bundle)[0]] * batch)
    begun = time.perf_counter()
    for first in range(0, len(leaving), batch):
        rows = frames[: len(leaving[first : first + batch])]
        policy = np.zeros((len(rows), runner.widths.policy), dtype=np.float32)
        pooled = np.zeros((len(rows), runner.widths.pooled), dtype=np.float32)
        for step in range(max(leaving[first : first + batch])):
            glance = runner.glance(rows, policy)
            focus = runner.focus(
                rows, glance.patch_centre, glance.feature, pooled, np.full(len(rows), step, dtype=np.int64)
            )
            policy, pooled = glance.policy_state, focus.pooled_state
    return len(leaving) / (time.perf_counter() - begun)


def make_frames(bundle: Bundle) -> list[np.ndarray]:
    """Two frames of noise of the model's size."""
    crop = bundle.manifest.geometry.crop
    return list(np.random.default_rng(0).integers(0, 256, (2, crop, crop, 3), dtype=np.uint8))


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "sky")
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of a graph run")
    parser.add_argument("--backend", choices=("onnxruntime-cpu", "onnxruntime-cuda"), default="onnxruntime-cpu")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), help="default: the fastest of the bundle here")
    parser.add_argument("--means", type=int, nargs="+", default=[4, 6, 8, 10], help="mean exit steps, of 16")
    options = parser.parse_args()
    bundle = load_bundle(options.bundle)
    steps, device = bundle.manifest.steps, graphics() if options.backend == "onnxruntime-cuda" else ""
    rows = []
    for batch in options.batches:
        for sixteenths in options.means:
            mean = sixteenths * steps / 16
            leaving = exit_steps(options.videos, steps, mean, seed=batch)
            static, refill, fill, outside = [], [], [], []
            static_cpu, refill_cpu, outside_cpu = [], [], []
            for _ in range(options.rounds):  # A B A B: both sides see the same noise
                runner = open_runner(
                    bundle,
                    RunnerOptions(options.threads, batch_sizes_up_to(batch), options.backend, options.precision),
                )
                runner.warm_up()
                begun = time.process_time()
                static.append(without_refill(bundle, runner, leaving, batch))
                static_cpu.append(time.process_time() - begun)
                clock, begun = ProcessorClock(runner), time.process_time()
                rate, size, share = asyncio.run(with_refill(bundle, clock, leaving, batch))
                refill_cpu.append(time.process_time() - begun - clock.warmed)
                outside_cpu.append(1 - clock.seconds / refill_cpu[-1])
                refill.append(rate)
                fill.append(size)
                outside.append(share)
            rows.append(
                {
                    "model": f"{bundle.manifest.name}-{bundle.manifest.version}",
                    "precision": runner.precision,
                    "batch": batch,
                    "steps": steps,
                    "mean_exit_step": round(statistics.mean(leaving), 2),
                    "static_videos_per_s": round(statistics.median(static), 1),
                    "refill_videos_per_s": round(statistics.median(refill), 1),
                    "ratio": round(statistics.median(b / a for a, b in zip(static, refill, strict=True)), 2),
                    "mean_rows": round(statistics.median(fill), 2),
                    "share_outside_graphs": round(statistics.median(outside), 3),
                    "threads": options.threads,
                    "static_cpu_ms_per_video": round(statistics.median(static_cpu) / options.videos * 1e3, 2),
                    "refill_cpu_ms_per_video": round(statistics.median(refill_cpu) / options.videos * 1e3, 2),
                    "cpu_ratio": round(
                        statistics.median(a / b for a, b in zip(static_cpu, refill_cpu, strict=True)), 2
                    ),
                    "cpu_share_outside_graphs": round(statistics.median(outside_cpu), 3),
                    "videos": options.videos,
                    "rounds": options.rounds,
                }
            )
            print(rows[-1], flush=True)
            # Write after each, because the run may be interrupted.
            name = "refill-cuda" if device else "refill"
            written = write_results(name, f"{bundle.manifest.name}_{options.backend}", rows, device)
    print(written)


if __name__ == "__main__":
    main()
