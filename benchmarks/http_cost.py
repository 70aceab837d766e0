"""Compares the service's processor time per answer, without the graphs, with a bare route that reads the same upload.

A: `adafocus serve` with requests for `exit=balanced` from a few cheap clients (`cli.load`); its decoders do not count.
B: a FastAPI application with one route that reads the upload and answers a few words, behind the same protocol, event
loop and settings of uvicorn. Both run at the same time and get the same clips in turns. User and system time of each
process is read before and after each turn, and for the service that of each thread. The threads that run the graphs are
counted separately; the rest is what the service adds to a bare route and to its model.

A bare route that has the processors to itself finds everything in their caches. The service finds little there: between
any two of its moments the graphs have read all their weights. So the bare route is measured a second time, *beside* the
graphs: it gets as many requests a second as the service answers, while the service answers them.

With ``--before DIR``, the service of another checkout takes its turns, too.

Run ``python -m benchmarks.http_cost [--requests 400] [--rounds 7] [--clients 4] [--before DIR]``.
"""

from __future__ import annotations

import argparse
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request

from adafocus.cli.http_protocol import http_protocol
from adafocus.cli.load.connection import Endpoint
from adafocus.cli.load.plan import Plan
from adafocus.cli.load.report import Sample
from adafocus.cli.load.run import run
from benchmarks.machine import Row, write_results
from benchmarks.service_process import ROOT, SAMPLES, program, running_service

ENGINE = "engine"
"""Name of the thread of the engine's loop, whose work is the service's and not the graphs'."""


@dataclass(slots=True)
class Load:
    """How much is sent in one turn.

    Attributes:
        requests: of a turn.
        clients: that each wait for an answer.
        answers_per_second: that the service reached in its last turn.
    """

    requests: int
    clients: int
    answers_per_second: float = 1.0


def bare_application() -> FastAPI:
    """One route that reads its upload and does nothing with it."""
    app = FastAPI()

    @app.post("/classify")
    async def classify(request: Request) -> dict[str, dict[str, float]]:
        """Answer with the fields that the load generator reads."""
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
        return {"compute": {"gflops": float(size > 0), "gflops_full": 1.0}}

    return app


def serve_bare_application() -> None:
    """Run it in this process; its address goes to stdout."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        bare_application(), http=http_protocol(20.0), ws="none", log_config=None, access_log=False, server_header=False
    )
    uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def bare_process() -> Iterator[tuple[str, int]]:
    """Run the bare application in its own process; yields its address and process id."""
    command = [sys.executable, "-m", __spec__.name if __spec__ else __name__, "--bare"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        if process.stdout is None:
            raise RuntimeError("the bare application has no standard output")
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.send_signal(signal.SIGTERM)


def milliseconds_by_thread(pid: int) -> dict[str, float]:
    """User and system time of each thread of a process, by its id; that of the engine's loop by its name."""
    spent = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        schedule = (task / "schedstat").read_text().split()
        name = (task / "comm").read_text().strip()
        spent[name if name == ENGINE else task.name] = int(schedule[0]) / 1e6
    return spent


def turn(
    url: str, pid: int, clips: list[bytes], parameters: dict[str, str], requests: int, clients: int
) -> list[float]:
    """Milliseconds of processor time per answer outside the graphs, and in them: by thread of the service."""
    samples: list[Sample] = []
    plan = Plan(url, clips, parameters, requests, concurrency=clients)
    before = milliseconds_by_thread(pid)
    run(plan, Endpoint.find(url), samples.append)
    spent = {thread: ms - before.get(thread, 0.0) for thread, ms in milliseconds_by_thread(pid).items()}
    if any(sample.status != 200 for sample in samples):
        raise RuntimeError("a request was not answered with 200")
    return [(spent.pop(str(pid)) + spent.pop(ENGINE, 0.0)) / requests, sum(spent.values()) / requests]


def beside(bare: tuple[str, int], url: str, clips: list[bytes], parameters: dict[str, str], load: Load) -> float:
    """Milliseconds of processor time per answer of the bare route while the service is under load."""
    bare_url, bare_pid = bare
    busy = Plan(url, clips, parameters, load.requests, concurrency=load.clients)
    paced = Plan(bare_url, clips, {}, load.requests, rates=(load.answers_per_second,))
    other = threading.Thread(target=run, args=(busy, Endpoint.find(url), lambda _: None))
    samples: list[Sample] = []
    other.start()
    before = milliseconds_by_thread(bare_pid)
    run(paced, Endpoint.find(bare_url), samples.append)
    spent = sum(milliseconds_by_thread(bare_pid).values()) - sum(before.values())
    other.join()
    return spent / load.requests


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "sky")
    parser.add_argument("--exits", nargs="+", default=["balanced", "full"], help="operating points")
    parser.add_argument("--before", type=Path, help="another checkout")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        serve_bare_application()
        return
    clips = [clip.read_bytes() for clip in SAMPLES]
    rows: list[Row] = []
    with ExitStack() as held:
        versions = {"after": None} if options.before is None else {"before": program(options.before), "after": None}
        services = {
            name: held.enter_context(running_service("--bundle", str(options.bundle), program=words))
            for name, words in versions.items()
        }
        bare_url, bare_pid = held.enter_context(bare_process())
        for point in options.exits:
            parameters = {"exit": point}
            for service in services.values():
                turn(service.url, service.pid, clips, parameters, options.requests // 4, options.clients)
            turn(bare_url, bare_pid, clips, {}, options.requests // 4, options.clients)
            bare: list[float] = []
            bare_beside: list[float] = []
            load = Load(options.requests, options.clients)
            served: dict[str, list[list[float]]] = {name: [] for name in services}
            for _ in range(options.rounds):
                bare.append(sum(turn(bare_url, bare_pid, clips, {}, options.requests, options.clients)))
                for name, service in services.items():
                    began = time.perf_counter()
                    served[name].append(
                        turn(service.url, service.pid, clips, parameters, options.requests, options.clients)
                    )
                    load.answers_per_second = options.requests / (time.perf_counter() - began)
                bare_beside.append(beside((bare_url, bare_pid), services["after"].url, clips, parameters, load))
            for name, turns in served.items():
                loop = [main for main, _ in turns]
                rows.append(
                    {
                        "exit": point,
                        "version": name,
                        "clients": options.clients,
                        "bare_ms": round(statistics.median(bare), 3),
                        "service_ms": round(statistics.median(loop), 3),
                        "graphs_ms": round(statistics.median(others for _, others in turns), 3),
                        "ratio": round(statistics.median(s / b for s, b in zip(loop, bare, strict=True)), 2),
                        "bare_beside_ms": round(statistics.median(bare_beside), 3),
                        "ratio_beside": round(
                            statistics.median(s / b for s, b in zip(loop, bare_beside, strict=True)), 2
                        ),
                        "requests": options.requests,
                        "rounds": options.rounds,
                    }
                )
                print(rows[-1], flush=True)
    print(write_results("http-cost", "sky", rows))


if __name__ == "__main__":
    main()
