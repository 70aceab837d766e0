"""Classifies a long video window by window: each as if it were a video of its own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from bundle.exit_rule import ExitReason
from service.classify import classify, engine_request, in_time, slots_for
from service.decode.frames_in_place import FramesInPlace
from service.decode.pool import DecodeJob
from service.decode.session import DecodeSession
from service.decode.windows import WindowDecoder
from service.engine.request import Outcome
from service.engine.stage_times import StageTimes
from service.errors import DeadlinePassed, TooLong, Undecodable
from service.progress import GIGA, Observer
from service.reception import Reception, Video, receiving
from service.results import Decoded, scores_of, to_metrics, to_response
from service.runtime import Runtime
from service.schemas.classify import Classification, Parameters, WindowParameters
from service.segments import ClassifiedWindow, SegmentObserver, Segments
from service.telemetry.timeline import Timeline


async def classify_video(
    runtime: Runtime,
    body: Video,
    parameters: Parameters,
    request_id: str,
    observer: Observer | None = None,
    timeline: Timeline | None = None,
    segment_observer: SegmentObserver | None = None,
) -> Classification:
    """Classify a video as the parameters say: as a whole, or in windows.

    Args:
        runtime: the engine and the decoders.
        body: the video.
        parameters: what the caller asks for.
        request_id: goes into the answer.
        observer: called for each step as it finishes, of a video that is classified as a whole.
        timeline: records where the time goes.
        segment_observer: called for each window and each event.

    Raises:
        Problem: there is no answer; nothing of the request is left in memory or on disk.
    """
    if parameters.windows is None:
        return await classify(runtime, body, parameters, request_id, observer, timeline)
    watching = segment_observer or SegmentObserver()
    run = _Run(runtime, parameters, parameters.windows, request_id, watching, timeline)
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
    timeline: Timeline | None
    clock: Callable[[], float] = time.monotonic  # the clock of the event loop
    started: float = 0.0
    due: float = math.inf
    times: StageTimes = field(default_factory=StageTimes)
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
            async with in_time(self.due):
                held.enter_context(admission.place())
                upload = await held.enter_async_context(
                    receiving(body, settings, self.clock, self.runtime.metrics.bytes_fetched)
                )
                early = held.enter_context(admission.early_start())
                await (upload.begun if early else upload.ended)()
                asked = self.windows
                decoder = await held.enter_async_context(
                    self.runtime.decoder.windows(upload.spool, self._job(), asked.window_s, asked.stride_s)
                )
            stopped = await self._classify_all(decoder, segments)
            return self._answer(segments, stopped, upload)

    def _job(self) -> DecodeJob:
        manifest, settings = self.runtime.manifest, self.runtime.settings
        limits = replace(settings.media_limits, max_seconds=settings.max_windowed_seconds)
        return DecodeJob(manifest.sampling, manifest.geometry, limits, slots_for(manifest, self.parameters))

    async def _classify_all(self, decoder: WindowDecoder, segments: Segments) -> ExitReason | None:
        """Classify all windows; returns why some were left out, or None."""
        number = 0
        while number < self.count:
            budget = self._budget(segments)
            if budget is not None and budget < self.runtime.manifest.flops.per_step:
                return "max_gflops"
            try:
                await self._classify_one(decoder, number, budget, segments)
                self.runtime.metrics.window_finished(failed=False)
            except Undecodable as problem:
                self.runtime.metrics.window_finished(failed=True)
                self.failure = self.failure or problem
            except DeadlinePassed:
                if not segments.segments:
                    raise
                return "deadline"
            number += 1
        return None

    def _budget(self, segments: Segments) -> int | None:
        limit = self.parameters.max_gflops
        return None if limit is None else round((limit - segments.gflops) * GIGA)

    async def _classify_one(self, decoder: WindowDecoder, number: int, budget: int | None, segments: Segments) -> None:
        began = self.clock()
        engine, due = self.runtime.engine, min(self.due, began + self.runtime.settings.request_timeout_seconds)
        async with AsyncExitStack() as held:
            async with in_time(due):
                waited_seconds = await held.enter_async_context(engine.admission.slot(due))
                frames = await held.enter_async_context(decoder.open(number))
            self.count = self._checked(frames.window.count)
            request = engine_request(self.runtime.manifest, self.parameters, due)
            outcome = await engine.classify(replace(request, max_flops=budget), FramesInPlace(frames))
        times = replace(
            outcome.stage_times,
            total=self.clock() - began,
            queue=waited_seconds + outcome.queue_seconds,
            decode=frames.decode_seconds,
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
        manifest, parameters, window = self.runtime.manifest, self.parameters, frames.window
        decoded = Decoded(frames.info, frames.frames_decoded)
        self.runtime.metrics.video_answered(to_metrics(manifest, parameters, outcome, times, decoded))
        sums = {name: getattr(self.times, name) + getattr(times, name) for name in _STAGES_OF_WINDOWS}
        self.times = replace(self.times, **sums)
        answer = to_response(manifest, self.runtime.engine.runner, parameters, self.request_id, outcome, times, decoded)
        return ClassifiedWindow(window.start_s, window.end_s, answer, scores_of(manifest, outcome))

    def _answer(self, segments: Segments, stopped: ExitReason | None, upload: Reception) -> Classification:
        if not segments.segments:
            raise self.failure or Undecodable("no window of the video can be decoded")
        times = replace(self.times, total=self.clock() - self.started, upload=upload.seconds)
        if self.timeline is not None:
            self.timeline.add("upload", upload.started, upload.started + upload.seconds)
        answer = segments.answer(times, stopped)
        if upload.fetched_bytes is None:
            return answer
        compute = answer.compute.model_copy(update={"bytes_fetched": upload.fetched_bytes})
        video = answer.video.model_copy(update={"bytes": upload.size})
        return answer.model_copy(update={"compute": compute, "video": video})
