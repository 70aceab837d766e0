"""Watches fifty cameras with `adafocus watch`, and breaks the stream of one in every way that cables and cameras break.

The cameras are RTSP on loopback, at their own pace: the samples in 640 × 360 at 15 frames/s and 1 Mbit/s with a key
frame every 2 s. The command runs as a process of its own with the shipped bundle. Counted are its processor time, apart
for the process with the model, the demuxers and the decoders, and memory: the share of each process in what it maps
(PSS). The cameras' own processor time is not part of it, but they share the machine with what is measured.

Run ``python -m benchmarks.cameras [--cameras 50] [--seconds 120] [--faults] [--note loaded-machine]``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.camera_source import Cable, PacedStream, camera_clip
from benchmarks.machine import write_results
from benchmarks.service_process import ROOT
from tests.service.live.rtsp_server import Camera, serving_rtsp

SIZE, BIT_RATE, CLIP_SECONDS = (640, 360), "1000000", 20
WINDOW_S = 10

Line = dict[str, object]


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--faults", action="store_true", help="break the stream of one camera instead")
    parser.add_argument("--note", default="sky", help="part of the file's name, such as loaded-machine")
    given = parser.parse_args()
    if given.faults:
        rows = asyncio.run(faults())
        print(write_results("camera-faults", given.note, rows))
        return
    row = asyncio.run(many(given.cameras, given.seconds))
    print(write_results("cameras", given.note, [row]))


@dataclass
class Watching:
    """The command, and the rows that it has printed."""

    process: asyncio.subprocess.Process
    rows: list[Line] = field(default_factory=list)
    dropped: int = 0
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def read(self) -> None:
        """Read rows until the command ends."""
        if self.process.stdout is None:
            raise ValueError("the rows of the command are not piped")
        async for line in self.process.stdout:
            row = json.loads(line)
            row["arrived"] = time.monotonic()
            async with self.news:
                self.rows.append(row)
                self.news.notify_all()

    async def until(self, condition: Callable[[list[Line]], bool]) -> None:
        """Wait for rows."""
        async with self.news:
            await self.news.wait_for(lambda: condition(self.rows))

    def of(self, kind: str) -> list[Line]:
        """The rows of a type."""
        return [row for row in self.rows if row["type"] == kind]


@contextlib.asynccontextmanager
async def watching(urls: dict[str, str], window_s: float) -> AsyncIterator[Watching]:
    """Run the command around a block."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        file = Path(folder) / "cameras.toml"
        tables = (f'[[camera]]\nname = "{name}"\nurl = "{url}"\nwindow_s = {window_s}\n' for name, url in urls.items())
        file.write_text("\n".join(tables), encoding="utf-8")
        told = stack.enter_context((Path(folder) / "told").open("w+"))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "adafocus", "watch", str(file), "--port", "0"),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=told.fileno(),
            limit=1 << 20,
        )
        watched = Watching(process)
        reading = asyncio.create_task(watched.read())
        try:
            yield watched
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()
            await reading
            told.seek(0)
            watched.dropped = sum(map(int, re.findall(r" windows, (\d+) dropped", told.read())))


async def many(cameras: int, seconds: float) -> Line:
    """Watch many cameras for some time after each has sent a window."""
    stream = PacedStream(camera_clip(CLIP_SECONDS, SIZE, BIT_RATE))
    offsets = iter(range(1_000_000))

    def next_camera() -> Camera:
        return Camera(stream.clip, live=partial(stream.play, next(offsets) * WINDOW_S / cameras % WINDOW_S))

    names = [f"camera-{number:02}" for number in range(cameras)]
    async with serving_rtsp(next_camera) as server, watching(dict.fromkeys(names, server.url()), WINDOW_S) as watched:
        began = time.monotonic()
        await watched.until(lambda rows: len({row["camera"] for row in rows if row["type"] == "window"}) == cameras)
        start, own = time.monotonic(), time.process_time()
        before, first = processes(watched.process.pid), len(watched.rows)
        await asyncio.sleep(seconds)
        after, took, own = processes(watched.process.pid), time.monotonic() - start, time.process_time() - own
        rows = watched.rows[first:]
    lags = sorted(float(str(row["lag_s"])) for row in rows if row["type"] == "window")
    due = cameras * took / WINDOW_S
    cpu = {
        kind: sum(after[pid].cpu_s - before[pid].cpu_s for pid in after if pid in before and after[pid].kind == kind)
        for kind in ("model", "demuxer", "decoder")
    }
    memory = {kind: sum(it.memory_mb for it in after.values() if it.kind == kind) for kind in cpu}
    total = sum(cpu.values())
    row: Line = {
        "cameras": cameras,
        "window_s": WINDOW_S,
        "seconds": round(took),
        "all_live_after_s": round(start - began, 1),
        "windows": len(lags),
        "windows_due": round(due),
        "dropped_in_all": watched.dropped,
        "lost": len([it for it in rows if it["type"] == "lost"]),
        "lag_p50_s": statistics.median(lags),
        "lag_p95_s": lags[int(0.95 * len(lags))],
        "lag_max_s": lags[-1],
        "cores_model": round(cpu["model"] / took, 3),
        "cores_demuxers": round(cpu["demuxer"] / took, 3),
        "cores_decoders": round(cpu["decoder"] / took, 3),
        "share_of_demuxing": round(cpu["demuxer"] / total, 3),
        "cpu_ms_per_window": round(1000 * total / max(1, len(lags)), 1),
        **{f"memory_mb_{kind}": round(value) for kind, value in memory.items()},
        "cores_of_the_cameras": round(own / took, 3),
    }
    print(row)
    return row


