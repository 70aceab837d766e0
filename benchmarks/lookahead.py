"""Measures what several steps of one video in one batch (look-ahead) save, compared with torch's plain forward.

All steps of a lone, decoded video run through the engine one, 2, 4 and 8 at a time and, for the bundle with the weights
of the parity fixtures, through the plain forward of the same model in torch. All take turns in one process; medians are
reported. The cost of looking ahead beyond an exit is computed from these: the exit step is rounded up to whole batches,
with the exit steps of the default point's calibration, or a mean of 6 of 16 for a bundle without one.

Run ``python -m benchmarks.lookahead [--bundle FOLDER ...] [--rounds 40]``.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from adafocus.bundle.instructions import has_bf16
from adafocus.bundle.manifest import Manifest, Precision
from adafocus.bundle.store import Bundle, load_bundle
from adafocus.service.cpu import usable_cores
from adafocus.service.engine.engine import Engine, running
from adafocus.service.engine.request import EngineRequest
from adafocus.service.engine.runners.base import Runner
from adafocus.service.engine.runners.selection import RunnerOptions, graph_threads, open_runner
from adafocus.service.engine.transport import InProcess
from benchmarks.actnet import CONFIG
from benchmarks.backend_worker import KeptOpen
from benchmarks.machine import write_results
from benchmarks.refill import Clock, Frames, exit_steps, make_frames
from benchmarks.service_process import ROOT

AHEAD = (1, 2, 4, 8)
MADE_UP = "mean 6 of 16"
WARMING = 2


class Limited(KeptOpen):
    """A runner that looks ahead by at most a given number of steps."""

    def __init__(self, runner: Runner, look_ahead: int) -> None:
        super().__init__(runner)
        self.look_ahead = look_ahead

    def warm_up(self) -> None:
        """Do nothing: the runner is warm."""


def shares(manifest: Manifest, point: str) -> Sequence[float]:
    """The share of videos that exit after each step."""
    known = None if point == MADE_UP else manifest.point(point).exit_shares
    if known is not None:
        return known
    leaving = exit_steps(1000, manifest.steps, 6 * manifest.steps / 16, seed=0)
    return [leaving.count(step + 1) / len(leaving) for step in range(manifest.steps)]


async def seconds_per_video(bundle: Bundle, runner: Runner, look_ahead: int) -> float:
    """Seconds of one video, through all of its steps."""
    steps, pixels = bundle.manifest.steps, make_frames(bundle)
    transport = InProcess(bundle.manifest, Limited(runner, look_ahead), slots=1, max_batch=AHEAD[-1])
    engine = Engine(bundle.manifest, transport, slots=1, max_queue=0, observer=Clock())
    request = EngineRequest((math.inf,) * (steps - 1) + (-math.inf,))
    async with running(engine):
        begun = time.perf_counter()
        await engine.classify(request, Frames(pixels))
        return time.perf_counter() - begun


def torch_forward(threads: int) -> Callable[[], float]:
    """Seconds of the plain forward of the fixtures' model, on one video."""
    import torch

    from tests.parity import authors

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        model = authors.load("act_mbv2_p128", authors.FRAME_CONFIGS["act_mbv2_p128"], Path(folder))
    video = authors.videos(1, 16)

    def run() -> float:
        begun = time.perf_counter()
        with torch.inference_mode():
            model(video)
        return time.perf_counter() - begun

    return run


def variants(manifest: Manifest) -> list[tuple[str, Precision]]:
    """Backends and precisions to be measured."""
    if manifest.name != CONFIG:
        return [("onnxruntime-cpu", "fp32")]
    bf16: list[tuple[str, Precision]] = [("openvino", "bf16")] if has_bf16() else []
    runtimes = ("onnxruntime-cpu", "openvino")
    return [*((name, "fp32") for name in runtimes), *bf16, *((name, "int8") for name in runtimes)]


def measure(bundle: Bundle, rounds: int) -> list[dict[str, object]]:
    """Rows of the CSV for one bundle."""
    manifest = bundle.manifest
    threads = graph_threads(manifest, usable_cores())
    plain = torch_forward(threads) if manifest.name == CONFIG else None
    runners = {}
    for backend, precision in variants(manifest):
        options = RunnerOptions(threads, AHEAD, backend=backend, precision=precision, look_ahead=AHEAD[-1])
        runners[backend, precision] = open_runner(bundle, options)
        runners[backend, precision].warm_up()
    seconds: dict[tuple[str, Precision, int], list[float]] = {}
    torch_seconds: list[float] = []
    for _ in range(WARMING + rounds):
        if plain is not None:
            torch_seconds.append(plain())
        for (backend, precision), runner in runners.items():
            for ahead in AHEAD:
                taken = asyncio.run(seconds_per_video(bundle, runner, ahead))
                seconds.setdefault((backend, precision, ahead), []).append(taken)
    for runner in runners.values():
        runner.close()
    torch_ms = statistics.median(torch_seconds[WARMING:]) * 1e3 if torch_seconds else None
    rows = []
    for backend, precision in runners:
        ms = {ahead: statistics.median(seconds[backend, precision, ahead][WARMING:]) * 1e3 for ahead in AHEAD}
        common = {"model": f"{manifest.name}-{manifest.version}", "backend": backend, "precision": precision}
        rest = {"threads": threads, "rounds": rounds}
        rows += [common | row | rest for row in (*full(ms, manifest.steps, torch_ms), *with_exit(ms, manifest))]
    return rows


def full(ms: dict[int, float], steps: int, torch_ms: float | None) -> list[dict[str, object]]:
    """All steps, as measured."""
    return [
        {
            "exit": "full",
            "ahead": ahead,
            "frames_computed": steps,
            "ms_per_video": round(taken, 2),
            "of_one_by_one": round(taken / ms[1], 3),
            "times_torch": round(torch_ms / taken, 2) if torch_ms else "",
        }
        for ahead, taken in ms.items()
    ]


def with_exit(ms: dict[int, float], manifest: Manifest) -> list[dict[str, object]]:
    """Rows with exits, computed for an engine that looks ahead beyond them."""
    steps, default = manifest.steps, manifest.default_point
    point = default if default != "full" else MADE_UP
    left = shares(manifest, point)
    runs = {ahead: sum(share * -(-step // ahead) for step, share in enumerate(left, start=1)) for ahead in ms}
    expected = {ahead: runs[ahead] * ahead * taken / steps for ahead, taken in ms.items()}
    return [
        {
            "exit": f"as {point}" if point != MADE_UP else point,
            "ahead": ahead,
            "frames_computed": round(min(runs[ahead] * ahead, steps), 2),
            "ms_per_video": round(taken, 2),
            "of_one_by_one": round(taken / expected[1], 3),
            "times_torch": "",
        }
        for ahead, taken in expected.items()
    ]


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--bundle", type=Path, nargs="+", default=[ROOT / "bundles" / "sky"])
    options = parser.parse_args()
    rows = []
    for folder in options.bundle:
        rows += measure(load_bundle(folder), options.rounds)
        for row in rows:
            print(row, flush=True)
    print(write_results("lookahead", "all", rows))


if __name__ == "__main__":
    main()
