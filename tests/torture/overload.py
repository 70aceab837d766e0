"""Offers 1, 2, 5 and 10 times the capacity in an open loop, and measures what is still answered within a second.

The capacity is what a closed loop gets in the same run. Goodput counts answers within a second of the moment at which
their request was due. The generator runs on the same processors, and takes more of them the more it sends: the share of
the peak is given as measured, and also of the peak that the processors allow which the generator leaves.

The processor time of a refusal is measured apart: an unfinished upload is all that a caller may have, and a closed loop
is refused meanwhile.

    python -m tests.torture.overload [--seconds 8] [--rounds 3] [--write VARIANT]
"""

from __future__ import annotations

import argparse
import resource
import socket
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence

from adafocus.cli.load.connection import Endpoint
from adafocus.cli.load.plan import Plan
from adafocus.cli.load.report import Sample, percentile
from adafocus.cli.load.run import run
from adafocus.service.cpu import usable_cores
from adafocus.service.decode.watchdog import process_cpu_seconds
from benchmarks.machine import write_results
from benchmarks.service_process import SAMPLES, ServiceProcess, running_service

WITHIN_SECONDS = 1.0
FACTORS = (1, 2, 5, 10)
LEAST_SHARE = {5: 0.9, 10: 0.8}
"""Of the peak's goodput, by how many times the capacity is offered."""
MOST_REFUSAL_MS = 0.2
CLIENTS = 8


def load(service: ServiceProcess, seconds: float, *, rate: float | None = None, clients: int = CLIENTS) -> list[Sample]:
    """Send a load for some seconds: an open loop with a rate, a closed one without."""
    clips = [path.read_bytes() for path in SAMPLES]
    samples: list[Sample] = []
    endpoint = Endpoint.find(service.url)
    if rate is not None:
        run(Plan(service.url, clips, {}, 0, rates=(rate,), step_seconds=seconds), endpoint, samples.append)
        return samples
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        run(Plan(service.url, clips, {}, 4 * clients, concurrency=clients), endpoint, samples.append)
    return samples


def goodput(samples: Sequence[Sample], seconds: float) -> float:
    """Answers per second within the limit."""
    return sum(sample.status == 200 and sample.seconds <= WITHIN_SECONDS for sample in samples) / seconds


def measure(seconds: float, rounds: int) -> list[dict[str, object]]:
    """One row for each factor: medians of the rounds."""
    found: dict[int, list[dict[str, float]]] = {factor: [] for factor in FACTORS}
    with running_service() as service:
        load(service, 2)
        for _ in range(rounds):
            began = time.perf_counter()
            closed = load(service, seconds)
            peak = goodput(closed, time.perf_counter() - began)
            for factor in FACTORS:
                found[factor].append(_step(service, factor * peak, peak, seconds))
                time.sleep(1)
    rows: list[dict[str, object]] = []
    for factor, measured in found.items():
        row = {name: round(statistics.median(one[name] for one in measured), 3) for name in measured[0]}
        rows.append({"factor": factor, **row, "seconds": seconds, "rounds": rounds})
        print(rows[-1], flush=True)
    return rows


def _step(service: ServiceProcess, rate: float, peak: float, seconds: float) -> dict[str, float]:
    cpu, own = process_cpu_seconds(service.pid), _own_cpu()
    samples = load(service, seconds, rate=rate)
    generator, share = (_own_cpu() - own) / seconds, goodput(samples, seconds) / peak
    good = sorted(sample.seconds * 1e3 for sample in samples if sample.status == 200)
    status = Counter(sample.status for sample in samples)
    return {
        "peak": peak,
        "offered": len(samples) / seconds,
        "answered": len(good) / seconds,
        "within_1_s": goodput(samples, seconds),
        "share_of_peak": share,
        "p50_ms": percentile(good, 50),
        "p99_ms": percentile(good, 99),
        "refused": status[503] / seconds,
        "lost": (len(samples) - status[503] - status[200]) / seconds,
        "service_cpu": (process_cpu_seconds(service.pid) - cpu) / seconds,
        "generator_cpu": generator,
        "share_of_peak_beside_generator": share / (1 - generator / usable_cores()),
    }


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def refusal_ms(requests: int) -> float:
    """Processor time of the service for one refusal, while nothing else runs: no place, and so no answer."""
    with running_service(environment={"ADAFOCUS_MAX_UPLOADS_PER_CALLER": "1"}) as service:
        endpoint = Endpoint.find(service.url)
        held = endpoint.requests(Plan(service.url, [SAMPLES[0].read_bytes()], {}, 1))[0]
        with socket.create_connection(endpoint.address) as holder:
            holder.sendall(held[:-1])  # all but the last byte: an upload that never ends
            time.sleep(0.5)
            samples: list[Sample] = []
            plan = Plan(service.url, [path.read_bytes() for path in SAMPLES], {}, requests, concurrency=4)
            run(plan, endpoint, samples.append)
            samples.clear()
            before = process_cpu_seconds(service.pid)
            run(plan, endpoint, samples.append)
            used = process_cpu_seconds(service.pid) - before
    if any(sample.status != 503 for sample in samples):
        print("not all were refused:", Counter(sample.status for sample in samples))
    return used / len(samples) * 1e3


def main() -> int:
    """Measure, print, and say whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", metavar="VARIANT")
    options = parser.parse_args()
    each = refusal_ms(1000)
    print(f"processor time of a refusal: {each:.3f} ms")
    rows = [{**row, "refusal_ms": round(each, 3)} for row in measure(options.seconds, options.rounds)]
    if options.write:
        print(write_results("overload", options.write, rows))
    low = [row for row in rows if float(str(row["share_of_peak"])) < LEAST_SHARE.get(int(str(row["factor"])), 0.0)]
    return 1 if low or each > MOST_REFUSAL_MS else 0


if __name__ == "__main__":
    sys.exit(main())
