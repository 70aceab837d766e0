"""Cameras watched through the real demuxer, the real decoders and a tiny model."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from adafocus.service.live.camera import FIRST_PAUSE_SECONDS, CameraWatch
from adafocus.service.live.config import Camera
from adafocus.service.live.demuxer_process import StreamEndedError, StreamWindow, demuxing
from adafocus.service.runtime import Runtime
from adafocus.service.telemetry.camera_metrics import CameraMetrics
from tests.e2e.tiny import write_parts
from tests.media.clips import make_clip
from tests.service.live.rtsp_server import Camera as RtspCamera
from tests.service.live.rtsp_server import serving_rtsp
from tests.service.server import make_settings, serving
from tests.service.sources.servers import Request, head, serving_http
from tests.video.clips import number_of, read_frames

pytestmark = pytest.mark.asyncio(loop_scope="module")

PARTS = (("dark", 6.0), ("bright", 6.0), ("grey", 4.0))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runtime]:
    async with serving(make_settings(tmp_path_factory.mktemp("bundles"))) as running:
        assert running.service.runtime is not None
        yield running.service.runtime


class Rows(list[dict[str, Any]]):
    """Remembers rows, and calls ``after`` for each."""

    after: Callable[[dict[str, Any]], None] = staticmethod(lambda row: None)

    def put(self, row: dict[str, Any]) -> None:
        self.append(row)
        self.after(row)

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [row for row in self if row["type"] in kinds]


def watch(runtime: Runtime, rows: Rows, **camera: Any) -> tuple[CameraWatch, list[float]]:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    wall_clock, clock = itertools.count(1000.0), itertools.count(0.0)
    made = Camera(name="gate", **{"exit": "full", "threshold": 0.5, **camera})
    clocks = {"wall_clock": lambda: next(wall_clock), "clock": lambda: next(clock)}
    metrics = CameraMetrics(["gate"], 1000.0)
    return CameraWatch(made, runtime, rows, metrics, pause=pause, jitter=lambda: 0.5, **clocks), pauses


async def test_a_file_is_watched_to_its_end_and_its_events_are_right(runtime: Runtime, tmp_path: Path) -> None:
    video = write_parts(tmp_path / "parts.mp4", PARTS, options={})
    rows = Rows()
    watched, pauses = watch(runtime, rows, url=str(video), window_s=2, speed=0)
    await watched.run()
    found = rows.of("window")
    assert sum(row["end_s"] - row["start_s"] for row in found) == pytest.approx(16, abs=0.2)
    assert (watched.state.windows, watched.state.dropped) == (len(found), 0)
    ends = [(row["label"], row["start_s"], row["end_s"]) for row in rows.of("end")]
    assert [label for label, _, _ in ends] == ["dark", "bright", "grey"]
    for (_, start, end), expected in zip(ends, ((0, 6), (6, 12), (12, 16)), strict=True):
        assert (start, end) == pytest.approx(expected, abs=2)
    order = [row["type"] for row in rows if row["type"] in ("begin", "end")]
    assert order[0] == "begin"
    assert [row["label"] for row in rows.of("begin")] == ["dark", "bright", "grey"]
    assert pauses == []


async def test_only_the_labels_of_the_camera_are_told(runtime: Runtime, tmp_path: Path) -> None:
    video = write_parts(tmp_path / "parts.mp4", PARTS)
    rows = Rows()
    watched, _ = watch(runtime, rows, url=str(video), window_s=2, speed=0, labels=("bright",))
    await watched.run()
    assert [row["label"] for row in rows.of("begin", "end")] == ["bright", "bright"]


async def test_a_stream_that_is_cut_is_opened_again_though_its_size_changed(runtime: Runtime, tmp_path: Path) -> None:
    """The network is cut in the middle of a packet; then the server is away; then it sends another resolution."""
    small = write_parts(tmp_path / "small.ts", [("dark", 6.0)], options={}).read_bytes()
    large = write_parts(tmp_path / "large.ts", [("bright", 9.0)], size=(128, 96)).read_bytes()
    answers = iter([small[: len(small) * 3 // 4], None, large])
    over = asyncio.Event()

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        content = next(answers, b"")
        if content is None:
            writer.write(head(503, 0))
            return
        if content == b"":
            await over.wait()
            return
        writer.write(head(200, None, Connection="close", Content_Type="video/mp2t") + content)
        await writer.drain()
        writer.close()

    rows = Rows()
    enough = asyncio.Event()
    rows.after = lambda row: enough.set() if row["type"] == "window" and row["label"] == "bright" else None
    async with serving_http(handle) as server:
        watched, pauses = watch(runtime, rows, url=server.url("/live.ts"), window_s=2)
        running = asyncio.create_task(watched.run())
        await asyncio.wait_for(enough.wait(), 60)
        over.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    told = [row["type"] for row in rows.of("connected", "lost")]
    assert told[:4] == ["connected", "lost", "lost", "connected"]
    assert watched.state.connections >= 3
    assert {row["label"] for row in rows.of("window")} == {"dark", "bright"}
    assert "503" in rows.of("lost")[1]["reason"]
    assert pauses[:2] == [FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS]


async def test_pauses_grow_while_a_server_is_away(runtime: Runtime) -> None:
    rows = Rows()
    tries = asyncio.Event()
    rows.after = lambda row: tries.set() if len(rows) == 5 else None
    watched, pauses = watch(runtime, rows, url="http://127.0.0.1:1/live.ts")
    running = asyncio.create_task(watched.run())
    await asyncio.wait_for(tries.wait(), 120)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert pauses[:4] == [1, 2, 4, 8]
    assert "127.0.0.1" not in rows[0]["reason"]


async def test_the_newest_window_wins(runtime: Runtime) -> None:
    rows = Rows()
    watched, _ = watch(runtime, rows, url="http://127.0.0.1:1/")
    contents = [make_clip(10, container="mpegts", first=number) for number in (0, 10, 20)]
    for content in contents:
        watched._arrive(StreamWindow(0.0, 0.4, content))
    assert watched.state.dropped == 2
    assert watched._waiting is not None
    assert watched._waiting.window.content == contents[2]


async def test_windows_of_a_stream_are_clips_that_begin_with_key_frames() -> None:
    data = make_clip(200, container="mpegts", g="10", bf="2", preset="ultrafast")
    seen: list[int | None] = []
    async with demuxing(2.0) as demuxer:
        assert demuxer.feed is not None
        demuxer.feed.write(data)
        demuxer.feed.write_eof()
        with pytest.raises(StreamEndedError, match="the stream ended"):
            async for window in demuxer.windows():
                frames, _, video = read_frames(window.content)
                assert window.seconds == pytest.approx(2, abs=0.05)
                assert video.info.frames == 50
                assert window.brightness is not None, "its key picture was looked at"
                seen += [number_of(frame.pixels) for frame in frames]
    assert seen == list(range(200))


@pytest.mark.parametrize("content", [b"no video at all" * 1000, b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", b""])
async def test_a_stream_that_is_no_video_ends_its_demuxer_and_nothing_else(content: bytes) -> None:
    async with demuxing(2.0) as demuxer:
        assert demuxer.feed is not None
        demuxer.feed.write(content)
        demuxer.feed.write_eof()
        with pytest.raises(StreamEndedError, match=r"cannot be read|failed"):
            async for _ in demuxer.windows():
                pass


async def test_the_demuxer_is_in_the_sandbox_of_a_decode_worker() -> None:
    async with demuxing(2.0) as demuxer:
        assert demuxer.sandbox is not None
        assert demuxer.sandbox.no_new_privileges


async def test_an_rtsp_camera_is_cut_and_comes_back_with_another_resolution(runtime: Runtime, tmp_path: Path) -> None:
    small = write_parts(tmp_path / "small.ts", [("dark", 6.0)], codec="libx264").read_bytes()
    large = write_parts(tmp_path / "large.ts", [("bright", 9.0)], size=(128, 96), codec="libx264").read_bytes()
    cameras = iter([RtspCamera(small, cut_after=50), RtspCamera(small, answers={"DESCRIBE": (503, "")})])
    rows, enough = Rows(), asyncio.Event()
    rows.after = lambda row: enough.set() if row["type"] == "window" and row["label"] == "bright" else None
    async with serving_rtsp(lambda: next(cameras, RtspCamera(large, holds=True))) as server:
        watched, pauses = watch(runtime, rows, url=server.url("operator:s3cr3t@"), window_s=2)
        running = asyncio.create_task(watched.run())
        await asyncio.wait_for(enough.wait(), 60)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [row["type"] for row in rows.of("connected", "lost")] == ["connected", "lost", "lost", "connected"]
    assert {row["label"] for row in rows.of("window")} == {"dark", "bright"}
    assert pauses == [FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS]
    assert "s3cr3t" not in str(rows)


@pytest.mark.parametrize(
    ("url", "said"), [("/dev/null", "cannot capture: Inappropriate ioctl"), ("/dev/no-such-video", "No such file")]
)
async def test_what_is_no_video_device_is_said_and_tried_again(runtime: Runtime, url: str, said: str) -> None:
    rows, tries = Rows(), asyncio.Event()
    rows.after = lambda row: tries.set() if len(rows) == 2 else None
    watched, pauses = watch(runtime, rows, url=url)
    running = asyncio.create_task(watched.run())
    await asyncio.wait_for(tries.wait(), 120)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert all(said in row["reason"] for row in rows.of("lost"))
    assert pauses[0] == FIRST_PAUSE_SECONDS
    assert watched.state.phase == "lost"
