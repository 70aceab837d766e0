"""Kills `adafocus batch` at random moments, continues it, and counts the rows that are lost or there twice.

The inputs are links to the sample clips and some broken files. Each run is killed with SIGKILL after a random time, as
long as the number of kills says; the last one may end. The rows are then compared with the inputs. With ``--ray`` the
same happens on a Ray cluster of two nodes on this machine, where the command that is killed is the driver.

Run ``python -m benchmarks.killed_batch [--clips 400] [--kills 20] [--ray]``; --ray needs the extra ray.
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
LONGEST_SECONDS_ON_RAY = 30.0
"""A driver needs ten seconds or more until its engines run."""


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


def run_killed(command: list[str], kills: int, longest: float, generator: random.Random) -> tuple[int, int]:
    """Kill and continue; return how often it was killed, and how many runs it took."""
    killed = runs = 0
    while True:
        runs += 1
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            try:
                seconds = None if killed == kills else generator.uniform(0.2, longest)
                _, told = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                killed += 1
                continue
        if process.returncode:
            raise SystemExit(told.decode())
        return killed, runs


def killed_row(form: FormatName, options: argparse.Namespace, address: str | None) -> dict[str, object]:
    """Kill runs that write one format, here or on a cluster, and compare the rows with the inputs."""
    longest = LONGEST_SECONDS if address is None else LONGEST_SECONDS_ON_RAY
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        names = make_inputs(folder, options.clips)
        out = folder / "out"
        command = [sys.executable, "-m", "adafocus", "batch", str(folder / "list.jsonl"), "--out", str(out)]
        command += ["--format", form, "--rows-per-part", "30"]
        command += [] if address is None else ["--ray", address, "--actor-cores", "1"]
        killed, runs = run_killed(command, options.kills, longest, random.Random(options.seed))
        parts = sorted(out.glob(f"results-*.{form}"))
        counts = Counter(row["file"] for part in parts for row in open_format(form).read(part))
        errors = sum("error" in row for part in parts for row in open_format(form).read(part))
    return {
        "on": "here" if address is None else "ray",
        "format": form,
        "inputs": len(names),
        "kills": killed,
        "runs": runs,
        "rows": counts.total(),
        "error_rows": errors,
        "rows_lost": len(names - counts.keys()),
        "rows_twice": sum(count > 1 for count in counts.values()),
    }


def main() -> None:
    """Kill, compare, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ray", action="store_true", help="kill runs on a Ray cluster, too")
    options = parser.parse_args()
    formats: tuple[FormatName, ...] = ("jsonl", "parquet")
    rows = []
    for form in formats:
        rows.append(killed_row(form, options, None))
        print(rows[-1], flush=True)
    if options.ray:
        from benchmarks.ray_cluster import two_nodes

        with two_nodes() as address:
            rows.append(killed_row("jsonl", options, address))
            print(rows[-1], flush=True)
    write_results("killed-batch", "sky", rows)


if __name__ == "__main__":
    main()
