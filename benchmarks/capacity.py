"""Measures what a service can carry: answers a second with few and many clients, and latency below its capacity.

The load is that of `adafocus bench`, on the same machine. With ``--before DIR``, another checkout is measured in turns
with this one, and with ``--fronts`` this one with several fronts as well. For each of them: a closed loop of 16 and of
256 clients, then an open loop at 80 % of the rate that 16 clients reached. Medians over the rounds.

Run ``python -m benchmarks.capacity [--before DIR] [--bundle DIR] [--fronts 2] [--rounds 3] [--requests 600]``.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from pathlib import Path

from adafocus.cli.load.connection import Endpoint
from adafocus.cli.load.plan import Plan
from adafocus.cli.load.report import LoadReport, Sample, report
from adafocus.cli.load.run import run
from benchmarks.machine import Row, write_results
from benchmarks.service_process import ROOT, SAMPLES, program, running_service

FEW, MANY = 16, 256
SHARE_OF_CAPACITY = 0.8
SLO_MS = 100.0


def loaded(url: str, point: str, requests: int, *, clients: int = 1, rate: float | None = None) -> LoadReport:
    """Send a load, closed with ``clients`` or open with ``rate``, and sum it up."""
    samples: list[Sample] = []
    clips = [clip.read_bytes() for clip in SAMPLES]
    rates = () if rate is None else (rate,)
    plan = Plan(url, clips, {"exit": point}, requests, rates=rates, concurrency=clients)
    run(plan, Endpoint.find(url), samples.append)
    return report(samples, SLO_MS, plan)


def measure(words: list[str], bundle: Path, fronts: int, point: str, requests: int) -> dict[str, float]:
    """One round with one version."""
    # Nobody is refused: what is compared is how fast those who wait are served.
    limits = dict.fromkeys(("QUEUE", "UPLOADS", "UPLOADS_PER_CALLER", "CONNECTIONS", "CONNECTIONS_PER_CALLER"), "1024")
    environment = {f"ADAFOCUS_MAX_{name}": most for name, most in limits.items()}
    environment |= {"ADAFOCUS_MAX_QUEUE_SECONDS": "600", "ADAFOCUS_DRAIN_GRACE_SECONDS": "0"}
    options = ["--bundle", str(bundle), "--backend", "onnxruntime-cpu"]
    options += ["--fronts", str(fronts)] if fronts > 1 else []
    with running_service(*options, program=words, environment=environment) as service:
        loaded(service.url, point, requests // 4, clients=FEW)  # warm up
        few = loaded(service.url, point, requests, clients=FEW)
        many = loaded(service.url, point, requests, clients=MANY)
        calm = loaded(service.url, point, requests, rate=SHARE_OF_CAPACITY * few.throughput)
    return {
        f"answers_per_s_{FEW}": few.throughput,
        f"answers_per_s_{MANY}": many.throughput,
        "not_answered": float(3 * requests - few.answered - many.answered - calm.answered),
        "rate_80": SHARE_OF_CAPACITY * few.throughput,
        "p50_80_ms": calm.latency_ms["p50"],
        "p99_80_ms": calm.latency_ms["p99"],
        "p99_over_p50": calm.latency_ms["p99"] / calm.latency_ms["p50"],
    }


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="another checkout")
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "sky", help="one that both can read")
    parser.add_argument("--fronts", type=int, default=1, help="measure this checkout with so many fronts, too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--exits", nargs="+", default=["balanced", "full"])
    options = parser.parse_args()
    versions = {"after": (program(ROOT), 1)}
    if options.before is not None:
        versions = {"before": (program(options.before), 1), **versions}
    if options.fronts > 1:
        versions[f"after, {options.fronts} fronts"] = (program(ROOT), options.fronts)
    rows: list[Row] = []
    for point in options.exits:
        figures: dict[str, list[dict[str, float]]] = defaultdict(list)
        for _ in range(options.rounds):
            for name, (words, fronts) in versions.items():
                figures[name].append(measure(words, options.bundle, fronts, point, options.requests))
        for name, rounds in figures.items():
            medians = {key: round(statistics.median(each[key] for each in rounds), 2) for key in rounds[0]}
            rows.append(
                {"exit": point, "version": name, **medians, "requests": options.requests, "rounds": len(rounds)}
            )
            print(rows[-1], flush=True)
    print(write_results("capacity", options.bundle.name, rows))


if __name__ == "__main__":
    main()
