"""A long mixed load at 70 % of what the service can do: does its memory grow, and do its descriptors?

Twelve callers with addresses of their own, so that decoders are replaced all the time, send good clips, damaged ones,
uploads that are broken off, and requests of the Open Inference Protocol. The memory of the service and of its decoders
is read every few seconds; the slope is fitted to the means of ten parts of the time after the first fifth, and its
interval is that of Student's t.

    python -m tests.torture.long_run [--seconds 3600] [--write VARIANT]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np

from benchmarks.machine import write_results
from benchmarks.service_process import SAMPLES, ServiceProcess, proportional_megabytes, running_service
from tests.e2e.tiny import write_tiny_bundle
from tests.media.named import NAMES, named
from tests.torture.mutants import mutant

CALLERS = 12
LOAD = 0.7
SAMPLE_SECONDS = 5.0
MEASURE_SECONDS = 10.0
PARTS = 10
STUDENTS_T = 2.306
"""95 %, for `PARTS` points and two parameters: eight degrees of freedom."""
MOST_MB_AN_HOUR = 20.0
MOST_WAITING = 64
LIMITS = httpx.Limits(keepalive_expiry=1.0)
"""The service closes an idle connection after five seconds; whoever sends at that moment gets no answer."""


class Mix:
    """Sends requests of all kinds, and counts the answers."""

    def __init__(self, clients: Sequence[httpx.AsyncClient], chance: random.Random) -> None:
        self.statuses: Counter[str] = Counter()
        self._clients = clients
        self._chance = chance
        self._good = [path.read_bytes() for path in SAMPLES]
        self._seeds = [*self._good, *(named(name) for name in NAMES)]

    async def send(self) -> None:
        """Send one request of one of the callers."""
        client, kind = self._chance.choice(self._clients), self._chance.random()
        try:
            if kind < 0.75:
                answer = await client.post("/classify?exit=full", content=self._chance.choice(self._good))
            elif kind < 0.9:
                answer = await client.post("/classify", content=mutant(self._seeds, self._chance))
            elif kind < 0.95:
                answer = await client.post("/v2/models/toy/infer", json=_inference(self._chance.choice(self._good)))
            else:
                await client.post("/classify", content=self._broken_off(), headers={"content-length": "30000"})
                return
            self.statuses[str(answer.status_code)] += 1
        except BrokenOffError:
            self.statuses["broken off"] += 1
        except httpx.HTTPError as error:
            self.statuses[type(error).__name__] += 1

    async def _broken_off(self) -> AsyncIterator[bytes]:
        yield self._good[0][:10_000]
        raise BrokenOffError


class BrokenOffError(Exception):
    """An upload that its sender gives up."""


def _inference(clip: bytes) -> dict[str, object]:
    data = base64.b64encode(clip).decode()
    return {"inputs": [{"name": "video", "shape": [1], "datatype": "BYTES", "data": [data]}]}


async def capacity(mix: Mix) -> float:
    """Requests a second when eight are under way all the time."""
    ends, done = time.monotonic() + MEASURE_SECONDS, 0

    async def again() -> None:
        nonlocal done
        while time.monotonic() < ends:
            await mix.send()
            done += 1

    await asyncio.gather(*(again() for _ in range(8)))
    return done / MEASURE_SECONDS


def sample(service: ServiceProcess) -> tuple[float, float]:
    """Megabytes of the service and its decoders, and the service's descriptors."""
    total = proportional_megabytes(service.pid)
    for pid in service.workers():
        with suppress(OSError):  # it has been replaced
            megabytes = proportional_megabytes(pid)
            total += 0.0 if math.isnan(megabytes) else megabytes
    return total, float(len(list(Path(f"/proc/{service.pid}/fd").iterdir())))


async def run(
    service: ServiceProcess, seconds: float, seed: int
) -> tuple[list[tuple[float, float, float]], Counter[str]]:
    """Load the service; seconds, megabytes and descriptors of each sample, and the answers by status."""
    samples: list[tuple[float, float, float]] = []
    async with AsyncExitStack() as held:
        clients = [
            await held.enter_async_context(
                httpx.AsyncClient(
                    base_url=service.url,
                    timeout=120,
                    transport=httpx.AsyncHTTPTransport(local_address=f"127.0.0.{number + 2}", limits=LIMITS),
                )
            )
            for number in range(CALLERS)
        ]
        mix = Mix(clients, random.Random(seed))
        rate = LOAD * await capacity(mix)
        mix.statuses.clear()
        began = time.monotonic()
        chance, running, due = random.Random(seed), set[asyncio.Task[None]](), began
        while (now := time.monotonic()) < began + seconds:
            if len(samples) * SAMPLE_SECONDS <= now - began:
                samples.append((now - began, *sample(service)))
            if now >= due:
                due = max(due, now - 1.0) + chance.expovariate(rate)
                if len(running) < MOST_WAITING:
                    task = asyncio.create_task(mix.send())
                    running.add(task)
                    task.add_done_callback(running.discard)
            await asyncio.sleep(max(0.0, min(due - time.monotonic(), 1.0)))
        await asyncio.gather(*running)
    print(f"{rate:.1f} requests a second were offered")
    return samples, mix.statuses


def slope_an_hour(samples: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Growth an hour, and half the width of its 95 % interval, from the means of ten parts."""
    parts = np.array_split(np.array(samples), PARTS)
    x, y = np.array([part.mean(axis=0) for part in parts]).T
    slope, offset = np.polyfit(x, y, 1)
    error = math.sqrt(float(((y - slope * x - offset) ** 2).sum()) / (PARTS - 2) / float(((x - x.mean()) ** 2).sum()))
    return float(slope) * 3600, STUDENTS_T * error * 3600


def main() -> int:
    """Run, print, and say whether anything grew or failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", metavar="VARIANT")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        write_tiny_bundle(Path(folder))
        with running_service("--bundle", folder) as service:
            samples, statuses = asyncio.run(run(service, options.seconds, options.seed))
            restarts = httpx.get(f"{service.url}/metrics").text
    settled = [sample for sample in samples if sample[0] > options.seconds / 5]
    slope, half = slope_an_hour([(seconds, megabytes) for seconds, megabytes, _ in settled])
    failed = sum(count for status, count in statuses.items() if status.startswith("500") or status.endswith("Error"))
    row: dict[str, object] = {
        "seconds": options.seconds,
        "requests": sum(statuses.values()),
        "statuses": json.dumps(dict(sorted(statuses.items()))),
        "memory_mb_first": round(settled[0][1], 1),
        "memory_mb_last": round(settled[-1][1], 1),
        "slope_mb_an_hour": round(slope, 2),
        "slope_low": round(slope - half, 2),
        "slope_high": round(slope + half, 2),
        "descriptors_first": settled[0][2],
        "descriptors_last": settled[-1][2],
        "workers_for_another_caller": restarts.partition('restarts_total{reason="caller"} ')[2].partition("\n")[0],
    }
    print(row)
    if options.write:
        print(write_results("long-run", options.write, [row]))
    return int(bool(failed) or slope - half > MOST_MB_AN_HOUR)


if __name__ == "__main__":
    sys.exit(main())
