"""How much of a fast device's rate the engine reaches, measured without the device.

The runner sleeps for the times that a real device took and computes nothing, so the engine's own work and waiting are
all that can keep the rate below the device's. Frames of 224 × 224 pixels lie in memory; every video runs 16 steps,
with states of 1024 and 2048 floats.

``engine_frames_per_s`` counts from the first batch until the last video has started, while there are rows enough to
fill every batch; ``whole_run_frames_per_s`` includes the end of the run, when the batches run empty.
``timer_late_us`` is by how much the sleep that stands for a batch ends late; it is not counted as the device's time if
another batch waits. ``cpu_us_per_frame`` is the processor time of this process over the whole run: engine, clients and
frame sources.

Two further modes: with ``--arrivals RATE`` frames arrive at that many a second, as decoders deliver them; with
``--clients N`` the whole service runs with the simulated device, and N clients send it the sample clips over HTTP.
``--transport process`` runs the engine's core in a process of its own; its processor time is then counted, too.

    python -m benchmarks.simulated_device [--device h200-fp16] [--batch 32] [--rows 64] [--videos 300] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from adafocus.cli.server import spare_the_collector
from adafocus.service.engine.engine import Engine, running
from adafocus.service.engine.process import CoreProcess, open_core_process
from adafocus.service.engine.request import EngineRequest
from adafocus.service.engine.runners.base import Component
from adafocus.service.engine.transport import InProcess
from adafocus.service.frame_memory import FrameSegment, SharedFrame
from benchmarks.machine import write_results
from benchmarks.service_process import SAMPLES, running_service
from benchmarks.simulated_runner import (
    BUNDLE,
    CROP,
    DEVICE_VARIABLE,
    DEVICES,
    STEPS,
    SimulatedRunner,
    make_core,
    simulated_manifest,
)
from benchmarks.throughput import load


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

    def core_lost_a_video(self) -> None:
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


class Arrivals:
    """Frames that decoders deliver at a steady rate, in the order in which they are asked for.

    Args:
        rate: frames a second.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._next = 0.0

    async def one(self) -> None:
        """Wait for the next frame."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[None] = loop.create_future()
        self._next = max(self._next, loop.time()) + 1 / self._rate
        loop.call_at(self._next, lambda: arrived.done() or arrived.set_result(None))
        await arrived


@dataclass
class Frames:
    """A video whose frames lie in the arena as soon as they are wanted."""

    arena: Arena
    arrivals: Arrivals | None = None
    taken: int = 0

    async def next(self) -> SharedFrame | None:
        """The next frame, as soon as it has arrived."""
        if self.arrivals is not None:
            await self.arrivals.one()
        return self._take()

    def next_ready(self) -> SharedFrame | None:
        """The next frame, if it has arrived."""
        return self._take() if self.arrivals is None else None

    def _take(self) -> SharedFrame:
        position, arena = self.taken, self.arena
        self.taken += 1
        place = arena.free.pop()
        return SharedFrame(position, position, None, arena.segment, place, partial(arena.free.append, place))


async def open_core(ask: argparse.Namespace, slots: int) -> tuple[InProcess | CoreProcess, SimulatedRunner | None]:
    """The core, where it was asked for, and its runner if it is in this process."""
    if ask.transport == "process":
        made = partial(make_core, ask.device, ask.batch)
        return await open_core_process(made, slots=slots, max_batch=ask.batch), None
    manifest, runner = make_core(ask.device, ask.batch)
    return InProcess(manifest, runner, slots=slots, max_batch=ask.batch), runner


async def run_engine(ask: argparse.Namespace) -> dict[str, float]:
    """One run of all videos through an engine, so many of them at once."""
    progress, arena = Progress(ask.videos), Arena((STEPS + 2) * ask.rows)
    core, runner = await open_core(ask, ask.rows + 2 * ask.batch)
    engine = Engine(simulated_manifest(), core, slots=ask.rows, max_queue=ask.videos, observer=progress)
    request = EngineRequest(thresholds=(math.inf,) * (STEPS - 1) + (-math.inf,))
    arrivals = Arrivals(ask.arrivals) if ask.arrivals else None
    other = f"/proc/{core.pid}/stat" if isinstance(core, CoreProcess) else None

    async def caller() -> None:
        while progress.started < ask.videos:
            progress.video_started()
            async with engine.admission.slot(None):
                outcome = await engine.classify(request, Frames(arena, arrivals))
            if len(outcome.steps) != STEPS:
                raise RuntimeError(f"a video ran {len(outcome.steps)} steps of {STEPS}")

    spare_the_collector()
    async with running(engine):
        began, worked = time.perf_counter(), time.process_time() + _seconds_of(other)
        await asyncio.gather(*(caller() for _ in range(ask.rows)))
        seconds, worked = time.perf_counter() - began, time.process_time() + _seconds_of(other) - worked
    frames = ask.videos * STEPS
    full_rate = progress.full_rows / progress.full_seconds if progress.full_rows else frames / seconds
    device_rate = DEVICES[ask.device].frames_per_s(ask.batch)
    return {
        "device_frames_per_s": device_rate,
        "engine_frames_per_s": full_rate,
        "share": full_rate / device_rate,
        "cpu_us_per_frame": worked / frames * 1e6,
        "whole_run_frames_per_s": frames / seconds,
        "rows_per_batch": statistics.mean(progress.batches),
        "timer_late_us": 1e6 * statistics.median(runner.late_seconds) if runner and runner.late_seconds else math.nan,
    }


def _seconds_of(stat: str | None) -> float:
    """Processor time of another process so far."""
    if stat is None:
        return 0.0
    fields = Path(stat).read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve_over_http(ask: argparse.Namespace) -> dict[str, object]:
    """The whole service with the simulated device, loaded by clients that each wait for their answer."""
    environment = {
        DEVICE_VARIABLE: ask.device,
        "ADAFOCUS_MAX_BATCH": str(ask.batch),
        "ADAFOCUS_SLOTS": str(ask.rows),
        "ADAFOCUS_ENGINE_PROCESS": str(ask.transport == "process").lower(),
        "ADAFOCUS_DRAIN_GRACE_SECONDS": "0",
    }
    program = (sys.executable, "-m", "benchmarks.simulated_service")
    with running_service("--bundle", str(BUNDLE), program=program, environment=environment) as service:
        load(service.url, SAMPLES, "full", ask.clients, 2 * ask.clients)
        told = load(service.url, SAMPLES, "full", ask.clients, ask.videos)
    what = {"device": ask.device, "transport": ask.transport, "batch": ask.batch, "rows": ask.rows}
    latency = {f"{name}_ms": round(value, 1) for name, value in told["latency_ms"].items()}
    return {**what, "clients": ask.clients, "answers_per_s": round(told["throughput"], 1), **latency}


def main() -> None:
    """Measure, print, and write the CSV if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=DEVICES, default="h200-fp16", help="whose times the runner takes")
    parser.add_argument("--batch", type=int, default=32, help="rows of a batch at most")
    parser.add_argument("--rows", type=int, default=64, help="videos in flight at once")
    parser.add_argument("--videos", type=int, default=300, help="videos in all")
    parser.add_argument("--rounds", type=int, default=3, help="runs; the median of each figure is printed")
    parser.add_argument("--transport", choices=("thread", "process"), default="thread", help="where the core runs")
    parser.add_argument("--arrivals", type=float, help="frames a second that decoders deliver; default: no limit")
    parser.add_argument("--clients", type=int, help="run the whole service, with so many clients")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--sweep", action="store_true", help="measure every device and size, and write the CSV")
    parser.add_argument("--variant", default="engine", help="name of the CSV's variant, with --sweep")
    ask = parser.parse_args()
    if not ask.sweep:
        report = serve_over_http(ask) if ask.clients else measure(ask)
        print(json.dumps(report) if ask.json else "\n".join(f"{name:24}{value}" for name, value in report.items()))
        return
    results = []
    for device in DEVICES:
        for batch, rows in ((8, 16), (32, 64), (128, 256)):
            sizes = {"device": device, "batch": batch, "rows": rows, "videos": max(ask.videos, 4 * rows)}
            results.append(measure(argparse.Namespace(**{**vars(ask), **sizes})))
            print(results[-1], flush=True)
    print(write_results("simulated_device", ask.variant, results))


def measure(ask: argparse.Namespace) -> dict[str, object]:
    """The median of several runs, rounded."""
    runs = [asyncio.run(run_engine(ask)) for _ in range(ask.rounds)]
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    digits = {"share": 3, "cpu_us_per_frame": 1, "rows_per_batch": 1, "timer_late_us": 1}
    rounded = {name: round(value, digits.get(name)) for name, value in medians.items()}
    what = {name: getattr(ask, name) for name in ("device", "batch", "rows", "videos", "rounds", "transport")}
    return {**what, **rounded}


if __name__ == "__main__":
    main()
