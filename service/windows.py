"""Classifies a long video window by window: each as if it were a video of its own."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

from adafocus.bundle.exit_rule import ExitReason
from adafocus.service.classify import answer_of, classify, course_of, engine_request, frame_source
from adafocus.service.decode.pool import DecodeJob
from adafocus.service.decode.session import DecodeSession
from adafocus.service.decode.windows import WindowDecoder
from adafocus.service.engine.admission import Place
from adafocus.service.engine.request import Outcome
from adafocus.service.engine.stage_times import StageTimes
from adafocus.service.errors import DeadlinePassed, Overloaded, TooLong, Undecodable
from adafocus.service.models.second import SecondModel
from adafocus.service.progress import GIGA, Observer
from adafocus.service.reception import Reception, Video
from adafocus.service.results import Decoded, scores_of
from adafocus.service.runtime import Runtime
from adafocus.service.schemas.classify import Classification
from adafocus.service.schemas.parameters import Parameters, WindowParameters
from adafocus.service.segments import ClassifiedWindow, SegmentObserver, Segments
from adafocus.service.telemetry.timeline import UNTIMED, Timeline


async def classify_video(
    runtime: Runtime,
    body: Video,
    parameters: Parameters,
    request_id: str,
    observer: Observer | None = None,
    timeline: Timeline = UNTIMED,
    caller: str = "",
    segment_observer: SegmentObserver | None = None,
    second: SecondModel | None = None,
) -> Classification:
    """Classify a video as the parameters say: as a whole, or in windows.

    Args:
        runtime: the engine and the decoders.
        body: the video.
        parameters: what the caller asks for.
        request_id: goes into the answer.
        observer: called for each step as it finishes, of a video that is classified as a whole.
        timeline: records where the time goes.
        caller: who asks; callers get equal shares.
        segment_observer: called for each window and each event.
        second: may classify a video as a whole too, after it was answered.

    Raises:
        Problem: there is no answer; nothing of the request is left in memory or on disk.
    """
    if parameters.windows is None:
        return await classify(runtime, body, parameters, request_id, observer, timeline, caller, second)
    watching = segment_observer or SegmentObserver()
    run = _Run(runtime, parameters, parameters.windows, request_id, watching, timeline, caller)
    return await run.classify(body)


_STAGES_OF_WINDOWS = ("queue", "decode", "glance", "focus")


@dataclass(slots=True)
class _Run:
    """The classification of one long video."""

    runtime: Runtime
    parameters: Parameters
    windows: WindowParameters
    request_id: str
    observer: SegmentObserver
    timeline: Timeline
    caller: str
    clock: Callable[[], float] = time.monotonic  # the clock of the event loop
    started: float = 0.0
    due: float = math.inf
    times: StageTimes = field(default_factory=StageTimes)
    place: Place | None = None
    count: int = 1
    failure: Undecodable | None = None

    async def classify(self, body: Video) -> Classification:
        """Classify every window, one after the other.

        A window that cannot be decoded is left out. The windows that are left at the deadline, or when the budget is
        used up, are left out too.
        """
        settings, admission = self.runtime.settings, self.runtime.engine.admission
        self.started = self.clock()
        seconds = min(settings.windows_timeout_seconds, (self.parameters.deadline_ms or math.inf) / 1e3)
        self.due = self.started + seconds
        segments = Segments(self.runtime.manifest, self.parameters, self.windows, self.observer)
        async with AsyncExitStack() as held:
            async with _in_time(self.due):
                place = held.enter_context(admission.place(self.caller))
                fetched = self.runtime.metrics.bytes_fetched
                upload = await held.enter_async_context(Reception(body, settings, self.timeline, self.clock, fetched))
                upload.on_end(lambda: admission.uploaded(place))
                if not upload.over:
                    early = held.enter_context(admission.early_start())
                    await admission.while_uploading(place, (upload.soon if early else upload.ended)())
                self.place = place
                asked = self.windows
                decoder = await held.enter_async_context(
                    self.runtime.decoder.windows(upload.spool, self._job(), asked.window_s, asked.stride_s, self.caller)
                )
            stopped = await self._classify_all(decoder, segments)
            return self._answer(segments, stopped, upload)

    def _job(self) -> DecodeJob:
        settings = self.runtime.settings
        limits = replace(settings.media_limits, max_seconds=settings.max_windowed_seconds)
        return replace(course_of(self.runtime, self.parameters).job, limits=limits)

    async def _classify_all(self, decoder: WindowDecoder, segments: Segments) -> ExitReason | None:
        """Classify all windows; returns why some were left out, or None."""
        number = 0
        while number < self.count:
            budget, left_seconds = self._flops_left(segments), self._decode_seconds_left(segments)
            if budget is not None and budget < self.runtime.manifest.flops.per_step:
                return "max_gflops"
            if left_seconds is not None and left_seconds <= 0:
                return "max_decode_ms"
            try:
                await self._classify_one(decoder, number, budget, left_seconds, segments)
                self.runtime.metrics.window_finished(failed=False)
            except Undecodable as problem:
                self.runtime.metrics.window_finished(failed=True)
                self.failure = self.failure or problem
            except Overloaded as refusal:
                if not segments.segments:
                    raise
                await asyncio.sleep(float(refusal.headers["Retry-After"]))  # it has begun, so it goes on later
                continue
            except DeadlinePassed:
                if not segments.segments:
                    raise
                return "deadline"
            number += 1
        return None

    def _flops_left(self, segments: Segments) -> int | None:
        limit = self.parameters.max_gflops
        return None if limit is None else round((limit - segments.gflops) * GIGA)

    def _decode_seconds_left(self, segments: Segments) -> float | None:
        limit = self.parameters.max_decode_ms
        return None if limit is None else (limit - segments.decode_cpu_ms) / 1e3

    async def _classify_one(
        self, decoder: WindowDecoder, number: int, budget: int | None, cpu_seconds: float | None, segments: Segments
    ) -> None:
        began = self.clock()
        engine, due = self.runtime.engine, min(self.due, began + self.runtime.settings.request_timeout_seconds)
        async with AsyncExitStack() as held:
            async with _in_time(due):
                waited_seconds = await held.enter_async_context(engine.admission.slot(due, self.place))
                background = engine.admission.wants_more_than_its_share(self.caller)
                frames = await held.enter_async_context(decoder.open(number, cpu_seconds, background=background))
            self.count = self._checked(frames.window.count)
            course = course_of(self.runtime, self.parameters)
            request = engine_request(course, self.parameters, due, background=background)
            source = frame_source(self.runtime, frames)
            outcome = await engine.classify(replace(request, max_flops=budget), source)
        if frames.capped and outcome.reason == "end_of_video":
            outcome = replace(outcome, reason="max_decode_ms")
        times = replace(
            outcome.stage_times,
            total=self.clock() - began,
            queue=waited_seconds + outcome.queue_seconds,
            decode=frames.cost.seconds,
        )
        segments.add(self._classified(frames, outcome, times))

    def _checked(self, count: int) -> int:
        """The number of windows, if it is allowed.

        Raises:
            TooLong: there are too many.
        """
        most = self.runtime.settings.max_windows
        if count > most:
            raise TooLong(
                f"the video would be cut into {count} windows; at most {most} are permitted; choose a longer stride_s"
            )
        return count

    def _classified(self, frames: DecodeSession, outcome: Outcome, times: StageTimes) -> ClassifiedWindow:
        window = frames.window
        sums = {name: getattr(self.times, name) + getattr(times, name) for name in _STAGES_OF_WINDOWS}
        self.times = replace(self.times, **sums)
        decoded = Decoded(frames.info, frames.cost.frames, frames.cost.cpu_seconds)
        answer = answer_of(self.runtime, self.parameters, self.request_id, outcome, times, decoded)
        return ClassifiedWindow(window.start_s, window.end_s, answer, scores_of(self.runtime.manifest, outcome))

    def _answer(self, segments: Segments, stopped: ExitReason | None, upload: Reception) -> Classification:
        if not segments.segments:
            raise self.failure or Undecodable("no window of the video can be decoded")
        times = replace(self.times, total=self.clock() - self.started, upload=upload.seconds)
        answer = segments.answer(times, stopped)
        if upload.fetched_bytes is None:
            return answer
        compute = answer.compute.model_copy(update={"bytes_fetched": upload.fetched_bytes})
        video = answer.video.model_copy(update={"bytes": upload.size})
        return answer.model_copy(update={"compute": compute, "video": video})


@asynccontextmanager
async def _in_time(due: float) -> AsyncIterator[None]:
    """Limit the time of what happens before a window has an answer to fall back on.

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
