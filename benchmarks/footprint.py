"""What serving costs to keep: size of the install, time to ready, resident memory.

Installs the extra ``serve`` into a throw-away environment, as ``make serve`` does, starts the service there several
times, and reads the processes' memory after one answer. Linux only.

    python -m benchmarks.footprint [--starts 5]
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks.machine import write_results

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 60.0


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=5, help="service starts; the median is reported")
    starts = parser.parse_args().starts
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "venv"
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        empty = megabytes(environment)
        pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt"]
        subprocess.run([*pip, f"{ROOT}[serve]"], check=True)
        samples = [start_and_classify(environment / "bin" / "adafocus") for _ in range(starts)]
        row = {
            "install_mb": round(megabytes(environment) - empty, 1),
            "seconds_to_ready": round(statistics.median(sample["ready"] for sample in samples), 2),
            "rss_service_mb": round(statistics.median(sample["service"] for sample in samples), 1),
            "rss_workers_mb": round(statistics.median(sample["workers"] for sample in samples), 1),
            "decode_workers": int(samples[0]["count"]),
            "starts": starts,
        }
    print(row)
    print(write_results("footprint", "serve", [row]))


def start_and_classify(program: Path) -> dict[str, float]:
    """Start the service once: seconds to ready, then resident megabytes of the service and its workers."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [program, "serve", "--port", "0", "--bundle", ROOT / "bundles" / "tank-state"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        url = _announced_url(process)
        while not _ready(url):
            if time.perf_counter() - begun > READY_SECONDS:
                raise TimeoutError(f"not ready after {READY_SECONDS} s")
            time.sleep(0.005)
        ready = time.perf_counter() - begun
        clip = next((ROOT / "samples").glob("*.mp4")).read_bytes()
        with urllib.request.urlopen(urllib.request.Request(f"{url}/classify", data=clip), timeout=30) as answer:  # noqa: S310
            answer.read()
        children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        return {
            "ready": ready,
            "service": proportional_megabytes(process.pid),
            "workers": sum(proportional_megabytes(pid) for pid in children),
            "count": float(len(children)),
        }
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def megabytes(folder: Path) -> float:
    """Size on disk of a folder's files, links not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6


def proportional_megabytes(pid: int) -> float:
    """Proportional set size: pages that processes share are split between them, so that sums are true."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else float("nan")


def _announced_url(process: subprocess.Popen[str]) -> str:
    if process.stderr is None:
        raise RuntimeError("the service's log is not readable")
    for line in process.stderr:
        found = re.search(r"http://[0-9.]+:\d+", line)
        if found:
            os.set_blocking(process.stderr.fileno(), False)
            return found[0]
    raise RuntimeError("the service ended before it said where it listens")


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=1) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    main()
