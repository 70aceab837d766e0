"""Compares the processor time per request of `adafocus bench`'s load generator with a general HTTP client.

A dummy server in another process reads each upload and answers at once with a classification, so that only the
generator is measured. 1, 16 and 64 clients send the sample clips over loopback. Both generators take turns in one
process, and medians of their processor time (user and system) are reported. The system's share is mostly the copying
of the clip into the socket.

Run ``python -m benchmarks.load_generator [--requests 2000] [--rounds 5]``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe

import httpx

from adafocus.cli.load.connection import Endpoint
from adafocus.cli.load.plan import Plan
from adafocus.cli.load.report import Sample, report
from adafocus.cli.load.run import run
from benchmarks.machine import write_results
from benchmarks.service_process import SAMPLES

CLIENTS = (1, 16, 64)
ANSWER = json.dumps(
    {
        "id": "0" * 32,
        "predictions": [{"label": f"class {index}", "index": index, "score": 0.2} for index in range(5)],
        "exit": {
            "point": "balanced",
            "reason": "confident",
            "step": 1,
            "steps": 8,
            "confidence": 0.9,
            "threshold": 0.8,
        },
        "compute": {"gflops": 0.5, "gflops_full": 4.0, "frames_used": 1, "frames_decoded": 30},
        "timing_ms": {"total": 10.0, "upload": 1.0, "queue": 1.0, "decode": 5.0, "glance": 2.0, "focus": 1.0},
    }
).encode()


class DummyServer(asyncio.Protocol):
    """Reads requests by their Content-Length and answers each with the same classification."""

    _RESPONSE = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
    )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with the first request."""
        self._transport = transport
        self._head = b""
        self._left = 0

    def data_received(self, data: bytes) -> None:
        """Count the remaining bytes of the body."""
        if self._left == 0:
            self._head += data
            head, found, body = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            self._head = b""
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            self._left, data = int(length.split(b":")[1]), body
        self._left -= len(data)
        if self._left == 0 and isinstance(self._transport, asyncio.WriteTransport):
            self._transport.write(self._RESPONSE)


def serve(pipe: Pipe) -> None:
    """Serve until the pipe is closed by the other side."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(DummyServer, "127.0.0.1", 0, family=socket.AF_INET)
        pipe.send(server.sockets[0].getsockname()[1])
        ended = asyncio.Event()
        loop.add_reader(pipe.fileno(), ended.set)
        await ended.wait()

    asyncio.run(main())


def with_httpx(plan: Plan) -> None:
    """Run the same closed loop with a general client."""

    async def main() -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(base_url=plan.url, timeout=60.0, limits=limits) as client:
            numbers = iter(range(plan.requests))

            async def user() -> None:
                for number in numbers:
                    answer = await client.post("/classify", content=plan.clips[number % len(plan.clips)])
                    float(answer.json()["compute"]["gflops"])

            await asyncio.gather(*(user() for _ in range(plan.concurrency)))

    asyncio.run(main())


def with_bench(plan: Plan) -> None:
    """Run the closed loop of `adafocus bench`."""
    samples: list[Sample] = []
    run(plan, Endpoint.find(plan.url), samples.append)
    summary = report(samples, 100.0, plan)
    if summary.answered != plan.requests:
        raise RuntimeError(f"{plan.requests - summary.answered} requests were not answered: {summary.refusals}")


def cpu_ms(work: Callable[[Plan], None], plan: Plan) -> tuple[float, float, float]:
    """Milliseconds per request: of processor time, of that in the system, and of the clock."""
    wall, before = time.perf_counter(), _times()
    work(plan)
    user, system = (after - earlier for after, earlier in zip(_times(), before, strict=True))
    wall = time.perf_counter() - wall
    return (user + system) * 1e3 / plan.requests, system * 1e3 / plan.requests, wall * 1e3 / plan.requests


def _times() -> tuple[float, float]:
    times = os.times()
    return times.user, times.system


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    theirs.close()
    url = f"http://127.0.0.1:{ours.recv()}"
    rows = []
    for clients in CLIENTS:
        plan = Plan(url, [clip.read_bytes() for clip in SAMPLES], {}, options.requests, concurrency=clients)
        taken: dict[str, list[tuple[float, float, float]]] = {"httpx": [], "adafocus bench": []}
        for _ in range(options.rounds):
            taken["httpx"].append(cpu_ms(with_httpx, plan))
            taken["adafocus bench"].append(cpu_ms(with_bench, plan))
        for generator, figures in taken.items():
            total, system, wall = (statistics.median(column) for column in zip(*figures, strict=True))
            rows.append(
                {
                    "generator": generator,
                    "clients": clients,
                    "cpu_ms_per_request": round(total, 3),
                    "system_ms_per_request": round(system, 3),
                    "requests_per_s": round(1e3 / wall),
                    "requests": options.requests,
                    "rounds": options.rounds,
                }
            )
            print(rows[-1], flush=True)
    ours.close()
    server.join(timeout=10)
    print(write_results("load-generator", "loopback", rows))


if __name__ == "__main__":
    main()
