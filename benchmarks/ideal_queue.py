"""Computes the latency that chance alone causes: a queue without any fault, whose requests come at random moments.

Requests come at random (Poisson) at a share of what the servers can do, wait in one queue in the order in which they
came, and each takes a server for the same time. A service on as many cores has a lower p99 under such a load only if it
refuses requests, serves short ones first, or works more cheaply when it is loaded. The ratio of p99 to p50 also depends
on how many requests are sent: a short run seldom meets the long queues that set the p99 of a long one.

Run ``python -m benchmarks.ideal_queue [--requests 600] [--runs 400]``.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
from collections.abc import Iterator

from benchmarks.machine import Row, write_results

SERVERS = (1, 2, 4, 8, 16)
SHARES = (0.5, 0.7, 0.8)
LONG_RUN = 200_000
SEED = 1


def latencies(servers: int, share: float, requests: int, seed: int) -> list[float]:
    """The time from arrival to answer of each request, in service times, the shortest first.

    Args:
        servers: that work at once.
        share: of their capacity that is asked for, below 1.
        requests: how many come.
        seed: of the moments at which they come.

    Raises:
        ValueError: the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, got {share}")
    return sorted(_latencies(servers, share, requests, random.Random(seed)))


def _latencies(servers: int, share: float, requests: int, numbers: random.Random) -> Iterator[float]:
    free_at, now = [0.0] * servers, 0.0
    for _ in range(requests):
        now += numbers.expovariate(share * servers)
        done = max(now, heapq.heappop(free_at)) + 1.0
        heapq.heappush(free_at, done)
        yield done - now


def p99_over_p50(ordered: list[float]) -> float:
    """How many times the median the 99th percentile is."""
    return ordered[int(0.99 * len(ordered))] / ordered[len(ordered) // 2]


def row(servers: int, share: float, requests: int, runs: int) -> Row:
    """One line of the table."""
    long_run = latencies(servers, share, LONG_RUN, SEED)
    ratios = sorted(p99_over_p50(latencies(servers, share, requests, SEED + run)) for run in range(runs))
    return {
        "servers": servers,
        "share": share,
        "p50": round(long_run[LONG_RUN // 2], 2),
        "p99": round(long_run[int(0.99 * LONG_RUN)], 2),
        "p99_over_p50": round(p99_over_p50(long_run), 2),
        "requests": requests,
        "of_a_run": round(statistics.median(ratios), 2),
        "from": round(ratios[runs // 10], 2),
        "to": round(ratios[runs - 1 - runs // 10], 2),
    }


def main() -> None:
    """Compute, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=600, help="of a run; as benchmarks.capacity sends them")
    parser.add_argument("--runs", type=int, default=400)
    options = parser.parse_args()
    rows = [row(servers, share, options.requests, options.runs) for servers in SERVERS for share in SHARES]
    for each in rows:
        print(each)
    print(write_results("ideal-queue", "computed", rows))


if __name__ == "__main__":
    main()
