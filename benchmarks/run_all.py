"""Every measurement behind README's tables and the docs, one after the other; then the tables themselves.

Run ``python -m benchmarks.run_all [--data FOLDER]``, on a machine that does nothing else. FOLDER holds the labelled
clips of the shipped bundle; without it its accuracy table is left as it is. A bundle of the paper's full-size model
with recipe weights, for the measurements of speed, is made on the way.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Run them all; one that fails ends the run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="labelled clips of the shipped bundle")
    data = parser.parse_args().data
    with tempfile.TemporaryDirectory() as folder:
        paper = str(Path(folder) / "actnet")
        plan: list[list[str]] = [
            ["footprint"],
            ["overhead"],
            ["throughput", "--clients", "1", "4", "16", "--max-batch", "8"],
            ["plans"],
            ["isolation"],
            ["actnet", paper],
            ["backends", "--name", "actnet", "--bundle", paper],
            ["services", "--bundle", paper, "bundles/tank-state"],
            ["first_step"],
            ["refill", "--bundle", paper, "--videos", "64", "--rounds", "2"],
            ["lookahead", "--bundle", "bundles/tank-state", paper],
            ["soak"],
        ]
        if data is not None:
            plan.append(["shipped_model", "--data", str(data)])
        for name, *options in [*plan, ["readme"], ["backend_pages"]]:
            print(f"== {name}", flush=True)
            subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=True)


if __name__ == "__main__":
    main()
