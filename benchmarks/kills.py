"""Kills processes of a loaded service with several fronts, and counts what was lost and when answers came again.

A closed loop of clients sends the sample clips. After a while one process of a kind gets SIGKILL: a front, a decoder,
the engine. A request that was not answered with 200 is lost, and so is one whose connection broke. The service is back
when the rate of answers, over half a second, is again three quarters of what it was before.

Run ``python -m benchmarks.kills [--fronts 2] [--clients 8] [--seconds 12]``.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from adafocus.cli.load.connection import Endpoint
from adafocus.cli.load.plan import Plan
from adafocus.cli.load.report import Sample
from adafocus.cli.load.run import run
from benchmarks.machine import write_results
from benchmarks.service_process import ROOT, SAMPLES, running_service

KINDS = {
    "front": "adafocus.cli.fronts.front",
    "decoder": "adafocus.service.decode.worker.main",
    "engine": "adafocus.service.engine.hub",
}
SLICE_SECONDS = 0.5
BACK_SHARE = 0.75
BEFORE_SECONDS = 5.0
ENOUGH_REQUESTS = 1_000_000


def descendants(pid: int) -> Iterator[int]:
    """All processes below one."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield int(child)
            yield from descendants(int(child))


def processes(pid: int, module: str) -> list[int]:
    """Those below ``pid`` that run a module."""
    return [each for each in descendants(pid) if module in Path(f"/proc/{each}/cmdline").read_text()]


class Enough(Exception):  # noqa: N818 - not an error, the end
    """The load has lasted long enough."""


def load_until(url: str, clients: int, seconds: float, samples: list[Sample], clock: list[float]) -> None:
    """Send a closed loop for so many seconds; ``clock`` gets the time of its start."""
    clips = [clip.read_bytes() for clip in SAMPLES]
    begun = time.perf_counter()
    clock.append(begun)

    def done(sample: Sample) -> None:
        samples.append(sample)
        if time.perf_counter() - begun > seconds:
            raise Enough

    plan = Plan(url, clips, {"exit": "balanced"}, ENOUGH_REQUESTS, concurrency=clients)
    try:
        run(plan, Endpoint.find(url), done)
    except Enough:
        return


def measure(kind: str, fronts: int, clients: int, seconds: float) -> dict[str, object]:
    """Kill one process of a kind under load."""
    samples: list[Sample] = []
    clock: list[float] = []
    # Requests that wait for long because the machine is slow are not lost.
    environment = {"ADAFOCUS_DECODE_WORKERS": "4", "ADAFOCUS_MAX_QUEUE_SECONDS": "60"}
    options = ("--bundle", str(ROOT / "bundles" / "sky"), "--fronts", str(fronts))
    with running_service(*options, environment=environment) as service:
        load_until(service.url, clients, 2.0, [], [])  # warm up
        loading = threading.Thread(target=load_until, args=(service.url, clients, seconds, samples, clock))
        loading.start()
        time.sleep(BEFORE_SECONDS)
        killed = time.perf_counter()
        os.kill(processes(service.pid, KINDS[kind])[0], signal.SIGKILL)
        loading.join()
        good = [sample.answered for sample in samples if sample.status == 200]
        rate = sum(clock[0] + 1.0 < at < killed for at in good) / (killed - clock[0] - 1.0)
        slices = Counter(int((at - killed) // SLICE_SECONDS) for at in good if at > killed)
        last = int((clock[0] + seconds - killed) // SLICE_SECONDS)
        back = next((n for n in range(last) if slices[n] >= BACK_SHARE * rate * SLICE_SECONDS), None)
        lost = Counter(str(sample.status or "connection") for sample in samples if sample.status != 200)
        return {
            "killed": kind,
            "fronts": fronts,
            "clients": clients,
            "answers_per_s_before": round(rate, 1),
            "lost": sum(lost.values()),
            "lost_as": " ".join(f"{status}:{count}" for status, count in sorted(lost.items())),
            "lowest_answers_per_s": round(min(slices[n] for n in range(last)) / SLICE_SECONDS, 1),
            "back_after_s": "" if back is None else round((back + 1) * SLICE_SECONDS, 1),
        }


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fronts", type=int, default=2)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=14.0)
    options = parser.parse_args()
    rows = []
    for kind in KINDS:
        rows.append(measure(kind, options.fronts, options.clients, options.seconds))
        print(rows[-1], flush=True)
    print(write_results("kills", f"{options.fronts}-fronts", rows))


if __name__ == "__main__":
    main()
