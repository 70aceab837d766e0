"""The straight line: from the bytes of an upload to an answer that says what it cost.

HTTP and the command line both come through here; what differs between them, where the bytes come from and where the
answer goes, is theirs.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import numpy as np

from bundle.exit_rule import probabilities
from bundle.manifest import Manifest
from service.decode.pool import DecodeJob, DecodePool
from service.decode.upload import Spool, receive
from service.engine.core import Engine
from service.engine.request import EngineRequest, Outcome, Step
from service.errors import DeadlinePassed
from service.metrics import Answered, Metrics
from service.schemas import (
    Classification,
    ComputeAnswer,
    ExitAnswer,
    ModelAnswer,
    Parameters,
    Prediction,
    TimingAnswer,
    VideoAnswer,
)
from service.settings import Settings
from service.steps import GIGA, Observer, Telling, trace_entry
from video.probe import VideoInfo


@dataclass(frozen=True, slots=True)
class Rooms:
    """What a request passes through, wired once by the composition root."""

    engine: Engine
    decoder: DecodePool
    metrics: Metrics
    settings: Settings

    @property
    def manifest(self) -> Manifest:
        """Of the bundle being served."""
        return self.engine.manifest


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of a request as they arrive, and their declared type."""

    chunks: AsyncIterator[bytes]
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Seconds:
    """Wall time of each stage of one request; decode overlaps with glance and focus."""

    total: float
    upload: float
    queue: float
    decode: float
    glance: float
    focus: float


async def classify(
    rooms: Rooms, body: Body, ask: Parameters, request_id: str, observer: Observer | None = None
) -> Classification:
    """Classify one upload; an observer is told of each step as it finishes.

    Not a byte of the body is read before a place is found.

    Raises:
        Problem: the request gets no answer; nothing of it is left behind, in memory or on disk.
    """
    clock = asyncio.get_running_loop().time
    settings, manifest = rooms.settings, rooms.manifest
    started = clock()
    due = started + min(settings.request_timeout_seconds, (ask.deadline_ms or math.inf) / 1e3)
    job = DecodeJob(manifest.sampling, manifest.geometry, settings.media_limits)
    thresholds = manifest.threshold_row(ask.exit)
    async with AsyncExitStack() as held:
        async with _in_time(due):
            held.enter_context(rooms.engine.admission.place())
            spool = held.enter_context(Spool())
            await receive(
                body.chunks,
                content_type=body.content_type,
                max_bytes=settings.max_upload_bytes,
                stall_seconds=settings.upload_timeout_seconds,
                spool=spool,
            )
            uploaded = clock()
            waited = await held.enter_async_context(rooms.engine.admission.slot(due))
            frames = await held.enter_async_context(rooms.decoder.open(spool, job))
        telling = Telling(manifest, thresholds, frames.info, observer, clock, started) if observer else None
        request = EngineRequest(
            thresholds=thresholds,
            max_flops=None if ask.max_gflops is None else round(ask.max_gflops * GIGA),
            deadline=due,
            on_step=telling,
        )
        outcome = await rooms.engine.classify(request, frames)
    seconds = Seconds(
        total=clock() - started,
        upload=uploaded - started,
        queue=waited + outcome.queue_seconds,
        decode=frames.decode_seconds,
        glance=outcome.glance_seconds,
        focus=outcome.focus_seconds,
    )
    rooms.metrics.video_answered(_numbers(manifest, outcome, seconds, frames.frames_decoded))
    return _answer(rooms, ask, request_id, outcome, seconds, frames.info, frames.frames_decoded)


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


def _numbers(manifest: Manifest, outcome: Outcome, seconds: Seconds, frames_decoded: int) -> Answered:
    return Answered(
        stage_seconds={
            "upload": seconds.upload,
            "queue": seconds.queue,
            "decode": seconds.decode,
            "glance": seconds.glance,
            "focus": seconds.focus,
        },
        glance_flops=outcome.glance_flops,
        focus_flops=outcome.focus_flops,
        flops_full=manifest.flops_full,
        step=len(outcome.steps),
        reason=outcome.reason,
        frames_decoded=frames_decoded,
        frames_used=outcome.frames_used,
    )


def _answer(
    rooms: Rooms,
    ask: Parameters,
    request_id: str,
    outcome: Outcome,
    seconds: Seconds,
    info: VideoInfo,
    frames_decoded: int,
) -> Classification:
    manifest, runner = rooms.manifest, rooms.engine.runner
    last = outcome.last
    return Classification(
        id=request_id,
        model=ModelAnswer(
            name=manifest.name, version=manifest.version, precision=runner.precision, backend=runner.backend
        ),
        predictions=_predictions(manifest, last, ask.top_k),
        exit=ExitAnswer(
            point=ask.exit,
            reason=outcome.reason,
            step=len(outcome.steps),
            steps=manifest.steps,
            confidence=last.confidence,
            threshold=outcome.threshold if math.isfinite(outcome.threshold) else None,
        ),
        compute=ComputeAnswer(
            gflops=(outcome.glance_flops + outcome.focus_flops) / GIGA,
            gflops_full=manifest.flops_full / GIGA,
            glance_gflops=outcome.glance_flops / GIGA,
            focus_gflops=outcome.focus_flops / GIGA,
            frames_used=outcome.frames_used,
            frames_decoded=frames_decoded,
        ),
        timing_ms=TimingAnswer(
            total=_ms(seconds.total),
            upload=_ms(seconds.upload),
            queue=_ms(seconds.queue),
            decode=_ms(seconds.decode),
            glance=_ms(seconds.glance),
            focus=_ms(seconds.focus),
        ),
        video=VideoAnswer(
            container=info.container,
            codec=info.codec,
            width=info.width,
            height=info.height,
            fps=info.fps,
            duration_s=info.duration_s,
            frames=info.frames,
        ),
        trace=[trace_entry(manifest, number, step, info) for number, step in enumerate(outcome.steps, start=1)]
        if ask.trace
        else None,
    )


def _predictions(manifest: Manifest, step: Step, top_k: int) -> list[Prediction]:
    scores = probabilities(step.logits, manifest.temperature)
    best = np.argsort(-scores, kind="stable")[:top_k]
    return [Prediction(label=manifest.labels[i], index=int(i), score=float(scores[i])) for i in best]


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
