"""Kills every decode worker, several times, under load: not one request may be lost.

python -m tests.torture.kills [--times 6] [--seconds 20] [--rate 20] [--write VARIANT]
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
from tests.torture.overload import load

SIGNALS = (signal.SIGKILL, signal.SIGSEGV)


def kill_workers(service: ServiceProcess, times: int, seconds: float) -> int:
    """Kill all workers at even intervals; returns how many were killed."""
    killed = 0
    for number in range(times):
        time.sleep(seconds / (times + 1))
        for pid in service.workers():
            with suppress(ProcessLookupError):
                os.kill(pid, SIGNALS[number % len(SIGNALS)])
                killed += 1
    return killed


def main() -> int:
    """Kill, print, and say whether a request was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--write", metavar="VARIANT")
    options = parser.parse_args()
    killed: list[int] = []
    # The queue is long: what waits while decoders start again is not to be refused here.
    with running_service(environment={"ADAFOCUS_MAX_QUEUE_SECONDS": "60", "ADAFOCUS_MAX_QUEUE": "1000"}) as service:
        load(service, 2)
        killer = threading.Thread(
            target=lambda: killed.append(kill_workers(service, options.times, options.seconds)), daemon=True
        )
        killer.start()
        samples: list[Sample] = []
        clips = [path.read_bytes() for path in SAMPLES]
        plan = Plan(service.url, clips, {}, 0, rates=(options.rate,), step_seconds=options.seconds)
        run(plan, Endpoint.find(service.url), samples.append)
        killer.join()
    status = Counter((sample.status, sample.code) for sample in samples)
    lost = sum(sample.status != 200 for sample in samples)
    row = {
        "times": options.times,
        "workers_killed": sum(killed),
        "requests": len(samples),
        "lost": lost,
        "slowest_ms": round(max(sample.seconds for sample in samples) * 1e3),
        "rate": options.rate,
        "seconds": options.seconds,
    }
    print(row, dict(status))
    if options.write:
        print(write_results("kills", options.write, [row]))
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main())
