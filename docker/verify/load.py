"""Sends real clips for a limited time and compares the service's counters with its responses.

usage: load.py SERVICE_URL PROMETHEUS_URL SECONDS CLIP...

A few clients post clips at every operating point, with and without a cap, and sometimes a body that is not a video.
Exit code 1 if a response has an unexpected status, or if the ratio of spent to full FLOPs in Prometheus differs by more
than one per cent from that of the responses in the same time. Standard library only.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

CLIENTS = 3
SETTLE_SECONDS = 12
"""Two scrapes, so that Prometheus has the last responses."""
TOLERANCE = 0.01
WAYS = ("", "?exit=full", "?exit=fast", "?exit=balanced&trace=true", "?exit=full&deadline_ms=60000")
CAPPED_STEPS = 1.5
"""A cap on the compute that leaves one step, whatever a step of the model costs."""


@dataclass
class Tally:
    """Totals over the responses."""

    statuses: Counter[int] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    spent: float = 0.0
    full: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, status: int, answer: dict[str, object]) -> None:
        """Add one response."""
        with self.lock:
            self.statuses[status] += 1
            compute, predictions = answer.get("compute"), answer.get("predictions")
            if isinstance(compute, dict) and isinstance(predictions, list):
                self.spent += compute["gflops"]
                self.full += compute["gflops_full"]
                self.labels[predictions[0]["label"]] += 1


def post(url: str, body: bytes) -> tuple[int, dict[str, object]]:
    """Post raw bytes and return the status and the parsed response, also for an error status."""
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "video/mp4"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def ways(service: str) -> tuple[str, ...]:
    """Queries of /classify, one of which caps the compute at little more than a step of the served model."""
    with urllib.request.urlopen(f"{service}/model", timeout=10) as response:
        flops = json.load(response)["flops"]
    return (*WAYS, f"?max_gflops={CAPPED_STEPS * (flops['glance'] + flops['focus']) / 1e9:.4f}")


def client(url: str, queries: tuple[str, ...], clips: list[bytes], first: int, until: float, tally: Tally) -> None:
    """Post one clip after the other until the time is up; every twentieth request has a body that is not a video."""
    for number in itertools.count(first, CLIENTS):
        if time.monotonic() > until:
            return
        if number % 20 == 19:
            status, answer = post(f"{url}/classify", b"this is not a video")
        else:
            status, answer = post(f"{url}/classify{queries[number % len(queries)]}", clips[number % len(clips)])
        tally.add(status, answer)


def instant_value(prometheus: str, expression: str) -> float:
    """The single value of an instant query.

    Raises:
        LookupError: it has none.
    """
    query = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query?{query}", timeout=10) as response:
        result = json.load(response)["data"]["result"]
    if len(result) != 1:
        raise LookupError(f"{expression} has {len(result)} values")
    return float(result[0]["value"][1])


def main(service: str, prometheus: str, seconds: float, clips: list[bytes]) -> int:
    """Run the load, print the totals, and return the exit code."""
    tally, queries = Tally(), ways(service)
    began = time.monotonic()
    threads = [
        threading.Thread(target=client, args=(service, queries, clips, first, began + seconds, tally))
        for first in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lasted = time.monotonic() - began
    time.sleep(SETTLE_SECONDS)
    # The cameras count their FLOPs under the same names.
    of_service = f'{{job="adafocus"}}[{int(lasted) + 2 * SETTLE_SECONDS}s]'
    counted = instant_value(
        prometheus,
        f"sum(rate(adafocus_flops_total{of_service})) / sum(rate(adafocus_flops_full_total{of_service}))",
    )
    reported = tally.spent / tally.full
    print(f"load: {sum(tally.statuses.values())} requests in {lasted:.0f} s, statuses {dict(tally.statuses)}")
    print(f"load: labels {dict(tally.labels)}")
    print(f"load: spent of full FLOPs: responses {reported:.5f}, Prometheus {counted:.5f}")
    if set(tally.statuses) != {200, 415}:
        print("load: the only statuses must be 200 and 415", file=sys.stderr)
        return 1
    if abs(counted / reported - 1) > TOLERANCE:
        print(f"load: responses and Prometheus differ by more than {TOLERANCE:.0%}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    videos = [Path(name).read_bytes() for name in sys.argv[4:]]
    sys.exit(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), videos))
