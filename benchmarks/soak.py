"""Sends ten thousand requests with good, unusual and damaged clips, and checks memory and responses.

The memory of the processes is read after every hundred answers. The verdict compares the last quarter with the second.

Run ``python -m benchmarks.soak [--requests 10000] [--concurrency 4] [CLIP ...]``; by default samples/ and tests' clips.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections import Counter
from pathlib import Path

import httpx

from benchmarks.machine import write_results
from benchmarks.service_process import ROOT, SAMPLES, ServiceProcess, running_service
from tests.media.named import NAMES, named

EVERY = 100


async def soak(service: ServiceProcess, clips: list[bytes], requests: int, concurrency: int) -> list[dict[str, object]]:
    """Send the requests and return one row for every hundred answers."""
    rows: list[dict[str, object]] = []
    statuses: Counter[int] = Counter()
    numbers = iter(range(requests))
    begun = time.perf_counter()

    async def client(http: httpx.AsyncClient) -> None:
        for number in numbers:
            clip = clips[number % len(clips)]
            answer = await http.post("/classify", content=clip, params={"exit": ("balanced", "full")[number % 2]})
            statuses[answer.status_code] += 1
            if sum(statuses.values()) % EVERY == 0:
                own, workers = service.memory_mb()
                row = {"answers": sum(statuses.values()), "seconds": round(time.perf_counter() - begun, 1)}
                counts = {f"status_{code}": statuses[code] for code in (200, 415, 422, 500, 503)}
                rows.append({**row, "service_mb": round(own, 1), "workers_mb": round(workers, 1), **counts})

    async with httpx.AsyncClient(base_url=service.url, timeout=60) as http:
        await asyncio.gather(*(client(http) for _ in range(concurrency)))
    return rows


def quarter_means(rows: list[dict[str, object]], column: str) -> list[float]:
    """Mean of a column in each quarter of the run."""
    size = len(rows) // 4
    return [statistics.mean(float(str(row[column])) for row in rows[i * size : (i + 1) * size]) for i in range(4)]


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path, nargs="*")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=4)
    options = parser.parse_args()
    paths = options.clips or [
        *SAMPLES,
        *sorted(
            path for path in (ROOT / "tests/fixtures/video").iterdir() if path.suffix not in {".md", ".json", ".npz"}
        ),
    ]
    clips = [path.read_bytes() for path in paths if path.is_file()]
    clips += [] if options.clips else [named(name) for name in NAMES]
    with running_service("--bundle", str(ROOT / "bundles" / "sky")) as service:
        rows = asyncio.run(soak(service, clips, options.requests, options.concurrency))
    for column in ("service_mb", "workers_mb"):
        quarters = quarter_means(rows, column)
        print(column, [round(value, 1) for value in quarters], f"last / second: {quarters[3] / quarters[1]:.3f}")
    print(rows[-1])
    print(write_results("soak", "onnxruntime-cpu", rows))


if __name__ == "__main__":
    main()
