"""Kills every decode worker, and the template that forks them, several times under load: no request may be lost.

Eight clients send clips, each of which waits for its answer. The next blow falls when the workers are there again and
as many requests have been answered as there are clients, so that a slow machine gets the time that it needs. With
``--every`` the blows fall without waiting for anything, all with SIGKILL; the template is spared, so that there are
workers again in a moment.

    python -m tests.torture.kills [--times 6] [--every SECONDS] [--write VARIANT]
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import suppress

from adafocus.cli.load.connection import Endpoint
from adafocus.cli.load.plan import Plan
from adafocus.cli.load.report import Sample
from adafocus.cli.load.run import run
from benchmarks.machine import write_results
from benchmarks.service_process import SAMPLES, ServiceProcess, running_service
from tests.torture.overload import CLIENTS, load

SIGNALS = (signal.SIGKILL, signal.SIGSEGV)
RECOVERY_SECONDS = 60.0


def kill_workers(service: ServiceProcess, times: int, samples: list[Sample], every: float | None) -> int:
    """Kill all workers, as often as asked; returns how many were killed."""
    killed = 0
    full = len(service.workers())
    for number in range(times):
        if every is None:
            _wait_for_recovery(service, full, samples)
            victims, by = service.workers(), SIGNALS[number % len(SIGNALS)]
        else:
            time.sleep(every)
            victims, by = service.workers()[1:], signal.SIGKILL  # the oldest process is the template
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, by)
                killed += 1
    return killed


def _wait_for_recovery(service: ServiceProcess, workers: int, samples: list[Sample]) -> None:
    answered, ends = len(samples) + CLIENTS, time.monotonic() + RECOVERY_SECONDS
    while (len(samples) < answered or len(service.workers()) < workers) and time.monotonic() < ends:
        time.sleep(0.05)


def main() -> int:
    """Kill, print, and say whether a request was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=6)
    parser.add_argument("--every", type=float, metavar="SECONDS", help="strike without waiting for recovery")
    parser.add_argument("--write", metavar="VARIANT")
    options = parser.parse_args()
    killed: list[int] = []
    samples: list[Sample] = []
    # The queue is long: what waits while decoders start again is not to be refused here.
    with running_service(environment={"ADAFOCUS_MAX_QUEUE_SECONDS": "60", "ADAFOCUS_MAX_QUEUE": "1000"}) as service:
        load(service, 2)
        killer = threading.Thread(
            target=lambda: killed.append(kill_workers(service, options.times, samples, options.every)), daemon=True
        )
        killer.start()
        plan = Plan(service.url, [path.read_bytes() for path in SAMPLES], {}, 4 * CLIENTS, concurrency=CLIENTS)
        endpoint = Endpoint.find(service.url)
        began = time.perf_counter()
        while killer.is_alive():
            run(plan, endpoint, samples.append)
        run(plan, endpoint, samples.append)  # what was under way at the last blow, and what comes after it
        seconds = time.perf_counter() - began
    status = Counter((sample.status, sample.code) for sample in samples)
    lost = sum(sample.status != 200 for sample in samples)
    row = {
        "times": options.times,
        "seconds_between": "recovery" if options.every is None else options.every,
        "workers_killed": sum(killed),
        "requests": len(samples),
        "lost": lost,
        "slowest_ms": round(max(sample.seconds for sample in samples) * 1e3),
        "clients": CLIENTS,
        "seconds": round(seconds, 1),
    }
    print(row, dict(status))
    if options.write:
        print(write_results("killed-workers", options.write, [row]))
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main())
