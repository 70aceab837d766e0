"""A long mixed load at 70 % of what the service can do: does its memory grow, and do its descriptors?

Twelve callers with addresses of their own, so that decoders are replaced all the time, send good clips to all operating
points and as event streams, requests of the Open Inference Protocol, damaged and costly videos, requests that are
refused, and uploads that are broken off. The memory of the service and of its decoders is read every few seconds; the
slope is fitted to the means of ten parts of the time after the first fifth, and its interval is that of Student's t.

The generator, the service and its decoders can be kept on some of the cores, so that the run may go on beside other
work; the capacity is measured there too.

    python -m tests.torture.long_run [--seconds 3600] [--cores 1] [--samples FILE] [--write VARIANT]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

import httpx
import numpy as np

from adafocus.service.cpu import usable_cores
from benchmarks.machine import write_results
from benchmarks.service_process import ServiceProcess, proportional_megabytes, running_service
from tests.torture.mixed_load import Mix, mixed_load

CALLERS = 12
LOAD = 0.7
SAMPLE_SECONDS = 5.0
WARM_UP_SECONDS = 15.0
MEASURE_SECONDS = 30.0
CONCURRENCY = 6
PARTS = 10
STUDENTS_T = 2.306
"""95 %, for `PARTS` points and two parameters: eight degrees of freedom."""
MOST_MB_AN_HOUR = 20.0
MOST_WAITING = 64
LEAST_SECONDS = 2 * PARTS * SAMPLE_SECONDS


@dataclass(frozen=True)
class Sample:
    """What was read at one moment: its second, megabytes, the service's descriptors, and processes."""

    seconds: float
    service_mb: float
    decoders_mb: float
    descriptors: int
    processes: int

    @property
    def memory_mb(self) -> float:
        """Of the service and its decoders together."""
        return self.service_mb + self.decoders_mb


async def capacity(mix: Mix) -> float:
    """Requests a second that are not refused for want of room when some are under way all the time."""
    began, done = time.monotonic() + WARM_UP_SECONDS, 0

    async def again() -> None:
        nonlocal done
        while time.monotonic() < began + MEASURE_SECONDS:
            served = await mix.send() != "503"
            done += served and began <= time.monotonic() < began + MEASURE_SECONDS

    await asyncio.gather(*(again() for _ in range(CONCURRENCY)))
    return done / MEASURE_SECONDS


def sample(service: ServiceProcess, seconds: float) -> Sample:
    """Read the state of a service."""
    decoders = 0.0
    children = service.workers()
    for pid in children:
        with suppress(OSError):  # it has been replaced
            megabytes = proportional_megabytes(pid)
            decoders += 0.0 if math.isnan(megabytes) else megabytes
    descriptors = len(list(Path(f"/proc/{service.pid}/fd").iterdir()))
    return Sample(seconds, proportional_megabytes(service.pid), decoders, descriptors, 1 + len(children))


async def run(service: ServiceProcess, seconds: float, seed: int) -> tuple[float, list[Sample], Counter[str]]:
    """Load the service; the requests offered a second, the samples, and the answers by kind and status."""
    samples: list[Sample] = []
    async with mixed_load(service.url, CALLERS, seed) as mix:
        rate = LOAD * await capacity(mix)
        print(f"{rate:.1f} requests a second are offered", flush=True)
        mix.answers.clear()
        began = time.monotonic()
        chance, running, due = random.Random(seed), set[asyncio.Task[str]](), began
        while (now := time.monotonic()) < began + seconds:
            if len(samples) * SAMPLE_SECONDS <= now - began:
                samples.append(sample(service, now - began))
            if now >= due:
                due = max(due, now - 1.0) + chance.expovariate(rate)
                if len(running) < MOST_WAITING:
                    task = asyncio.create_task(mix.send())
                    running.add(task)
                    task.add_done_callback(running.discard)
            await asyncio.sleep(max(0.0, min(due - time.monotonic(), 1.0)))
        await asyncio.gather(*running)
    return rate, samples, mix.answers


def slope_an_hour(samples: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Growth an hour, and half the width of its 95 % interval, from the means of ten parts."""
    parts = np.array_split(np.array(samples), PARTS)
    x, y = np.array([part.mean(axis=0) for part in parts]).T
    slope, offset = np.polyfit(x, y, 1)
    error = math.sqrt(float(((y - slope * x - offset) ** 2).sum()) / (PARTS - 2) / float(((x - x.mean()) ** 2).sum()))
    return float(slope) * 3600, STUDENTS_T * error * 3600


def summary(rate: float, samples: Sequence[Sample], answers: Counter[str]) -> dict[str, object]:
    """What a run has shown; memory, descriptors and processes without the first fifth, in which all grows."""
    settled = samples[len(samples) // 5 :]
    row: dict[str, object] = {"cores": usable_cores(), "seconds": round(samples[-1].seconds)}
    row |= {"offered_a_second": round(rate, 1), "requests": sum(answers.values())}
    for name in ("memory", "service"):
        megabytes = [(one.seconds, getattr(one, f"{name}_mb")) for one in settled]
        slope, half = slope_an_hour(megabytes)
        row |= {f"{name}_mb_first": round(megabytes[0][1], 1), f"{name}_mb_last": round(megabytes[-1][1], 1)}
        row |= {f"{name}_slope_mb_an_hour": round(slope, 2)}
        row |= {f"{name}_slope_low": round(slope - half, 2), f"{name}_slope_high": round(slope + half, 2)}
    for name in ("descriptors", "processes"):
        for which, part in (("first", settled[: len(settled) // 2]), ("second", settled[len(settled) // 2 :])):
            row[f"most_{name}_{which}_half"] = max(getattr(one, name) for one in part)
    statuses: Counter[str] = Counter()
    for kind, count in answers.items():
        statuses[kind.partition(" ")[2]] += count
    row["statuses"], row["kinds"] = (json.dumps(dict(sorted(of.items()))) for of in (statuses, answers))
    return row


def workers_replaced(url: str) -> str:
    """How many decoders were replaced because another caller needed one, by the service's own count."""
    return httpx.get(f"{url}/metrics").text.partition('restarts_total{reason="caller"} ')[2].partition("\n")[0]


def main() -> int:
    """Run, print, and say whether anything grew or failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cores", help="numbers of the processor cores to stay on, such as 1 or 0,2; default: all")
    parser.add_argument("--samples", type=Path, help="file for what was read every few seconds, as CSV")
    parser.add_argument("--write", metavar="VARIANT")
    options = parser.parse_args()
    if options.seconds < LEAST_SECONDS:
        parser.error(
            f"--seconds must be at least {LEAST_SECONDS:g}, because a slope is fitted, got {options.seconds:g}"
        )
    if options.cores:
        os.sched_setaffinity(0, {int(core) for core in options.cores.split(",")})
    with running_service() as service:
        rate, samples, answers = asyncio.run(run(service, options.seconds, options.seed))
        row = summary(rate, samples, answers) | {"workers_for_another_caller": workers_replaced(service.url)}
    if options.samples:
        names = ",".join(Sample.__dataclass_fields__)
        lines = [",".join(f"{value:.6g}" for value in astuple(one)) for one in samples]
        options.samples.write_text("\n".join([names, *lines, ""]))
    print(json.dumps(row, indent=1))
    if options.write:
        print(write_results("long-run", options.write, [row]))
    failed = sum(count for kind, count in answers.items() if kind.endswith(" 500") or kind.endswith("Error"))
    return int(bool(failed) or float(str(row["memory_slope_low"])) > MOST_MB_AN_HOUR)


if __name__ == "__main__":
    sys.exit(main())