@dataclass(frozen=True)
class Process:
    """What a process has used."""

    kind: str
    cpu_s: float
    memory_mb: float


def processes(root: int) -> dict[int, Process]:
    """The command and the processes under it, by what they do."""
    found, tick = {}, os.sysconf("SC_CLK_TCK")
    for pid in _family(root):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            kind = "demuxer" if b"live.demuxer" in command else "decoder" if b"decode.worker" in command else "model"
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
            shares = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            pss = next(int(line.split()[1]) for line in shares if line.startswith("Pss:"))
            found[pid] = Process(kind, (int(fields[11]) + int(fields[12])) / tick, pss * 1024 / 1e6)
    return found


def _family(root: int) -> list[int]:
    family = [root]
    for pid in family:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                family += [int(child) for child in task.read_text().split()]
    return family


async def faults() -> list[Line]:
    """Break the stream of one camera; returns a row for each fault."""
    small = PacedStream(camera_clip(CLIP_SECONDS, SIZE, BIT_RATE))
    large = PacedStream(camera_clip(CLIP_SECONDS, (1280, 720), BIT_RATE))
    rows = []
    for fault, seconds in (
        ("connection cut in the middle of a packet", 0.0),
        ("another resolution", 5.0),
        ("cable pulled", 30.0),
        ("camera off", 30.0),
    ):
        rows.append(await _one_fault(fault, seconds, small, large))
        print(rows[-1], flush=True)
    return rows


async def _one_fault(fault: str, seconds: float, small: PacedStream, large: PacedStream) -> Line:
    window_s = 2
    stream, cut = small, asyncio.Event()

    async def play() -> AsyncIterator[bytes]:
        async for data in stream.play():
            if cut.is_set():
                yield data[: len(data) // 2]
                return
            yield data

    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving_rtsp(lambda: Camera(stream.clip, live=play)))
        cable = await stack.enter_async_context(Cable(server.port).laid())
        watched = await stack.enter_async_context(watching({"gate": f"rtsp://127.0.0.1:{cable.port}/"}, window_s))
        await watched.until(lambda rows: len([row for row in rows if row["type"] == "window"]) >= 3)
        windows = len(watched.of("window"))
        if fault == "cable pulled":
            cable.pull()
            await asyncio.sleep(seconds)
        else:
            cut.set()
            await watched.until(lambda rows: any(row["type"] == "lost" for row in rows))
            if fault == "another resolution":
                stream = large
            if seconds:
                cable.pull()
                await asyncio.sleep(seconds)
            cut.clear()
        cable.plug()
        back = time.monotonic()
        await watched.until(lambda rows: len([row for row in rows if row["type"] == "connected"]) >= 2)
        seen = len(watched.of("window"))
        await watched.until(lambda rows: len([row for row in rows if row["type"] == "window"]) > seen)
        lost = watched.of("lost")
        return {
            "fault": fault,
            "away_s": seconds,
            "windows_before": windows,
            "lost": len(lost),
            "reasons": "; ".join(sorted({str(row["reason"]) for row in lost})),
            "window_after_s": round(float(str(watched.of("window")[-1]["arrived"])) - back, 1),
        }


if __name__ == "__main__":
    main()
