"""Runs every measurement of README and the docs, one after the other, and then writes the tables.

Run ``python -m benchmarks.run_all [--data FOLDER]`` on an otherwise idle machine. FOLDER holds the labelled clips of
the shipped bundle; without it the accuracy table is not updated. A bundle of the paper's full-size model with synthetic
weights is made for the measurements of speed. ``--device cuda`` measures a GPU, the most informative results first, in
case that it is available only for minutes.
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
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paper = str(Path(folder) / "actnet")
        plan = on_processor(paper, options.data) if options.device == "cpu" else on_gpu(paper)
        for name, *arguments in [*plan, ["readme"], ["backend_pages"]]:
            print(f"== {name}", flush=True)
            subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=True)


def on_processor(paper: str, data: Path | None) -> list[list[str]]:
    """Modules and their arguments; ``paper`` is the folder of the paper's model."""
    plan = [
        ["footprint"],
        ["overhead"],
        ["throughput", "--clients", "1", "4", "16", "--max-batch", "8"],
        ["http_cost"],
        ["capacity", "--fronts", "2"],
        ["ideal_queue"],
        ["kills"],
        ["load_generator"],
        ["plans"],
        ["certified_points"],
        ["quality"],
        ["decoder_cost"],
        ["isolation"],
        ["actnet", paper],
        ["backends", "--name", "actnet", "--bundle", paper],
        ["services", "--bundle", paper, "bundles/sky"],
        ["first_step"],
        ["refill", "--bundle", paper, "--videos", "64", "--rounds", "2"],
        ["lookahead", "--bundle", "bundles/sky", paper],
        ["soak"],
        ["killed_batch", "--clips", "1500"],
        ["batch_cost"],
    ]
    return plan if data is None else [*plan, ["shipped_model", "--data", str(data)]]


def on_gpu(paper: str) -> list[list[str]]:
    """The same on a GPU."""
    cuda = ["--backend", "onnxruntime-cuda"]
    return [
        ["throughput", *cuda],
        ["actnet", paper, "--precisions", "fp16"],
        ["device_graphs", "--bundle", paper],
        ["throughput", *cuda, "--bundle", paper, "--precision", "fp16", "--exits", "full"],
        ["backends", "--name", "actnet-cuda", "--bundle", paper, "--device", "cuda", "--batches", "1", "8", "32"],
        ["refill", *cuda, "--bundle", paper, "--precision", "fp16", "--videos", "96", "--rounds", "2"],
    ]


if __name__ == "__main__":
    main()
