"""Measures the footprint of serving: size of the install, time to ready, resident memory.

Installs the extras ``serve`` and ``draw`` into a temporary environment, like ``make serve``, starts the service
there several times, and reads the processes' memory after one answer. Linux only.

Run ``python -m benchmarks.footprint [--starts 5]``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from benchmarks.machine import write_results
from benchmarks.service_process import ROOT, SAMPLES, running_service


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=5, help="service starts; the median is reported")
    starts = parser.parse_args().starts
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "venv"
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        empty = megabytes(environment)
        pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-compile"]
        # pip's own bytecode is not part of the install.
        silent = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run([*pip, "-c", ROOT / "constraints.txt", f"{ROOT}[serve,draw]"], check=True, env=silent)
        installed = megabytes(environment) - empty
        samples = [start_and_classify(environment / "bin" / "adafocus") for _ in range(starts)]
        row = {
            "install_mb": round(installed, 1),
            "after_runs_mb": round(megabytes(environment) - empty, 1),
            "seconds_to_ready": round(statistics.median(sample["ready"] for sample in samples), 2),
            "rss_service_mb": round(statistics.median(sample["service"] for sample in samples), 1),
            "rss_workers_mb": round(statistics.median(sample["workers"] for sample in samples), 1),
            "decode_workers": int(samples[0]["count"]),
            "starts": starts,
        }
    print(row)
    print(write_results("footprint", "serve", [row]))


def start_and_classify(program: Path) -> dict[str, float]:
    """Start the service once: seconds to ready, then megabytes of the service and its workers after an answer."""
    with running_service("--bundle", str(ROOT / "bundles" / "sky"), program=program) as service:
        clip = SAMPLES[0].read_bytes()
        httpx.post(f"{service.url}/classify", content=clip, timeout=30).raise_for_status()
        own, workers = service.memory_mb()
        count = float(len(service.workers()))
        return {"ready": service.seconds_to_ready, "service": own, "workers": workers, "count": count}


def megabytes(folder: Path) -> float:
    """Size on disk of a folder's files, links not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6


if __name__ == "__main__":
    main()
