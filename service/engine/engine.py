"""The engine as the service uses it: one call classifies one video, and admission says who may come in."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.admission import Admission
from adafocus.service.engine.client import EngineClient
from adafocus.service.engine.loop_lag import LoopLag
from adafocus.service.engine.queue_limits import Places, QueueLimits
from adafocus.service.engine.request import EngineObserver, EngineRequest, FrameSource, Outcome
from adafocus.service.engine.transport import CoreLostError, RunnerInfo, Transport
from adafocus.service.engine.video import Video
from adafocus.service.errors import DeadlinePassed, Internal
from adafocus.service.frame_memory import SharedFrame
from adafocus.video.decoder import Frame


class Engine:
    """Runs the videos of all requests through one model on one device.

    Args:
        manifest: of the bundle that the core's runner loaded.
        transport: to the core.
        slots: videos in flight at once.
        max_queue: requests that may hold a place beyond those in a slot.
        observer: told what ran; metrics.
        places: of all processes of the service, if there are several.
        limits: further limits of admission.
        admission: shared with other engines; then the arguments for one of its own have no effect.
    """

    def __init__(
        self,
        manifest: Manifest,
        transport: Transport,
        *,
        slots: int,
        max_queue: int,
        observer: EngineObserver,
        places: Places | None = None,
        limits: QueueLimits | None = None,
        admission: Admission | None = None,
    ) -> None:
        self.manifest = manifest
        self.admission = admission or Admission(
            slots, max_queue, observer, time.monotonic, limits=limits or QueueLimits()
        )
        if places is not None:
            self.admission.shared = places
        self._lag = LoopLag(self._is_behind)
        self._transport = transport
        self._observer = observer
        self._client = EngineClient(manifest, transport, observer)

    @property
    def runner(self) -> RunnerInfo:
        """What the engine runs on."""
        return self._transport.runner

    @property
    def pid(self) -> int:
        """Of the process that runs the model."""
        return self._transport.pid

    @property
    def alive(self) -> bool:
        """Started, and still serving."""
        return self._transport.alive

    async def start(self) -> None:
        """Warm every batch size, then begin to serve."""
        await self._client.start()
        self._lag.start()

    async def close(self) -> None:
        """Stop serving and give the device back; videos still in flight fail."""
        self._lag.stop()
        await self._client.close()

    def _is_behind(self, seconds: float) -> None:
        self.admission.lag_seconds = seconds

    async def classify(self, request: EngineRequest, source: FrameSource) -> Outcome:
        """Run one video until it is confident, out of frames, out of budget or out of time. The caller holds a slot.

        A caller that is cancelled takes part in no later batch. If the engine's process dies and is started again, the
        video runs again from its first frame, unless its steps are reported or its source cannot start again.

        Raises:
            DeadlinePassed: the deadline passed before the first step finished.
            Undecodable: the source had no frame at all.
            Internal: the device failed on this video, or the core was lost and the video could not be tried again.
        """
        rewind: Callable[[], Awaitable[None]] | None = getattr(source, "rewind", None)
        try:
            return await self._classify_once(request, source)
        except CoreLostError as error:
            if rewind is None or request.on_step is not None:
                raise Internal from error
        try:
            async with asyncio.timeout_at(request.deadline):
                await self._transport.back()
                self._observer.core_lost_a_video()
                await rewind()
        except TimeoutError:
            raise DeadlinePassed from None
        try:
            return await self._classify_once(request, source)
        except CoreLostError as error:
            raise Internal from error

    async def _classify_once(self, request: EngineRequest, source: FrameSource) -> Outcome:
        video = await self._client.submit(request)
        feeder = Feeder(self._client, video, source)
        try:
            feeder.feed()
            return await video.finished
        finally:
            self._client.cancel(video)
            await feeder.close()


class Feeder:
    """Pulls frames a little ahead of the steps, so that a video that goes on is ready at once.

    Frames that are there are handed over at once; a task is started for the first one that has to be waited for.

    Args:
        client: is handed the frames.
        video: whose they are.
        source: of the frames.
    """

    def __init__(self, client: EngineClient, video: Video, source: FrameSource) -> None:
        self._client = client
        self._video = video
        self._source = source
        self._ready: Callable[[], Frame | SharedFrame | None] = getattr(source, "next_ready", lambda: None)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._pulling = False
        video.feed = self.feed

    def feed(self) -> None:
        """Hand over what is there, as far as it is wanted, and have pulled what is not."""
        video = self._video
        if not self._pulling:
            try:
                self._take_ready()
            except Exception as error:  # noqa: BLE001 - whatever the source raises belongs to this video's caller
                self._client.cancel(video, error)
        if self._task is not None:
            if video.complete or video.frames_wanted > 0:
                self._wake.set()
        elif video.frames_wanted > 0:
            self._task = asyncio.create_task(self._pull())

    async def close(self) -> None:
        """Pull no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _pull(self) -> None:
        """Wait for frames as long as the video takes any; an error of the source ends it."""
        client, video = self._client, self._video
        try:
            while not video.complete:
                self._take_ready()
                if video.frames_wanted <= 0:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                self._pulling = True
                frame = await self._source.next()
                self._pulling = False
                if frame is None:
                    client.no_more_frames(video)
                    return
                client.frame_ready(video, frame)
        except Exception as error:  # noqa: BLE001 - as above
            client.cancel(video, error)

    def _take_ready(self) -> None:
        frames: list[Frame | SharedFrame] = []
        try:
            for _ in range(self._video.frames_wanted):
                frame = self._ready()
                if frame is None:
                    break
                frames.append(frame)
        finally:
            if frames:
                self._client.frames_ready(self._video, frames)


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[Engine]:
    """The engine, started and closed around a block."""
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()
