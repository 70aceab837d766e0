"""The straight line: from the bytes of an upload to an answer that says what it cost.

HTTP and the command line both come through here; what differs between them, where the bytes come from and where the
answer goes, is theirs.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from bundle.manifest import Manifest
from service.decode.pool import DecodeJob
from service.decode.upload import Spool, open_spool, receive
from service.engine.request import EngineRequest
from service.engine.step_plan import PREFETCH_PROBABILITY
from service.errors import DeadlinePassed, Internal
from service.progress import GIGA, Observer, StepReporter
from service.results import Decoded, Seconds, to_metrics, to_response
from service.runtime import Runtime
from service.schemas.classify import Classification, Parameters
from service.settings import Settings
from service.telemetry.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of a request as they arrive, and their declared type."""

    chunks: AsyncIterator[bytes]
    content_type: str | None = None
    expected_bytes: int | None = None
    """What the video will hold in the end, if that is known for certain."""


async def classify(
    runtime: Runtime,
    body: Body,
    ask: Parameters,
    request_id: str,
    observer: Observer | None = None,
    timeline: Timeline | None = None,
) -> Classification:
    """Classify one upload; an observer is told of each step as it finishes, and a timeline of where the time went.

    Not a byte of the body is read before a place is found. Decoding begins while the rest is still being uploaded if
    there is room for that, and an exit may come before the upload's end.

    Raises:
        Problem: the request gets no answer; nothing of it is left behind, in memory or on disk.
    """
    clock = asyncio.get_running_loop().time
    line = timeline or Timeline(clock)
    settings, manifest, engine = runtime.settings, runtime.manifest, runtime.engine
    started = clock()
    due = started + min(settings.request_timeout_seconds, (ask.deadline_ms or math.inf) / 1e3)
    thresholds = manifest.threshold_row(ask.exit)
    async with AsyncExitStack() as held:
        async with _in_time(due):
            held.enter_context(engine.admission.place())
            spool = held.enter_context(open_spool(body.expected_bytes))
            upload = await held.enter_async_context(_uploading(body, spool, settings, clock))
            held.callback(lambda: line.add("upload", upload.started, upload.started + upload.seconds))
            early = held.enter_context(engine.admission.early_start())
            await (upload.begun if early else upload.ended)()
            with line.stage("queue"):
                waited = await held.enter_async_context(engine.admission.slot(due))
            job = DecodeJob(manifest.sampling, manifest.geometry, settings.media_limits, slots_for(manifest, ask))
            with line.stage("decode"):
                frames = await held.enter_async_context(runtime.decoder.open(spool, job))
        telling = StepReporter(manifest, thresholds, frames.info, observer, clock, started) if observer else None
        request = EngineRequest(
            thresholds=thresholds,
            max_flops=None if ask.max_gflops is None else round(ask.max_gflops * GIGA),
            deadline=due,
            continue_probability=manifest.continuation_row(ask.exit),
            look_ahead=ask.deadline_ms is None and observer is None,
            on_step=telling,
        )
        outcome = await engine.classify(request, frames.in_place())
    for step in outcome.steps:
        line.step(step)
    seconds = Seconds(
        total=clock() - started,
        upload=upload.seconds,
        queue=waited + outcome.queue_seconds,
        decode=frames.decode_seconds,
        glance=outcome.glance_seconds,
        focus=outcome.focus_seconds,
    )
    decoded = Decoded(frames.info, frames.frames_decoded)
    runtime.metrics.video_answered(to_metrics(manifest, ask, outcome, seconds, decoded))
    return to_response(manifest, engine.runner, ask, request_id, outcome, seconds, decoded)


def slots_for(manifest: Manifest, ask: Parameters) -> int | None:
    """Frames that the decoder may have ready before they are asked for: as many as it likes, or one at a time.

    A video that will probably need all of its frames has them sooner so. For any other, the engine asks early where it
    is likely enough that it goes on: what is decoded for a video that has left is lost.
    """
    goes_through = math.prod(manifest.continuation_row(ask.exit)[:-1]) >= PREFETCH_PROBABILITY
    return None if goes_through and ask.max_gflops is None else 1


@dataclass(slots=True)
class _Upload:
    """A body on its way into its spool."""

    task: asyncio.Task[None]
    some: asyncio.Event
    clock: Callable[[], float]
    started: float
    finished: float | None = None

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far."""
        return (self.finished if self.finished is not None else self.clock()) - self.started

    async def begun(self) -> None:
        """Wait for its first bytes, or for whatever ends it before they come."""
        await self.some.wait()
        if self.task.done():
            self.task.result()

    async def ended(self) -> None:
        """Wait for its last bytes."""
        await self.task


@asynccontextmanager
async def _uploading(
    body: Body, spool: Spool, settings: Settings, clock: Callable[[], float]
) -> AsyncIterator[_Upload]:
    """Read the body into the spool while the block runs; what is still to come when it ends is not read."""
    receiving = receive(
        body.chunks,
        content_type=body.content_type,
        max_bytes=settings.max_upload_bytes,
        stall_seconds=settings.upload_timeout_seconds,
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
        # The spool says no more than that the upload ended; its own error says why.
        if upload.task.done() and not upload.task.cancelled():
            upload.task.result()
        raise
    finally:
        unsubscribe()
        upload.task.cancel()
        await asyncio.gather(upload.task, return_exceptions=True)


@asynccontextmanager
async def _in_time(due: float) -> AsyncIterator[None]:
    """Bound what happens before the first step, where there is no answer yet to fall back on.

    Raises:
        DeadlinePassed: the time was up.
    """
    try:
        async with asyncio.timeout_at(due) as limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise DeadlinePassed from None
        raise
