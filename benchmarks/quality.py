"""Measures quality before refusal: goodput under overload with cheaper operating points, and with refusals alone.

A service with the shipped bundle is asked for ``full`` in an open loop at 1, 2 and 5 times the rate that it answered
in a closed loop. It is started with the quality controller off and on, in turns. Goodput is answers within a second.
The load generator shares the processors with the service, so only the two ways of one round are compared.

Run ``python -m benchmarks.quality [--rounds 3] [--step-seconds 6]``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import write_results
from benchmarks.service_process import SAMPLES, running_service

LOADS = (1, 2, 5)
TARGET_SECONDS = 0.25
WAYS = {"refusing alone": "0", "cheaper points first": str(TARGET_SECONDS)}
SLO_MS = 1000
CLIENTS = 8


def bench(url: str, *options: str) -> dict[str, Any]:
    """The report of the load generator."""
    program = Path(sys.executable).with_name("adafocus")
    command = [program, "bench", "--url", url, "--exit", "full", "--slo", str(SLO_MS), "--json", *options, *SAMPLES]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def capacity() -> float:
    """Answers per second at ``full`` in a closed loop."""
    with running_service(environment={"ADAFOCUS_QUALITY_TARGET_SECONDS": "0"}) as service:
        bench(service.url, "--concurrency", str(CLIENTS), "--requests", "20")
        report = bench(service.url, "--concurrency", str(CLIENTS), "--requests", "100")
    return float(report["throughput"])


def measure(target: str, rates: list[float], step_seconds: float) -> list[dict[str, Any]]:
    """Each rate of one step load against a fresh service."""
    environment = {"ADAFOCUS_QUALITY_TARGET_SECONDS": target, "ADAFOCUS_MAX_QUEUE": "16"}
    with running_service(environment=environment) as service:
        bench(service.url, "--concurrency", str(CLIENTS), "--requests", "20")
        words = ",".join(f"{rate:.2f}" for rate in rates)
        steps: list[dict[str, Any]] = bench(service.url, "--rate", words, "--step-seconds", str(step_seconds))["steps"]
    return steps


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--step-seconds", type=float, default=6.0)
    options = parser.parse_args()
    rate = capacity()
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for _ in range(options.rounds):
        for way, target in WAYS.items():
            steps = measure(target, [load * rate for load in LOADS], options.step_seconds)
            for load, step in zip(LOADS, steps, strict=True):
                found.setdefault((way, load), []).append(step)
    rows = [
        {
            "way": way,
            "load": load,
            "capacity_per_s": round(rate, 1),
            "goodput_per_s": round(statistics.median(step["goodput"] for step in steps), 1),
            "answered_share": round(statistics.median(step["answered"] / step["requests"] for step in steps), 3),
            "p99_ms": round(statistics.median(step["latency_ms"]["p99"] for step in steps)),
            "rounds": options.rounds,
        }
        for (way, load), steps in found.items()
    ]
    for row in rows:
        print(row)
    print(write_results("quality", "sky-full", rows))


if __name__ == "__main__":
    main()
