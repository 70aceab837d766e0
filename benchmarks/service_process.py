"""Runs a service for a benchmark: starts it, waits until it is ready, measures its processes and ends it."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import av
import httpx

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = sorted((ROOT / "samples").glob("*.mp4"))
READY_SECONDS = 60.0


def one_key_frame() -> bytes:
    """The sample `drone.mp4` encoded again with a single key frame, as many surveillance cameras write."""
    buffer = io.BytesIO()
    with av.open(str(ROOT / "samples" / "drone.mp4")) as source, av.open(buffer, "w", format="mp4") as output:
        given = source.streams.video[0]
        stream = output.add_stream("libx264", rate=given.average_rate, options={"g": "100000", "crf": "26"})
        stream.width, stream.height, stream.pix_fmt = given.width, given.height, "yuv420p"
        for frame in source.decode(given):
            frame.pict_type = av.video.frame.PictureType.NONE
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


@dataclass(frozen=True)
class ServiceProcess:
    """A running service: its address, its process, and how long it took to become ready."""

    url: str
    pid: int
    seconds_to_ready: float

    def workers(self) -> list[int]:
        """Process ids of its decode workers."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def memory_mb(self) -> tuple[float, float]:
        """Megabytes of the service and all its workers; shared pages are split between the processes."""
        return proportional_megabytes(self.pid), sum(proportional_megabytes(pid) for pid in self.workers())


def program(checkout: Path) -> list[str]:
    """The command line of another checkout, with this interpreter and its packages."""
    start = f"import sys; sys.path.insert(0, {str(checkout.resolve())!r}); from adafocus.cli.main import main; main()"
    return [sys.executable, "-c", start]


@contextmanager
def running_service(
    *options: str, program: Path | Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[ServiceProcess]:
    """Start ``adafocus serve`` on a free loopback port and end it with SIGTERM.

    Args:
        options: further command-line options.
        program: the command, or its words; by default the one next to this interpreter.
        environment: further environment variables.
    """
    begun = time.perf_counter()
    words = [program or Path(sys.executable).with_name("adafocus")] if not isinstance(program, Sequence) else program
    command = [*words, "serve", "--port", "0", *options]
    with tempfile.TemporaryFile("w+") as log:
        variables = {**os.environ, **(environment or {})}
        process = subprocess.Popen(command, stderr=log, stdout=subprocess.DEVNULL, env=variables)
        try:
            url = ""
            while not (url := url or _announced_url(log)) or not _ready(url):
                if process.poll() is not None or time.perf_counter() - begun > READY_SECONDS:
                    log.seek(0)
                    raise RuntimeError(f"the service did not become ready: {log.read()[-1000:]}")
                time.sleep(0.005)
            yield ServiceProcess(url, process.pid, time.perf_counter() - begun)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def proportional_megabytes(pid: int) -> float:
    """Proportional set size, which splits shared pages between the processes, so that sums are correct."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else float("nan")


def _announced_url(log: IO[str]) -> str:
    log.seek(0)
    found = re.search(r"http://[0-9.]+:\d+", log.read())
    return found[0] if found else ""


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=1).status_code == 200
    except httpx.TransportError:
        return False
