"""Classifies one video: from the bytes of an upload to an answer that says what it cost.

HTTP and the command line both call `classify`; they supply the bytes and deliver the answer.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from bundle.manifest import Manifest
from service.decode.frames_in_place import FramesInPlace
from service.decode.pool import DecodeJob
from service.decode.session import DecodeSession
from service.engine.request import EngineRequest, Outcome
from service.engine.step_plan import PREFETCH_PROBABILITY
from service.errors import DeadlinePassed
from service.progress import GIGA, Observer, StepReporter
from service.reception import Reception, Video, receiving
from service.results import Decoded, to_metrics, to_response
from service.runtime import Runtime
from service.schemas.classify import Classification, Parameters
from service.telemetry.timeline import Timeline


async def classify(
    runtime: Runtime,
    body: Video,
    parameters: Parameters,
    request_id: str,
    observer: Observer | None = None,
    timeline: Timeline | None = None,
) -> Classification:
    """Classify one video.

    The body is not read before the request has a place. Decoding starts during the upload if there are idle slots, so
    an answer may come before the upload ends.

    Args:
        runtime: the engine and the decoders.
        body: the video.
        parameters: what the caller asks for.
        request_id: goes into the answer.
        observer: called for each step as it finishes.
        timeline: records where the time goes.

    Raises:
        Problem: there is no answer; nothing of the request is left in memory or on disk.
    """
    line = timeline or Timeline(time.monotonic)  # not the clock of uvloop, which counts whole milliseconds
    started = line.clock()
    due = started + min(runtime.settings.request_timeout_seconds, (parameters.deadline_ms or math.inf) / 1e3)
    async with AsyncExitStack() as held:
        async with in_time(due):
            video = await _open(runtime, body, parameters, line, due, held)
        request = engine_request(runtime.manifest, parameters, due)
        if observer is not None:
            info = video.frames.info
            report = StepReporter(runtime.manifest, request.thresholds, info, observer, line.clock, started)
            request = replace(request, look_ahead=False, on_step=report)
        outcome = await runtime.engine.classify(request, FramesInPlace(video.frames))
    return _answer(runtime, parameters, request_id, outcome, video, line, started)


@dataclass(frozen=True, slots=True)
class _OpenVideo:
    """A video that has a slot of the engine and whose frames can be asked for."""

    frames: DecodeSession
    upload: Reception
    slot_wait_seconds: float


async def _open(
    runtime: Runtime, body: Video, parameters: Parameters, line: Timeline, due: float, held: AsyncExitStack
) -> _OpenVideo:
    """Receive the video, wait for a slot, and open the video; ``held`` gets whatever must be given back."""
    admission = runtime.engine.admission
    held.enter_context(admission.place())
    fetched = runtime.metrics.bytes_fetched
    upload = await held.enter_async_context(receiving(body, runtime.settings, line.clock, fetched))
    held.callback(lambda: line.add("upload", upload.started, upload.started + upload.seconds))
    early = held.enter_context(admission.early_start())
    await (upload.begun if early else upload.ended)()
    with line.stage("queue"):
        slot_wait_seconds = await held.enter_async_context(admission.slot(due))
    manifest = runtime.manifest
    job = DecodeJob(
        manifest.sampling, manifest.geometry, runtime.settings.media_limits, slots_for(manifest, parameters)
    )
    with line.stage("decode"):
        frames = await held.enter_async_context(runtime.decoder.open(upload.spool, job))
    return _OpenVideo(frames, upload, slot_wait_seconds)


def engine_request(manifest: Manifest, parameters: Parameters, due: float) -> EngineRequest:
    """What the parameters ask of the engine, for a video that nobody watches."""
    return EngineRequest(
        thresholds=manifest.threshold_row(parameters.exit),
        max_flops=None if parameters.max_gflops is None else round(parameters.max_gflops * GIGA),
        deadline=due,
        continue_probability=manifest.continuation_row(parameters.exit),
        look_ahead=parameters.deadline_ms is None,
    )


def _answer(
    runtime: Runtime,
    parameters: Parameters,
    request_id: str,
    outcome: Outcome,
    video: _OpenVideo,
    line: Timeline,
    started: float,
) -> Classification:
    """Return the response, and count it in the metrics."""
    for step in outcome.steps:
        line.step(step)
    times = replace(
        outcome.stage_times,
        total=line.clock() - started,
        upload=video.upload.seconds,
        queue=video.slot_wait_seconds + outcome.queue_seconds,
        decode=video.frames.decode_seconds,
    )
    frames, upload = video.frames, video.upload
    decoded = Decoded(frames.info, frames.frames_decoded, upload.fetched_bytes, upload.size)
    runtime.metrics.video_answered(to_metrics(runtime.manifest, parameters, outcome, times, decoded))
    return to_response(runtime.manifest, runtime.engine.runner, parameters, request_id, outcome, times, decoded)


def slots_for(manifest: Manifest, parameters: Parameters) -> int | None:
    """Return the number of frames that the decoder may prepare before they are asked for; None for no limit.

    None for a video that will probably need all of its frames; it has them sooner. 1 for any other: the engine asks
    early where the video is likely to go on, and frames that are decoded for a video that has exited are wasted.
    """
    goes_through = math.prod(manifest.continuation_row(parameters.exit)[:-1]) >= PREFETCH_PROBABILITY
    return None if goes_through and parameters.max_gflops is None else 1


@asynccontextmanager
async def in_time(due: float) -> AsyncIterator[None]:
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
