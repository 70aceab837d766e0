"""A day of one camera, through the real demuxer and decoders: the source is fast, and the clocks are simulated."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import av
import psutil
import pytest
import pytest_asyncio

from adafocus.service.live.camera import CameraWatch
from adafocus.service.live.config import Camera
from adafocus.service.runtime import Runtime
from adafocus.service.telemetry.camera_metrics import CameraMetrics
from tests.e2e.tiny import write_parts
from tests.service.server import make_settings, serving
from tests.service.sources.servers import Request, head, serving_http

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOUR_S = 3600
WINDOW_S = 120
WINDOWS = 24 * HOUR_S // WINDOW_S
MOST_GROWTH_BYTES = 24 << 20
"""Of all processes together, from the sixth hour to the last. The day's windows are several times as much."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runtime]:
    async with serving(make_settings(tmp_path_factory.mktemp("bundles"))) as running:
        assert running.service.runtime is not None
        yield running.service.runtime


class EndlessStream:
    """MPEG-TS without an end: the packets of some clips of a window's length, at one frame per second.

    It begins where the clock of MPEG-TS, which has 33 bits, starts again in the course of the day.
    """

    def __init__(self, clips: dict[str, Path]) -> None:
        self._buffer = bytearray()
        self._output = av.open(self, "w", format="mpegts", options={"mpegts_copyts": "1"})
        self._packets: dict[str, list[tuple[bytes, int, bool]]] = {}
        for label, path in clips.items():
            with av.open(str(path)) as source:
                stream = source.streams.video[0]
                self._packets[label] = [
                    (bytes(packet), round(packet.dts * packet.time_base), packet.is_keyframe)
                    for packet in source.demux(stream)
                    if packet.dts is not None and packet.time_base is not None
                ]
        self._stream = self._output.add_mux_stream("mpeg2video", time_base=Fraction(1, 90_000))
        self._next_s = (1 << 33) // 90_000 - 12 * HOUR_S

    def write(self, data: bytes) -> int:
        self._buffer += data
        return len(data)

    def window(self, label: str) -> bytes:
        """The bytes of the next window."""
        for data, second, key in self._packets[label]:
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = self._stream, Fraction(1, 90_000), key
            packet.pts = packet.dts = (self._next_s + second) * 90_000
            self._output.mux(packet)
        self._next_s += WINDOW_S
        data, self._buffer = bytes(self._buffer), bytearray()
        return data


def memory() -> int:
    """What this process and those under it hold for themselves, bytes."""
    gc.collect()
    this = psutil.Process()
    return sum(process.memory_full_info().uss for process in (this, *this.children(recursive=True)))


async def test_a_day_of_windows_leaves_memory_as_it_was(runtime: Runtime, tmp_path: Path) -> None:
    clips = {
        label: write_parts(tmp_path / f"{label}.mkv", [(label, WINDOW_S)], fps=1, codec="mpeg2video")
        for label in ("dark", "bright")
    }
    source = EndlessStream(clips)
    answered, over = asyncio.Semaphore(2), asyncio.Event()
    sent = seen = 0
    leap_s = 0.0
    sizes: dict[int, int] = {}
    rows: list[dict[str, object]] = []

    class Output:
        def put(self, row: dict[str, object]) -> None:
            nonlocal seen, leap_s
            if row["type"] != "window":
                rows.append(row)
                return
            seen += 1
            if seen in (WINDOWS // 4, WINDOWS - 2):
                sizes[seen] = memory()
            leap_s = {WINDOWS // 8: 3600.0, WINDOWS // 3: -7200.0}.get(seen, leap_s)  # somebody sets the clock
            answered.release()
            if seen == WINDOWS - 1:  # the last one is complete only when another begins
                over.set()

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(head(200, None, Connection="close", Content_Type="video/mp2t"))
        while sent < WINDOWS:
            await answered.acquire()
            sent += 1
            writer.write(source.window("dark" if sent <= WINDOWS // 2 else "bright"))
            await writer.drain()
        await over.wait()

    async with serving_http(handle) as server:
        camera = Camera(name="gate", url=server.url("/live.ts"), window_s=WINDOW_S - 1, exit="full", hold_s=600)
        watched = CameraWatch(
            camera,
            runtime,
            Output(),
            CameraMetrics(["gate"], 0.0),
            wall_clock=lambda: 1_700_000_000.0 + WINDOW_S * sent + leap_s,
            clock=lambda: float(WINDOW_S * sent),
        )
        running = asyncio.create_task(watched.run())
        await asyncio.wait_for(over.wait(), 250)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    state = watched.state
    assert (state.windows, state.dropped, state.failed, state.connections) == (WINDOWS - 1, 0, 0, 1)
    assert sizes[WINDOWS - 2] - sizes[WINDOWS // 4] < MOST_GROWTH_BYTES, sizes
    told = [(row["type"], row.get("label")) for row in rows if row["type"] in ("begin", "end")]
    assert told == [("begin", "dark"), ("end", "dark"), ("begin", "bright"), ("end", "bright")] or told == [
        ("begin", "dark"),
        ("begin", "bright"),
        ("end", "dark"),
        ("end", "bright"),
    ], "setting the clock neither ended an event nor began one"
    dark = next(row for row in rows if row["type"] == "end")
    hours = (datetime.fromisoformat(str(dark["end"])) - datetime.fromisoformat(str(dark["start"]))).total_seconds()
    assert hours / HOUR_S == pytest.approx(12, abs=0.2)
