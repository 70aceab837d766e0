"""Processor time of `adafocus batch` per clip, compared with `adafocus classify --out`, and the size of a row.

Each command classifies links to the sample clips; a run with one clip is subtracted, so that the start does not count.
The commands take turns; medians of the rounds.

Run ``python -m benchmarks.batch_cost [--clips 200] [--rounds 3]``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import write_results
from benchmarks.service_process import ROOT, SAMPLES

COMMANDS = {
    "classify --out": ("classify", "results.jsonl"),
    "batch": ("batch", "results"),
    "batch --format parquet": ("batch", "results", "--format", "parquet"),
}


def cpu_seconds(words: tuple[str, ...], clips: list[Path], place: Path) -> float:
    """Processor time of one run with all its processes, in seconds; its results are in ``place``."""
    verb, out, *options = words
    command = [sys.executable, "-m", "adafocus", verb, *map(str, clips), "--out", str(place / out), *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        _, status, spent = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    return spent.ru_utime + spent.ru_stime


def row_bytes(place: Path, clips: int) -> float:
    """The size of a row in the files of results."""
    return sum(path.stat().st_size for path in place.rglob("results*.*")) / clips


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    sizes: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        links = [Path(folder, f"{number:05d}.mp4") for number in range(options.clips)]
        for number, link in enumerate(links):
            link.symlink_to(SAMPLES[number % len(SAMPLES)].resolve())
        for _ in range(options.rounds):
            for name, words in COMMANDS.items():
                with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as all_:
                    start = cpu_seconds(words, links[:1], Path(one))
                    whole = cpu_seconds(words, links, Path(all_))
                    sizes[name] = row_bytes(Path(all_), len(links))
                taken[name].append((whole - start) / (len(links) - 1) * 1e3)
    clip_bytes = statistics.mean(path.stat().st_size for path in SAMPLES)
    rows = [
        {
            "command": name,
            "cpu_ms_per_clip": round(statistics.median(taken[name]), 2),
            "ratio": round(statistics.median(taken[name]) / statistics.median(taken["classify --out"]), 3),
            "bytes_per_row": round(sizes[name]),
            "bytes_per_clip": round(clip_bytes),
            "clips": options.clips,
            "rounds": options.rounds,
        }
        for name in COMMANDS
    ]
    for row in rows:
        print(row)
    write_results("batch-cost", "tank-state", rows)


if __name__ == "__main__":
    main()
