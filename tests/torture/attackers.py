"""One attacker of each kind beside one honest caller: how much later are the honest answers?

The attacker speaks from 127.0.0.2 and the honest caller from 127.0.0.1, so the service can tell them apart. It is a
process of its own, with a low priority, because its machine would not be the service's. The honest caller sends a clip
after the other; its 99th percentile is compared with that of the seconds before, without an attacker.

    python -m tests.torture.attackers [--seconds 15] [--only NAME] [--write VARIANT]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from multiprocessing.synchronize import Event
from pathlib import Path
from urllib.parse import urlsplit

from adafocus.cli.load.report import percentile
from benchmarks.machine import write_results
from benchmarks.service_process import SAMPLES, running_service
from tests.torture.costly import costly_video

ATTACKER = "127.0.0.2"
MOST_TIMES_SLOWER = 2.0
WARM_UP_SECONDS = 2.0
ATTACKERS_NICENESS = 10

Stop = Event
Address = tuple[str, int]


def head(length: int, path: str = "/classify") -> bytes:
    """The head of a request with a body of this length."""
    return f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n".encode()


def connect(address: Address) -> socket.socket:
    """A connection of the attacker."""
    return socket.create_connection(address, timeout=5, source_address=(ATTACKER, 0))


def idle(address: Address, stop: Stop) -> None:
    """Opens connections and says nothing; opens another for each that is closed."""
    _hold(address, stop, 1100, lambda _: None)


def slow_heads(address: Address, stop: Stop) -> None:
    """Sends heads at a byte a second."""
    _hold(address, stop, 200, lambda link: link.send(b"P"))


def slow_bodies(address: Address, stop: Stop) -> None:
    """Uploads at 1.2 kB a second, just over the lowest rate."""
    body = SAMPLES[0].read_bytes()
    sent: dict[int, int] = {}

    def send(link: socket.socket) -> None:
        at = sent.get(link.fileno(), 0)
        if not at:
            link.send(head(len(body)))
        sent[link.fileno()] = at + link.send(body[at : at + 1200])

    _hold(address, stop, 200, send)


def _hold(address: Address, stop: Stop, count: int, every_second: Callable[[socket.socket], object]) -> None:
    links: list[socket.socket] = []
    while not stop.wait(0.2):
        for link in tuple(links):
            try:
                every_second(link)
                link.setblocking(False)
                ended = link.recv(4096) == b""
            except BlockingIOError:
                ended = False
            except OSError:
                ended = True
            if ended:
                link.close()
                links.remove(link)
        with suppress(OSError):
            while len(links) < count and not stop.is_set():
                links.append(connect(address))
        stop.wait(0.8)
    for link in links:
        link.close()


def costly_videos(address: Address, stop: Stop) -> None:
    """Sends videos of a few kilobytes that take long to decode, six at once."""
    _post_for_ever(address, stop, [costly_video()], clients=6)


def large_videos(address: Address, stop: Stop) -> None:
    """Sends videos of few kilobytes whose pictures are 5K, six at once: each decoder needs 200 MB and more."""
    _post_for_ever(address, stop, [costly_video(60, 5120, 2880)], clients=6)


def flood(address: Address, stop: Stop) -> None:
    """Sends honest clips from 64 clients at once, many times what can be answered."""
    _post_for_ever(address, stop, [path.read_bytes() for path in SAMPLES], clients=64)


def rubbish(address: Address, stop: Stop) -> None:
    """Sends damaged clips from eight clients."""
    chance = random.Random(1)
    damaged = []
    for path in SAMPLES:
        data = bytearray(path.read_bytes())
        for _ in range(200):
            data[chance.randrange(len(data))] = chance.randrange(256)
        damaged.append(bytes(data))
    _post_for_ever(address, stop, damaged, clients=8)


def json_bombs(address: Address, stop: Stop) -> None:
    """Sends requests of the Open Inference Protocol whose JSON is 20 MB of escapes."""
    body = b'{"inputs":[{"name":"video","shape":[1],"datatype":"BYTES","data":["' + b"\\u0041" * 3_300_000 + b'"]}]}'
    _post_for_ever(address, stop, [body], clients=3, path="/v2/models/sky/infer")


def _post_for_ever(address: Address, stop: Stop, bodies: list[bytes], *, clients: int, path: str = "/classify") -> None:
    """One thread and a selector: the attacker must not take more of the machine than it has to."""
    requests = [head(len(body), path) + body for body in bodies]
    chooser = selectors.DefaultSelector()
    unsent: dict[socket.socket, memoryview] = {}
    number = 0

    def start() -> None:
        nonlocal number
        with suppress(OSError):
            link = connect(address)
            link.setblocking(False)
            unsent[link] = memoryview(requests[number % len(requests)])
            number += 1
            chooser.register(link, selectors.EVENT_WRITE | selectors.EVENT_READ)

    def end(link: socket.socket) -> None:
        chooser.unregister(link)
        del unsent[link]
        link.close()

    while not stop.is_set():
        while len(unsent) < clients:
            start()
            if not unsent:
                break
        for key, events in chooser.select(0.2):
            link: socket.socket = key.fileobj  # type: ignore[assignment] # only sockets are registered
            try:
                if events & selectors.EVENT_READ:
                    link.recv(1 << 16)
                    end(link)
                elif unsent[link]:
                    unsent[link] = unsent[link][link.send(unsent[link]) :]
                    if not unsent[link]:
                        chooser.modify(link, selectors.EVENT_READ)
            except BlockingIOError:
                continue
            except OSError:
                end(link)
    for link in tuple(unsent):
        end(link)


ATTACKS: dict[str, Callable[[Address, Stop], None]] = {
    function.__name__: function
    for function in (idle, slow_heads, slow_bodies, costly_videos, large_videos, flood, rubbish, json_bombs)
}


def honest(address: Address, seconds: float) -> tuple[list[float], int]:
    """Milliseconds of the answers to an honest caller, and how many requests were not answered with 200."""
    clips = [path.read_bytes() for path in SAMPLES]
    found: list[float] = []
    failed = number = 0
    link = HTTPConnection(*address, timeout=60)
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        began = time.perf_counter()
        number += 1
        try:
            link.request("POST", "/classify", clips[number % len(clips)])
            answer = link.getresponse()
            answer.read()
        except (OSError, HTTPException):
            link.close()
            failed += 1
            continue
        if answer.status == 200:
            found.append((time.perf_counter() - began) * 1e3)
        else:
            failed += 1
            time.sleep(0.05)
    link.close()
    return sorted(found), failed


@contextmanager
def attack(name: str, address: Address) -> Iterator[None]:
    """An attack for the length of the block."""
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    process = context.Process(target=_attack, args=(name, address, stop), daemon=True)
    process.start()
    try:
        yield
    finally:
        stop.set()
        process.join(30)
        process.kill()


def _attack(name: str, address: Address, stop: Stop) -> None:
    os.nice(ATTACKERS_NICENESS)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    ATTACKS[name](address, stop)


def measure(names: list[str], seconds: float) -> list[dict[str, object]]:
    """One row for each kind of attacker; each is compared with the quiet seconds just before it."""
    rows: list[dict[str, object]] = []
    for name in names:
        with running_service() as service:
            parts = urlsplit(service.url)
            address = (str(parts.hostname), int(parts.port or 80))
            honest(address, WARM_UP_SECONDS)
            quiet, _ = honest(address, seconds)
            with attack(name, address):
                time.sleep(WARM_UP_SECONDS)
                beside, failed = honest(address, seconds)
            descriptors = len(list(Path(f"/proc/{service.pid}/fd").iterdir()))
        row: dict[str, object] = {"attacker": name}
        for which, answers in (("quiet", quiet), ("attacked", beside)):
            row |= {f"{which}_p{percent}_ms": round(percentile(answers, percent), 1) for percent in (50, 99)}
        times = percentile(beside, 99) / percentile(quiet, 99)
        row |= {"times_slower": round(times, 2), "answered": len(beside), "not_answered": failed}
        row |= {"descriptors_after": descriptors, "seconds": seconds}
        rows.append(row)
        print(row, flush=True)
    return rows


def main() -> int:
    """Measure, print, and say whether the limit holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--only", choices=sorted(ATTACKS), action="append")
    parser.add_argument("--write", metavar="VARIANT")
    options = parser.parse_args()
    rows = measure(options.only or list(ATTACKS), options.seconds)
    if options.write:
        print(write_results("attackers", options.write, rows))
    return int(any(row["not_answered"] or float(str(row["times_slower"])) > MOST_TIMES_SLOWER for row in rows))


if __name__ == "__main__":
    sys.exit(main())
