"""Compares the service's processor time per answer, without the graphs, with a bare route that reads the same upload.

A: `adafocus serve` with requests for `exit=balanced` from a few cheap clients (`cli.load`); its decoders do not count.
B: a FastAPI application with one route that reads the upload and answers a few words, behind the same protocol, event
loop and settings of uvicorn. Both run at the same time and get the same clips in turns. User and system time of each
process is read before and after each turn, and for the service that of each thread. The threads that run the graphs are
counted separately; the rest is what the service adds to a bare route and to its model.

A bare route that has the processors to itself finds everything in their caches. The service finds little there: between
any two of its moments the graphs have read all their weights. So the bare route is measured a second time, *beside* the
graphs: it gets as many requests a second as the service answers, while the service answers them.

With ``--before DIR``, the service of another checkout takes its turns, too; ``of_before`` compares the two by rounds.
All services are started several times: where a process has its memory makes a difference of several percent.

Run ``python -m benchmarks.http_cost [--requests 120] [--rounds 2] [--starts 5] [--clients 4] [--before DIR]``.
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
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class Measured:
    """Milliseconds per answer of all turns with one operating point.

    Attributes:
        bare: of the bare route.
        bare_beside: of it, beside the graphs.
        served: of each version of the service: outside the graphs, and in them.
    """

    bare: list[float] = field(default_factory=list)
    bare_beside: list[float] = field(default_factory=list)
    served: dict[str, list[list[float]]] = field(default_factory=lambda: defaultdict(list))

    def rows(self) -> Iterator[Row]:
        """Medians over the turns, a row a version; ratios are those of turns of the same round."""
        first = [outside for outside, _ in self.served[max(self.served)]]  # "before", if there is one
        for name, turns in sorted(self.served.items(), reverse=True):
            main = [outside for outside, _ in turns]
            yield {
                "version": name,
                "bare_ms": round(statistics.median(self.bare), 3),
                "service_ms": round(statistics.median(main), 3),
                "of_before": round(_ratio(main, first), 3),
                "graphs_ms": round(statistics.median(graphs for _, graphs in turns), 3),
                "ratio": round(_ratio(main, self.bare), 2),
                "bare_beside_ms": round(statistics.median(self.bare_beside), 3),
                "ratio_beside": round(_ratio(main, self.bare_beside), 2),
            }


def _ratio(some: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(some, others, strict=True))


def measure(options: argparse.Namespace, clips: list[bytes], measured: dict[str, Measured]) -> None:
    """Start the services anew, and let them take their turns; the last one started also runs beside the bare route."""
    requests, clients = options.requests, options.clients
    versions = {"after": None} if options.before is None else {"before": program(options.before), "after": None}
    with ExitStack() as held:
        services = {
            name: held.enter_context(running_service("--bundle", str(options.bundle), program=words))
            for name, words in versions.items()
        }
        bare_url, bare_pid = held.enter_context(bare_process())
        for point, result in measured.items():
            parameters, load = {"exit": point}, Load(requests, clients)
            for service in services.values():
                turn(service.url, service.pid, clips, parameters, requests // 4, clients)
            turn(bare_url, bare_pid, clips, {}, requests // 4, clients)
            for number in range(options.rounds):
                result.bare.append(sum(turn(bare_url, bare_pid, clips, {}, requests, clients)))
                for name in list(services)[:: 1 if number % 2 else -1]:  # whatever else the machine does, favours none
                    began, service = time.perf_counter(), services[name]
                    result.served[name].append(turn(service.url, service.pid, clips, parameters, requests, clients))
                    load.answers_per_second = requests / (time.perf_counter() - began)
                result.bare_beside.append(beside((bare_url, bare_pid), services["after"].url, clips, parameters, load))


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=120, help="of a turn")
    parser.add_argument("--rounds", type=int, default=2, help="after each start")
    parser.add_argument("--starts", type=int, default=5, help="of all services, which differ from start to start")
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
    measured = {point: Measured() for point in options.exits}
    for _ in range(options.starts):
        measure(options, clips, measured)
    counts = {name: getattr(options, name) for name in ("clients", "requests", "rounds", "starts")}
    rows: list[Row] = [{"exit": point, **row, **counts} for point, result in measured.items() for row in result.rows()]
    print(*rows, sep="\n")
    print(write_results("http-cost", "sky", rows))


if __name__ == "__main__":
    main()
