"""The engine as the service uses it: one call classifies one video, and admission says who may come in."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.admission import Admission
from adafocus.service.engine.client import EngineClient
from adafocus.service.engine.request import EngineObserver, EngineRequest, FrameSource, Outcome, ReadySource
from adafocus.service.engine.transport import RunnerInfo, Transport
from adafocus.service.engine.video import Video


class Engine:
    """Runs the videos of all requests through one model on one device.

    Args:
        manifest: of the bundle that the core's runner loaded.
        transport: to the core.
        slots: videos in flight at once.
        max_queue: requests that may hold a place beyond those in a slot.
        observer: told what ran; metrics.
    """

    def __init__(
        self, manifest: Manifest, transport: Transport, *, slots: int, max_queue: int, observer: EngineObserver
    ) -> None:
        self.manifest = manifest
        self.admission = Admission(slots, max_queue, observer, time.monotonic)
        self._transport = transport
        self._client = EngineClient(manifest, transport, observer)

    @property
    def runner(self) -> RunnerInfo:
        """What the engine runs on."""
        return self._transport.runner

    @property
    def alive(self) -> bool:
        """Started, and still serving."""
        return self._transport.alive

    async def start(self) -> None:
        """Warm every batch size, then begin to serve."""
        await self._client.start()

    async def close(self) -> None:
        """Stop serving and give the device back; videos still in flight fail."""
        await self._client.close()

    async def classify(self, request: EngineRequest, source: FrameSource) -> Outcome:
        """Run one video until it is confident, out of frames, out of budget or out of time. The caller holds a slot.

        A caller that is cancelled takes part in no later batch.

        Raises:
            DeadlinePassed: the deadline passed before the first step finished.
            Undecodable: the source had no frame at all.
            Internal: the device failed on this video.
        """
        video = await self._client.submit(request)
        feeder = asyncio.create_task(Feeder(self._client, video, source).run())
        try:
            return await video.finished
        finally:
            self._client.cancel(video)
            feeder.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await feeder


class Feeder:
    """Pulls frames a little ahead of the steps, so that a video that goes on is ready at once.

    Args:
        client: is handed the frames.
        video: whose they are.
        source: of the frames.
    """

    def __init__(self, client: EngineClient, video: Video, source: FrameSource) -> None:
        self._client = client
        self._video = video
        self._source = source
        self._ready = source.next_ready if isinstance(source, ReadySource) else None
        self._wake = asyncio.Event()
        self._pulling = False
        video.feed = self.feed

    async def run(self) -> None:
        """Feed the video until it takes no more; an error of the source ends it."""
        client, video = self._client, self._video
        try:
            while not video.complete:
                self._take_ready()
                if not video.wants_frame:
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
        except Exception as error:  # noqa: BLE001 - whatever the source raises belongs to this video's caller
            client.cancel(video, error)

    def feed(self) -> None:
        """Hand over what is there, as far as it is wanted, and wake `run` for what is not."""
        video = self._video
        if not self._pulling:
            try:
                self._take_ready()
            except Exception as error:  # noqa: BLE001 - as in `run`
                self._client.cancel(video, error)
        if video.wants_frame or video.complete:
            self._wake.set()

    def _take_ready(self) -> None:
        video, ready = self._video, self._ready
        while ready is not None and video.wants_frame:
            frame = ready()
            if frame is None:
                return
            self._client.frame_ready(video, frame)


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[Engine]:
    """The engine, started and closed around a block."""
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()
