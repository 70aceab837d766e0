"""How much of a fast device's rate the engine reaches, measured without the device.

The runner sleeps for the times that a real device took and computes nothing, so the engine's own work and waiting are
all that can keep the rate below the device's. Frames of 224 × 224 pixels lie in memory; every video runs 16 steps,
with states of 1024 and 2048 floats.

``engine_frames_per_s`` counts from the first batch until the last video has started, while there are rows enough to
fill every batch; ``whole_run_frames_per_s`` includes the end of the run, when the batches run empty.
``cpu_us_per_frame`` is the processor time of this process over the whole run: engine, clients and frame sources.

    python -m benchmarks.simulated_device [--device h200-fp16] [--batch 32] [--rows 64] [--videos 300] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.machine import write_results
from benchmarks.simulated_runner import DEVICES, SimulatedRunner
from bundle.manifest import FrameGeometry, Manifest, Sampling
from bundle.store import load_bundle
from service.engine.engine import Engine, running
from service.engine.request import EngineRequest
from service.engine.runners.base import Component
from service.engine.transport import InProcess
from service.frame_memory import FrameSegment, SharedFrame

ROOT = Path(__file__).resolve().parent.parent
STEPS = 16
CROP = 224
CLASSES = 200


@dataclass
class Progress:
    """An engine observer that notes how many rows have run, and when the last video started."""

    videos: int
    rows_run: int = 0
    batches: list[int] = field(default_factory=list)
    began: float = 0.0
    started: int = 0
    full_rows: int = 0
    full_seconds: float = 0.0

    def batch_ran(self, component: Component, rows: int, seconds: float) -> None:
        """See `EngineObserver`."""
        if component == "glance":
            self.rows_run += rows
            self.batches.append(rows)

    def slots_active(self, count: int) -> None:
        """Not measured here."""

    def queue_depth(self, count: int) -> None:
        """Not measured here."""

    def video_started(self) -> None:
        """Note a video that has been given a slot."""
        self.started += 1
        if self.started == 1:
            self.began = time.perf_counter()
        if self.started == self.videos:
            self.full_seconds = time.perf_counter() - self.began
            self.full_rows = self.rows_run


class Arena:
    """Frames of noise in shared memory, as decoders would have written them.

    Args:
        places: frames that lie there at once.
    """

    def __init__(self, places: int) -> None:
        self.segment = FrameSegment.create(places, CROP)
        noise = np.random.default_rng(0)
        for place in range(places):
            self.segment.pixels[place] = noise.integers(0, 256, (CROP, CROP, 3), dtype=np.uint8)
        self.free = list(range(places))


@dataclass
class Frames:
    """A video whose frames lie in the arena as soon as they are wanted."""

    arena: Arena
    taken: int = 0

    async def next(self) -> SharedFrame | None:
        """The next frame, at once."""
        return self.next_ready()

    def next_ready(self) -> SharedFrame | None:
        """See `next`."""
        position, arena = self.taken, self.arena
        self.taken += 1
        place = arena.free.pop()
        return SharedFrame(position, position, None, arena.segment, place, partial(arena.free.append, place))


def simulated_manifest() -> Manifest:
    """A model of 16 steps on frames of 224 pixels, as far as the engine needs to know it."""
    shipped = load_bundle(ROOT / "bundles" / "tank-state").manifest
    return shipped.model_copy(
        update={
            "labels": tuple(f"class {index}" for index in range(CLASSES)),
            "steps": STEPS,
            "geometry": FrameGeometry(resize=256, crop=CROP),
            "sampling": Sampling(frames=STEPS, order=tuple(range(STEPS))),
        }
    )


async def run_engine(device: str, batch: int, rows: int, videos: int) -> dict[str, float]:
    """One run of all videos through an engine, so many of them at once."""
    manifest, progress = simulated_manifest(), Progress(videos)
    runner = SimulatedRunner(DEVICES[device], batch, CLASSES)
    transport = InProcess(manifest, runner, slots=rows + 2 * batch, max_batch=batch)
    engine = Engine(manifest, transport, slots=rows, max_queue=videos, observer=progress)
    arena = Arena(4 * rows)
    request = EngineRequest(thresholds=(math.inf,) * (STEPS - 1) + (-math.inf,))

    async def video(number: int) -> None:
        async with engine.admission.slot(None):
            progress.video_started()
            outcome = await engine.classify(request, Frames(arena))
        if len(outcome.steps) != STEPS:
            raise RuntimeError(f"a video ran {len(outcome.steps)} steps of {STEPS}")

    async with running(engine):
        began, worked = time.perf_counter(), time.process_time()
        await asyncio.gather(*(video(number) for number in range(videos)))
        seconds, worked = time.perf_counter() - began, time.process_time() - worked
    frames = videos * STEPS
    full_rate = progress.full_rows / progress.full_seconds if progress.full_rows else frames / seconds
    device_rate = DEVICES[device].frames_per_s(batch)
    return {
        "device_frames_per_s": device_rate,
        "engine_frames_per_s": full_rate,
        "share": full_rate / device_rate,
        "cpu_us_per_frame": worked / frames * 1e6,
        "whole_run_frames_per_s": frames / seconds,
        "rows_per_batch": statistics.mean(progress.batches),
    }


def main() -> None:
    """Measure, print, and write the CSV if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=DEVICES, default="h200-fp16", help="whose times the runner takes")
    parser.add_argument("--batch", type=int, default=32, help="rows of a batch at most")
    parser.add_argument("--rows", type=int, default=64, help="videos in flight at once")
    parser.add_argument("--videos", type=int, default=300, help="videos in all")
    parser.add_argument("--rounds", type=int, default=3, help="runs; the median of each figure is printed")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--sweep", action="store_true", help="measure every device and size, and write the CSV")
    parser.add_argument("--variant", default="engine", help="name of the CSV's variant, with --sweep")
    ask = parser.parse_args()
    if not ask.sweep:
        report = measure(ask.device, ask.batch, ask.rows, ask.videos, ask.rounds)
        print(json.dumps(report) if ask.json else "\n".join(f"{name:24}{value}" for name, value in report.items()))
        return
    results = []
    for device in DEVICES:
        for batch, rows in ((8, 16), (32, 64), (128, 256)):
            results.append(measure(device, batch, rows, max(ask.videos, 4 * rows), ask.rounds))
            print(results[-1], flush=True)
    print(write_results("simulated_device", ask.variant, results))


def measure(device: str, batch: int, rows: int, videos: int, rounds: int) -> dict[str, object]:
    """The median of several runs, rounded."""
    runs = [asyncio.run(run_engine(device, batch, rows, videos)) for _ in range(rounds)]
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    digits = {"share": 3, "cpu_us_per_frame": 1, "rows_per_batch": 1}
    rounded = {name: round(value, digits.get(name)) for name, value in medians.items()}
    return {"device": device, "batch": batch, "rows": rows, "videos": videos, "rounds": rounds, **rounded}


if __name__ == "__main__":
    main()
