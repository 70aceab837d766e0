"""Classifies one video: from the bytes of an upload to an answer that says what it cost.

HTTP and the command line both call `classify`; where the bytes come from and where the answer goes is theirs.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from bundle.manifest import Manifest
from service.decode.frames_in_place import FramesInPlace
from service.decode.pool import DecodeJob
from service.engine.request import EngineRequest
from service.engine.step_plan import PREFETCH_PROBABILITY
from service.errors import DeadlinePassed
from service.progress import GIGA, Observer, StepReporter
from service.reception import Video, receiving
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
    clock = time.monotonic  # the clock of the event loop, which uvloop tells in whole milliseconds
    line = timeline or Timeline(clock)
    settings, manifest, engine = runtime.settings, runtime.manifest, runtime.engine
    started = clock()
    due = started + min(settings.request_timeout_seconds, (parameters.deadline_ms or math.inf) / 1e3)
    thresholds = manifest.threshold_row(parameters.exit)
    async with AsyncExitStack() as held:
        async with in_time(due):
            held.enter_context(engine.admission.place())
            upload = await held.enter_async_context(receiving(body, settings, clock, runtime.metrics.bytes_fetched))
            held.callback(lambda: line.add("upload", upload.started, upload.started + upload.seconds))
            early = held.enter_context(engine.admission.early_start())
            await (upload.begun if early else upload.ended)()
            with line.stage("queue"):
                waited_seconds = await held.enter_async_context(engine.admission.slot(due))
            job = DecodeJob(
                manifest.sampling, manifest.geometry, settings.media_limits, slots_for(manifest, parameters)
            )
            with line.stage("decode"):
                frames = await held.enter_async_context(runtime.decoder.open(upload.spool, job))
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
    decoded = Decoded(frames.info, frames.frames_decoded, upload.fetched_bytes, upload.size)
    runtime.metrics.video_answered(to_metrics(manifest, parameters, outcome, times, decoded))
    return to_response(manifest, engine.runner, parameters, request_id, outcome, times, decoded)


def slots_for(manifest: Manifest, parameters: Parameters) -> int | None:
    """How many frames the decoder may prepare before they are asked for; None for no limit.

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
