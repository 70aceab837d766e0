"""The engine as the service uses it: one call classifies one video, and admission says who may come in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.admission import Admission
from adafocus.service.engine.client import EngineClient
from adafocus.service.engine.feeding import feeder_of
from adafocus.service.engine.loop_lag import LoopLag
from adafocus.service.engine.queue_limits import Places, QueueLimits
from adafocus.service.engine.request import EngineObserver, EngineRequest, FrameSource, Outcome
from adafocus.service.engine.transport import CoreLostError, RunnerInfo, Transport
from adafocus.service.errors import DeadlinePassed, Internal


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
        feeder = feeder_of(self._client, video, source)
        try:
            return await video.finished
        finally:
            self._client.cancel(video)
            waiting = feeder.close()
            if waiting is not None:
                await asyncio.gather(waiting, return_exceptions=True)


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[Engine]:
    """The engine, started and closed around a block."""
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()
