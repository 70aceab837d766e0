"""Watches one camera: opens its stream again and again, classifies its windows, and tells of events."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field

import numpy as np

from adafocus.service.classify import classify
from adafocus.service.errors import Overloaded, Problem
from adafocus.service.events import Event, EventMerger, ScoredWindow
from adafocus.service.live.camera_state import CameraState, date
from adafocus.service.live.config import Camera
from adafocus.service.live.demuxer_process import DemuxerProcess, StreamEndedError, StreamWindow, demuxing
from adafocus.service.live.feeds import HlsStream, http_stream, is_playlist
from adafocus.service.live.outputs import Output, Row
from adafocus.service.live.rtsp_address import dial, parse_address
from adafocus.service.reception import Body
from adafocus.service.runtime import Runtime
from adafocus.service.schemas.classify import Classification
from adafocus.service.schemas.parameters import Parameters
from adafocus.service.telemetry.camera_metrics import CameraMetrics

logger = logging.getLogger("adafocus.live")

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0


@dataclass(slots=True)
class _Arrived:
    """A window, and when its last byte came, on the clock that never leaps."""

    window: StreamWindow
    at: float


@dataclass(slots=True)
class CameraWatch:
    """Watches one camera until it is cancelled, or until a file that is not repeated ends.

    Args:
        camera: what to watch.
        runtime: classifies its windows.
        output: takes rows: ``window``, ``begin`` and ``end`` of an event, ``lost`` and ``connected``.
        metrics: of all cameras.
        wall_clock: returns seconds since the Unix epoch, for dates in rows.
        clock: returns seconds and never leaps; events are measured with it, so that they do not notice when the wall
            clock is set.
        pause: waits for some seconds.
        jitter: a number in 0..1 for each pause.
    """

    camera: Camera
    runtime: Runtime
    output: Output
    metrics: CameraMetrics
    wall_clock: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.random
    state: CameraState = field(init=False)
    _arrived: int = 0
    _waiting: _Arrived | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _taken: asyncio.Event = field(default_factory=asyncio.Event)
    _merger: EventMerger = field(init=False)
    _announced: tuple[int, float] | None = None
    _over: bool = False

    def __post_init__(self) -> None:
        self._merger = self._new_merger()
        self.state = CameraState(self.camera.name, self.metrics)

    async def run(self) -> None:
        """Watch."""
        classifying = asyncio.create_task(self._classify_windows())
        try:
            await self._receive_windows()
            self._over = True
            self._changed.set()
            await classifying
        finally:
            classifying.cancel()
            await asyncio.gather(classifying, return_exceptions=True)
            self._finish_events()

    async def _receive_windows(self) -> None:
        pause_seconds = FIRST_PAUSE_SECONDS
        while True:
            arrived_before = self._arrived
            reason = await self._follow_stream()
            if self.camera.is_file and reason is None:
                if not self.camera.loop:
                    self.state.ended()
                    return
                if self._arrived > arrived_before:
                    continue  # it begins again, and nothing was lost
            self.state.lost(reason or "the stream ended")
            self._put("lost", reason=reason or "the stream ended")
            if self._arrived > arrived_before:
                pause_seconds = FIRST_PAUSE_SECONDS
            await self.pause(pause_seconds * (0.5 + self.jitter()))
            pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)

    async def _follow_stream(self) -> str | None:
        """Receive windows until the stream ends; returns why it ended, or None for the end of a file."""
        self.state.opens()
        try:
            async with self._demuxer() as demuxer, aclosing(demuxer.windows()) as windows:
                async for window in windows:
                    if self.state.phase != "live":
                        self.state.lives()
                        self._put("connected")
                    while self.camera.waits and self._waiting is not None:
                        self._taken.clear()
                        await self._taken.wait()
                    self._arrive(window)
        except StreamEndedError as error:
            return None if str(error) == "the stream ended" else str(error)
        except Problem as problem:
            return problem.detail
        except TimeoutError:
            return "the camera did not answer in time"
        except OSError as error:
            if error.errno is not None and error.errno > 0:  # the resolver's numbers are negative
                return os.strerror(error.errno)  # asyncio's own text names the address
            return error.strerror or type(error).__name__
        return None

    @asynccontextmanager
    async def _demuxer(self) -> AsyncIterator[DemuxerProcess]:
        camera = self.camera
        if camera.is_file:
            fd = await asyncio.to_thread(os.open, camera.url, os.O_RDONLY | os.O_CLOEXEC)
            try:
                async with demuxing(camera.window_s, file_fd=fd, speed=camera.speed) as demuxer:
                    yield demuxer
            finally:
                os.close(fd)
            return
        if camera.is_device:
            fd = await asyncio.to_thread(os.open, camera.url, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                async with demuxing(camera.window_s, file_fd=fd, is_device=True) as demuxer:
                    yield demuxer
            finally:
                os.close(fd)
            return
        if camera.is_rtsp:
            address = parse_address(camera.url)
            with await dial(address) as connection:
                async with demuxing(camera.window_s, camera=(address, connection)) as demuxer:
                    yield demuxer
            return
        async with demuxing(camera.window_s) as demuxer:
            feeding = asyncio.create_task(self._feed(demuxer))
            try:
                yield demuxer
            except StreamEndedError:
                if feeding.done() and not feeding.cancelled():
                    feeding.result()  # why the bytes ended says more than that they did
                raise
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)

    async def _feed(self, demuxer: DemuxerProcess) -> None:
        url, feed = self.camera.url, demuxer.feed
        if feed is None:
            raise ValueError("this demuxer reads a file")
        source = HlsStream(url).chunks() if is_playlist(url) else http_stream(url)
        try:
            async with aclosing(source) as chunks:
                async for chunk in chunks:
                    feed.write(chunk)
                    await feed.drain()
        finally:
            with suppress(OSError, RuntimeError):
                feed.close()

    def _arrive(self, window: StreamWindow) -> None:
        """The newest window wins: one that has not begun to be classified makes room for it."""
        self._arrived += 1
        self.state.arrived(window)
        if self._waiting is not None or not window.content:
            self.state.dropped_one()
        if window.content:
            self._waiting = _Arrived(window, self.clock())
            self._changed.set()

    async def _classify_windows(self) -> None:
        while True:
            while self._waiting is None:
                if self._over:
                    return
                self._changed.clear()
                await self._changed.wait()
            arrived, self._waiting = self._waiting, None
            self._taken.set()
            try:
                answer = await self._classify(arrived.window)
            except Overloaded as problem:
                self.state.dropped_one()
                await self.pause(float(problem.headers["Retry-After"]))
            except Problem as problem:
                self.state.failed_one()
                logger.warning(
                    "a window cannot be classified",
                    extra={"fields": {"camera": self.camera.name, "code": problem.code}},
                )
            else:
                self._answered(arrived, answer)

    async def _classify(self, window: StreamWindow) -> Classification:
        async def chunks() -> AsyncIterator[bytes]:
            yield window.content

        manifest = self.runtime.manifest
        parameters = Parameters(exit=self.camera.exit or manifest.default_point, top_k=len(manifest.labels))
        body = Body(chunks(), expected_bytes=len(window.content))
        return await classify(self.runtime, body, parameters, uuid.uuid4().hex)

    def _answered(self, arrived: _Arrived, answer: Classification) -> None:
        best, window, gflops = answer.predictions[0], arrived.window, answer.compute.gflops
        lag_s = round(self.clock() - arrived.at, 3)
        self.state.answered(best.label, best.score, lag_s=lag_s, at=self.wall_clock(), gflops=gflops)
        end = arrived.at
        start = end - window.seconds
        if self.camera.is_file:  # its own time, however fast it is played
            start, end = max(0.0, window.start_s), window.start_s + window.seconds
        told = {"label": best.label, "score": round(best.score, 4), "lag_s": lag_s, "gflops": gflops}
        self._put("window", **self._span(start, end), **told)
        self._merge(start, end, answer)

    def _merge(self, start: float, end: float, answer: Classification) -> None:
        labels = self.camera.labels
        scores = np.zeros(len(answer.predictions))
        for prediction in answer.predictions:
            if labels is None or prediction.label in labels:
                scores[prediction.index] = prediction.score
        for event in self._merger.add(ScoredWindow(start, end, scores.tolist())):
            self._tell("end", event)
        present = self._merger.present
        self.state.event = None if present is None else self.runtime.manifest.labels[present.index]
        if present is not None and (present.index, present.start_s) != self._announced:
            self._announced = (present.index, present.start_s)
            self._tell("begin", present)

    def _finish_events(self) -> None:
        for event in self._merger.finish():
            self._tell("end", event)
        self._merger = self._new_merger()

    def _new_merger(self) -> EventMerger:
        return EventMerger(self.camera.threshold, self.camera.hold_s)

    def _tell(self, kind: str, event: Event) -> None:
        label = self.runtime.manifest.labels[event.index]
        end = event.end_s if kind == "end" else None
        self._put(kind, **self._span(event.start_s, end), label=label, score=round(event.score, 4))

    def _span(self, start: float, end: float | None) -> Row:
        """Start and end of a stretch: of a live stream as dates, of a file in seconds."""
        if self.camera.is_file:
            return {"start_s": round(start, 3)} | ({} if end is None else {"end_s": round(end, 3)})
        offset = self.wall_clock() - self.clock()
        return {"start": date(start + offset)} | ({} if end is None else {"end": date(end + offset)})

    def _put(self, kind: str, **more: object) -> None:
        self.output.put({"type": kind, "camera": self.camera.name, "time": date(self.wall_clock()), **more})
