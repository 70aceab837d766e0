"""Kills `adafocus batch` at random moments, continues it, and counts the rows that are lost or there twice.

The inputs are links to the sample clips and some broken files. Each run is killed with SIGKILL after a random time, as
long as the number of kills says; the last one may end. The rows are then compared with the inputs.

Run ``python -m benchmarks.killed_batch [--clips 400] [--kills 20]``.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from adafocus.cli.offline.formats import FormatName, open_format
from benchmarks.machine import write_results
from benchmarks.service_process import ROOT, SAMPLES

BROKEN_EVERY = 50
LONGEST_SECONDS = 6.0


def make_inputs(folder: Path, clips: int) -> set[str]:
    """Links to the samples, and a broken file for every fifty."""
    for number in range(clips):
        path = folder / f"{number:05d}.mp4"
        if number % BROKEN_EVERY == 0:
            path.write_bytes(b"no video")
        else:
            path.symlink_to(SAMPLES[number % len(SAMPLES)].resolve())
            # A link that leads to the same file would be left out of a folder, so a manifest names them all.
    manifest = folder / "list.jsonl"
    names = [path.name for path in sorted(folder.glob("*.mp4"))]
    manifest.write_text("".join(f"{json.dumps(name)}\n" for name in names))
    return set(names)


def run_killed(command: list[str], kills: int, generator: random.Random) -> tuple[int, int]:
    """Kill and continue; return how often it was killed, and how many runs it took."""
    killed = runs = 0
    while True:
        runs += 1
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            try:
                seconds = None if killed == kills else generator.uniform(0.2, LONGEST_SECONDS)
                _, told = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                killed += 1
                continue
        if process.returncode:
            raise SystemExit(told.decode())
        return killed, runs


def main() -> None:
    """Kill, compare, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    formats: tuple[FormatName, ...] = ("jsonl", "parquet")
    rows = []
    for form in formats:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            names = make_inputs(folder, options.clips)
            out = folder / "out"
            command = [sys.executable, "-m", "adafocus", "batch", str(folder / "list.jsonl"), "--out", str(out)]
            command += ["--format", form, "--rows-per-part", "30"]
            killed, runs = run_killed(command, options.kills, generator)
            parts = sorted(out.glob(f"results-*.{form}"))
            counts = Counter(row["file"] for part in parts for row in open_format(form).read(part))
            errors = sum("error" in row for part in parts for row in open_format(form).read(part))
        rows.append(
            {
                "format": form,
                "inputs": len(names),
                "kills": killed,
                "runs": runs,
                "rows": counts.total(),
                "error_rows": errors,
                "rows_lost": len(names - counts.keys()),
                "rows_twice": sum(count > 1 for count in counts.values()),
            }
        )
        print(rows[-1])
    write_results("killed-batch", "sky", rows)


if __name__ == "__main__":
    main()
