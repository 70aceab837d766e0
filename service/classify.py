"""Classifies one video: from the bytes of an upload to an answer that says what it cost.

HTTP and the command line both call `classify`; where the bytes come from and where the answer goes is theirs.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from adafocus.bundle.manifest import Manifest
from adafocus.service.decode.frames_in_place import FramesInPlace
from adafocus.service.decode.pool import DecodeJob
from adafocus.service.decode.upload import Spool, open_spool, receive
from adafocus.service.engine.request import EngineRequest
from adafocus.service.engine.step_plan import PREFETCH_PROBABILITY
from adafocus.service.errors import DeadlinePassed, Internal
from adafocus.service.progress import GIGA, Observer, StepReporter
from adafocus.service.results import Decoded, to_metrics, to_response
from adafocus.service.runtime import Runtime
from adafocus.service.schemas.classify import Classification, Parameters
from adafocus.service.settings import Settings
from adafocus.service.telemetry.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request: its bytes as they arrive, and their declared type."""

    chunks: AsyncIterator[bytes]
    content_type: str | None = None
    expected_bytes: int | None = None
    """The size of the whole video, if it is known for certain."""


async def classify(
    runtime: Runtime,
    body: Body,
    parameters: Parameters,
    request_id: str,
    observer: Observer | None = None,
    timeline: Timeline | None = None,
) -> Classification:
    """Classify one upload.

    The body is not read before the request has a place. Decoding starts during the upload if there are idle slots, so
    an answer may come before the upload ends.

    Args:
        runtime: the engine and the decoders.
        body: the upload.
        parameters: what the caller asks for.
        request_id: goes into the answer.
        observer: called for each step as it finishes.
        timeline: records where the time goes.

    Raises:
        Problem: there is no answer; nothing of the request is left in memory or on disk.
    """
    clock = time.monotonic  # the clock of the event loop, which uvloop tells in whole milliseconds
    line = timeline or Timeline(clock)
    settings, manifest, engine = runtime.settings, runtime.manifest, runtime.engine
    started = clock()
    due = started + min(settings.request_timeout_seconds, (parameters.deadline_ms or math.inf) / 1e3)
    thresholds = manifest.threshold_row(parameters.exit)
    async with AsyncExitStack() as held:
        async with _in_time(due):
            held.enter_context(engine.admission.place())
            spool = held.enter_context(open_spool(body.expected_bytes))
            upload = await held.enter_async_context(_uploading(body, spool, settings, clock))
            held.callback(lambda: line.add("upload", upload.started, upload.started + upload.seconds))
            early = held.enter_context(engine.admission.early_start())
            await (upload.begun if early else upload.ended)()
            with line.stage("queue"):
                waited_seconds = await held.enter_async_context(engine.admission.slot(due))
            job = DecodeJob(
                manifest.sampling, manifest.geometry, settings.media_limits, slots_for(manifest, parameters)
            )
            with line.stage("decode"):
                frames = await held.enter_async_context(runtime.decoder.open(spool, job))
        telling = StepReporter(manifest, thresholds, frames.info, observer, clock, started) if observer else None
        request = EngineRequest(
            thresholds=thresholds,
            max_flops=None if parameters.max_gflops is None else round(parameters.max_gflops * GIGA),
            deadline=due,
            continue_probability=manifest.continuation_row(parameters.exit),
            look_ahead=parameters.deadline_ms is None and observer is None,
            on_step=telling,
        )
        outcome = await engine.classify(request, FramesInPlace(frames))
    for step in outcome.steps:
        line.step(step)
    times = replace(
        outcome.stage_times,
        total=clock() - started,
        upload=upload.seconds,
        queue=waited_seconds + outcome.queue_seconds,
        decode=frames.decode_seconds,
    )
    decoded = Decoded(frames.info, frames.frames_decoded)
    runtime.metrics.video_answered(to_metrics(manifest, parameters, outcome, times, decoded))
    return to_response(manifest, engine.runner, parameters, request_id, outcome, times, decoded)


def slots_for(manifest: Manifest, parameters: Parameters) -> int | None:
    """How many frames the decoder may prepare before they are asked for; None for no limit.

    None for a video that will probably need all of its frames; it has them sooner. 1 for any other: the engine asks
    early where the video is likely to go on, and frames that are decoded for a video that has exited are wasted.
    """
    goes_through = math.prod(manifest.continuation_row(parameters.exit)[:-1]) >= PREFETCH_PROBABILITY
    return None if goes_through and parameters.max_gflops is None else 1


@dataclass(slots=True)
class _Upload:
    """An upload in progress."""

    task: asyncio.Task[None]
    some: asyncio.Event
    clock: Callable[[], float]
    started: float
    finished: float | None = None

    @property
    def seconds(self) -> float:
        """Its duration so far, or in total."""
        return (self.finished if self.finished is not None else self.clock()) - self.started

    async def begun(self) -> None:
        """Wait for its first bytes, or for its end."""
        await self.some.wait()
        if self.task.done():
            self.task.result()

    async def ended(self) -> None:
        """Wait for its end."""
        await self.task


@asynccontextmanager
async def _uploading(
    body: Body, spool: Spool, settings: Settings, clock: Callable[[], float]
) -> AsyncIterator[_Upload]:
    """Read the body into the spool while the block runs, and stop reading when the block ends."""
    receiving = receive(
        body.chunks,
        content_type=body.content_type,
        max_bytes=settings.max_upload_bytes,
        spool=spool,
    )
    upload = _Upload(asyncio.create_task(receiving), asyncio.Event(), clock, clock())
    unsubscribe = spool.subscribe(upload.some.set)

    def end(task: asyncio.Task[None]) -> None:
        upload.finished = clock()
        upload.some.set()

    upload.task.add_done_callback(end)
    try:
        yield upload
    except Internal:
        # The spool only says that the upload ended; the error of the upload says why.
        if upload.task.done() and not upload.task.cancelled():
            upload.task.result()
        raise
    finally:
        unsubscribe()
        upload.task.cancel()
        await asyncio.gather(upload.task, return_exceptions=True)


@asynccontextmanager
async def _in_time(due: float) -> AsyncIterator[None]:
    """Limit the time of what happens before the first step, while there is no answer to fall back on.

    Raises:
        DeadlinePassed: the time is over.
    """
    try:
        async with asyncio.timeout_at(due) as limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise DeadlinePassed from None
        raise
