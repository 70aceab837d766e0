"""Processor time of `adafocus batch --ray` per clip, beside that of `adafocus batch` alone.

Both classify links to the sample clips into JSON Lines, in turns; the cluster has two nodes on this machine with an
engine each, and all its processes are counted. A run with few clips is subtracted, so that starts do not count.

Run ``python -m benchmarks.ray_cost [--clips 600] [--rounds 3]``; it needs the extra ray.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import write_results
from benchmarks.ray_cluster import processor_time, two_nodes
from benchmarks.service_process import ROOT, SAMPLES

FEW_CLIPS = 128
"""Two blocks, so that both engines start."""


def cpu_seconds(clips: int, options: list[str]) -> float:
    """Processor time of one run of the verb with these options, the cluster's included, in seconds."""
    with tempfile.TemporaryDirectory() as place:
        links = [Path(place, f"{number:05d}.mp4") for number in range(clips)]
        for number, link in enumerate(links):
            link.symlink_to(SAMPLES[number % len(SAMPLES)].resolve())
        command = [sys.executable, "-m", "adafocus", "batch", *map(str, links), "--out", str(Path(place, "out"))]
        with processor_time() as spent:
            subprocess.run([*command, *options], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return spent[0]


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with two_nodes() as address:
        commands = {"batch": [], "batch --ray": ["--ray", address, "--actor-cores", "1"]}
        taken: dict[str, list[float]] = {name: [] for name in commands}
        starts: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(given.rounds):
            for name, options in commands.items():
                start = cpu_seconds(FEW_CLIPS, options)
                taken[name].append((cpu_seconds(given.clips, options) - start) / (given.clips - FEW_CLIPS))
                starts[name].append(start - FEW_CLIPS * taken[name][-1])
                print(name, f"{taken[name][-1] * 1e3:.2f} ms a clip, {starts[name][-1]:.2f} s to start", flush=True)
    rows = [
        {
            "command": name,
            "cpu_ms_per_clip": round(statistics.median(taken[name]) * 1e3, 2),
            "ratio": round(statistics.median(taken[name]) / statistics.median(taken["batch"]), 3),
            "rows_per_second_per_core": round(1 / statistics.median(taken[name]), 1),
            "cpu_seconds_to_start": round(statistics.median(starts[name]), 2),
            "clips": given.clips,
            "rounds": given.rounds,
        }
        for name in commands
    ]
    for row in rows:
        print(row)
    write_results("ray-cost", "sky", rows)


if __name__ == "__main__":
    main()
