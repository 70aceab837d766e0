"""Compares the engine's cost per frame in this checkout with that in another one, on a simulated device.

The two take turns, each time in fresh processes: `benchmarks.simulated_device` with 32 rows in a batch and 64 videos
in flight, and with 128 and 256; the core on a thread, and in a process of its own. Medians over the rounds. The figures
depend on what else the machine does, the comparison hardly.

Run ``python -m benchmarks.engine_cost --before DIR [--rounds 3]``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.machine import Row, write_results
from benchmarks.service_process import ROOT

SIZES = ((32, 64, 600), (128, 256, 1024))
TRANSPORTS = ("thread", "process")
TIMEOUT_SECONDS = 120


def measured(checkout: Path, batch: int, rows: int, videos: int, transport: str) -> dict[str, Any]:
    """What the benchmark of a checkout reports, with this interpreter and its packages."""
    sizes = {"batch": batch, "rows": rows, "videos": videos, "transport": transport}
    words = [f"--{name}={value}" for name, value in sizes.items()]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.simulated_device", "--json", *words],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=True,
    )
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def compared(checkouts: dict[str, Path], transport: str, batch: int, rows: int, videos: int, rounds: int) -> list[Row]:
    """One row for each checkout."""
    figures = defaultdict(list)
    for _ in range(rounds):
        for name, checkout in checkouts.items():
            figures[name].append(measured(checkout, batch, rows, videos, transport))
    return [
        {
            "core": transport,
            "batch": batch,
            "rows": rows,
            "version": name,
            "share": round(statistics.median(each["share"] for each in reports), 3),
            "cpu_us_per_frame": round(statistics.median(each["cpu_us_per_frame"] for each in reports), 1),
            "least_us_per_frame": round(min(each["cpu_us_per_frame"] for each in reports), 1),
            "rounds": rounds,
        }
        for name, reports in figures.items()
    ]


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="another checkout")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    checkouts = {"before": options.before.resolve(), "after": ROOT}
    results: list[Row] = []
    for transport in TRANSPORTS:
        for batch, rows, videos in SIZES:
            results += compared(checkouts, transport, batch, rows, videos, options.rounds)
            print(*results[-2:], sep="\n", flush=True)
    print(write_results("engine-cost", "before-after", results))


if __name__ == "__main__":
    main()
