"""Replaces a model again and again while the service is busy, and counts what was lost; then unloads one.

A closed loop of clients finds the capacity. An open loop then sends 80 % of it, first for a while without a swap, then
while a new version of the bundle is written and loaded, twenty times over. A request that was answered with another
status than 200, or not at all, is not answered; of these, 503 with `overloaded` was refused before its body was read.
Memory is that of the service's process (PSS), at rest, before the first swap, after it, and after the last.

Run ``python -m benchmarks.swaps [--swaps 20] [--share 0.8]``.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np

from adafocus.bundle.store import Bundle, load_bundle, write_bundle
from adafocus.cli.load.connection import Endpoint
from adafocus.cli.load.plan import Plan
from adafocus.cli.load.report import Sample
from adafocus.cli.load.run import run
from benchmarks.machine import Row, write_results
from benchmarks.service_process import ROOT, SAMPLES, ServiceProcess, running_service

KEY = "benchmark"
CAPACITY_SECONDS, CAPACITY_CLIENTS = 10.0, 4
PAUSE_SECONDS = 1.0
"""Between two swaps."""
QUIET_SECONDS, SLICE_SECONDS = 30.0, 10.0
"""How long the load without a swap lasts, and each piece of the load with swaps."""
REST_SECONDS = 3.0
"""Before memory is read."""


def put(bundle: Bundle, folder: Path, version: int) -> None:
    """Write a version of a bundle into the folder of bundles."""
    manifest = bundle.manifest.model_copy(update={"version": str(version)})
    write_bundle(folder, manifest, {graph.file: bundle.file(graph) for graph in manifest.graphs})


class Load:
    """A load on the service."""

    def __init__(self, url: str, *, rate: float = 0.0, seconds: float = 0.0, requests: int = 0) -> None:
        self.samples: list[Sample] = []
        clips = [clip.read_bytes() for clip in SAMPLES]
        rates = (rate,) if rate else ()
        self._plan = Plan(
            url, clips, {}, requests, rates, seconds if rate else None, concurrency=CAPACITY_CLIENTS, key=KEY
        )
        self._endpoint = Endpoint.find(url)

    def run(self) -> None:
        """Send it."""
        run(self._plan, self._endpoint, self.samples.append)


def capacity(url: str) -> float:
    """Answers per second with a few clients that never rest."""
    rate = 1.0
    for _ in range(2):  # the first round is a guess
        load = Load(url, requests=max(8, round(rate * CAPACITY_SECONDS)))
        began = time.perf_counter()
        load.run()
        rate = sum(sample.status == 200 for sample in load.samples) / (time.perf_counter() - began)
    return rate


def row_of(phase: str, samples: Sequence[Sample], **further: object) -> dict[str, object]:
    """What became of the requests."""
    refused = sum(sample.status == 503 and sample.code == "overloaded" for sample in samples)
    answered = [sample.seconds * 1e3 for sample in samples if sample.status == 200]
    return {
        "phase": phase,
        "requests": len(samples),
        "answered": len(answered),
        "refused": refused,
        "lost": len(samples) - len(answered) - refused,
        "p50_ms": round(float(np.percentile(answered, 50)), 1),
        "p99_ms": round(float(np.percentile(answered, 99)), 1),
        **further,
    }


def swap(service: ServiceProcess, bundle: Bundle, folder: Path, version: int) -> float:
    """Write a version and have it loaded; returns the seconds until requests go to it."""
    put(bundle, folder, version)
    began = time.perf_counter()
    manage(service.url, "sky", "load")
    return time.perf_counter() - began


def manage(url: str, name: str, verb: str) -> None:
    """Load or unload a model."""
    answer = httpx.post(f"{url}/v2/repository/models/{name}/{verb}", headers={"X-API-Key": KEY}, timeout=60)
    answer.raise_for_status()


def at_rest(service: ServiceProcess) -> float:
    """Megabytes of the process that holds the models, after a moment without requests."""
    time.sleep(REST_SECONDS)
    return round(service.memory_mb()[0], 1)


def measure(bundle: Bundle, folder: Path, swaps: int, share: float) -> list[Row]:
    """Measure everything on one service."""
    put(bundle, folder / "sky", 0)
    put(bundle, folder / "other", 0)
    environment = {"ADAFOCUS_API_KEYS": KEY, "ADAFOCUS_REPOSITORY_API": "true", "ADAFOCUS_DEFAULT_MODEL": "sky"}
    environment |= {"ADAFOCUS_BUNDLES_POLL_SECONDS": "0", "ADAFOCUS_MAX_UPLOADS_PER_CALLER": "256"}
    with running_service("--bundles", str(folder), environment=environment) as service:
        rate = share * capacity(service.url)
        common = {"rate": round(rate, 2), "load_s_median": "", "load_s_max": ""}
        before = at_rest(service)
        quiet = Load(service.url, rate=rate, seconds=QUIET_SECONDS)
        quiet.run()
        memory = {"memory_before_mb": before, "memory_after_mb": at_rest(service)}
        rows: list[Row] = [row_of("no swap", quiet.samples, **common, **memory)]
        swap(service, bundle, folder / "sky", 1)
        before = at_rest(service)
        samples, loads = swaps_under_load(service, bundle, folder / "sky", swaps, rate)
        common |= {"load_s_median": round(float(np.median(loads)), 2), "load_s_max": round(max(loads), 2)}
        memory = {"memory_before_mb": before, "memory_after_mb": at_rest(service)}
        rows.append(row_of(f"{swaps} swaps", samples, **common, **memory))
        rows += unloading(service, rows[-1])
    return rows


def swaps_under_load(
    service: ServiceProcess, bundle: Bundle, folder: Path, swaps: int, rate: float
) -> tuple[list[Sample], list[float]]:
    """Swap while an open loop runs; returns its requests, and the seconds of each swap."""
    samples: list[Sample] = []
    over = threading.Event()

    def keep_sending() -> None:
        while not over.is_set():
            load = Load(service.url, rate=rate, seconds=SLICE_SECONDS)
            load.run()
            samples.extend(load.samples)

    sending = threading.Thread(target=keep_sending)
    sending.start()
    loads = []
    try:
        for number in range(swaps):
            loads.append(swap(service, bundle, folder, 2 + number))
            time.sleep(PAUSE_SECONDS)
    finally:
        over.set()
        sending.join()
    return samples, loads


def unloading(service: ServiceProcess, like: Row) -> list[Row]:
    """Unload the second model and load it again, three times."""
    rows: list[Row] = []
    for _ in range(3):
        before = at_rest(service)
        manage(service.url, "other", "unload")
        after = at_rest(service)
        rows.append(
            dict.fromkeys(like, "")
            | {"phase": "unload the second model", "memory_before_mb": before, "memory_after_mb": after}
        )
        manage(service.url, "other", "load")
    return rows


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "sky")
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(load_bundle(options.bundle), Path(folder), options.swaps, options.share)
    for row in rows:
        print(row)
    print(write_results("swaps", options.bundle.name, rows))


if __name__ == "__main__":
    main()
