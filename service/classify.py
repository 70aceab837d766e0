"""Classifies one video: from the bytes of an upload to an answer that says what it cost.

HTTP and the command line both call `classify`; they supply the bytes and deliver the answer.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

from adafocus.bundle.manifest import FULL, Manifest
from adafocus.service.deadline import Deadline
from adafocus.service.decode.frames_in_place import FramesInPlace
from adafocus.service.decode.pool import DecodeJob
from adafocus.service.decode.session import DecodeSession
from adafocus.service.decode.spool import Spool
from adafocus.service.engine.quality import point_at
from adafocus.service.engine.request import EngineRequest, FrameSource, Outcome
from adafocus.service.engine.stage_times import StageTimes
from adafocus.service.engine.step_plan import PREFETCH_PROBABILITY, prefetch_targets
from adafocus.service.holdings import Holdings
from adafocus.service.models.second import SecondModel
from adafocus.service.progress import GIGA, Observer, StepReporter
from adafocus.service.reception import Reception, Video
from adafocus.service.results import Decoded, present_labels, to_metrics, to_response
from adafocus.service.runtime import Course, Runtime
from adafocus.service.schemas.classify import Classification
from adafocus.service.schemas.parameters import Parameters
from adafocus.service.telemetry.definitions import CALIBRATED
from adafocus.service.telemetry.timeline import UNTIMED, Timeline
from adafocus.video.probe import VideoInfo


async def classify(
    runtime: Runtime,
    body: Video,
    parameters: Parameters,
    request_id: str,
    observer: Observer | None = None,
    timeline: Timeline = UNTIMED,
    caller: str = "",
    second: SecondModel | None = None,
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
        caller: whose request it is; callers get equal shares.
        second: may classify the video too, after it was answered.

    Raises:
        Problem: there is no answer; nothing of the request is left in memory or on disk.
    """
    clock = time.monotonic  # not the clock of uvloop, which counts whole milliseconds
    settings, admission = runtime.settings, runtime.engine.admission
    started = clock()
    due = started + min(settings.request_timeout_seconds, (parameters.deadline_ms or math.inf) / 1e3)
    with Deadline(due) as limit:
        place = admission.enter(caller)
        held = Holdings(admission, place)
        try:
            upload, waited_seconds = await _upload_and_slot(runtime, body, held, timeline, due)
            parameters = affordable(runtime, parameters, waited_seconds, clock())
            background = admission.wants_more_than_its_share(caller)
            course = course_of(runtime, parameters, ahead=runtime.decodes_ahead(background=background))
            request = engine_request(course, parameters, due, background=background)
            with timeline.stage("decode"):
                job = decode_job(course, parameters)
                decoding = runtime.decoder.begin(upload.spool, job, caller=caller, background=background)
                frames = held.frames = await decoding
                if observer is not None:
                    await frames.opened()
                    request = _observed(request, runtime.manifest, frames.info, observer, started)
            limit.lift()  # from now on the engine keeps the deadline: there may be an answer to fall back on
            # Frames of glances that may have to wait for the focus would fill the decoder's memory: they are copied.
            source = frames if course.may_spare_focus_frames else frame_source(runtime, frames)
            outcome = await runtime.engine.classify(request, source)
            place.processor_seconds = frames.cost.cpu_seconds + outcome.glance_seconds + outcome.focus_seconds
            if upload.over and not runtime.quality.level:  # never a further run while the service is busy
                _classify_again(runtime, second, parameters.exit, outcome, frames, upload.spool, held)
        except BaseException as error:
            await held.give_back(error)
            raise
        await held.give_back()
    if frames.capped and outcome.reason == "end_of_video":
        outcome = replace(outcome, reason="max_decode_ms")
    if timeline is not UNTIMED:
        for step in outcome.steps:
            timeline.step(step)
    times = _times(outcome, frames, clock() - started, upload.seconds, waited_seconds)
    decoded = Decoded(frames.info, frames.cost.frames, frames.cost.cpu_seconds, upload.fetched_bytes, upload.size)
    return answer_of(runtime, parameters, request_id, outcome, times, decoded)


async def _upload_and_slot(
    runtime: Runtime, body: Video, held: Holdings, timeline: Timeline, due: float
) -> tuple[Reception, float]:
    """Receive the video, as far as it has to be there, and wait for a slot; returns the seconds waited for that."""
    settings, admission, place = runtime.settings, held.admission, held.place
    upload = Reception(body, settings, timeline, time.monotonic, runtime.metrics.bytes_fetched)
    await upload.open()
    held.upload = upload
    upload.on_end(lambda: admission.uploaded(place))
    if not upload.over:
        held.early = admission.start_early()
        await admission.while_uploading(place, (upload.soon if held.early else upload.ended)())
    with timeline.stage("queue"):
        return upload, await admission.take_slot(due, place)


def _observed(
    request: EngineRequest, manifest: Manifest, info: VideoInfo, observer: Observer, started: float
) -> EngineRequest:
    """The request of a video whose steps are watched one by one."""
    report = StepReporter(
        manifest, request.thresholds, request.glance_thresholds, info, observer, time.monotonic, started
    )
    return replace(request, look_ahead=False, on_step=report)


def _classify_again(
    runtime: Runtime,
    second: SecondModel | None,
    point: str,
    outcome: Outcome,
    frames: DecodeSession,
    spool: Spool,
    held: Holdings,
) -> None:
    """Have a video classified again in the background, if one is wanted; what it holds goes with it then."""
    if second is not None and outcome.reason in CALIBRATED and second.wants_another(runtime.manifest):
        second.run(_ask_second(second, runtime.manifest, outcome, frames, spool, held.pass_on()))
    elif outcome.reason == "confident" and runtime.shadows.wants_another():
        runtime.shadows.run(_shadow(runtime, point, outcome, frames, spool, held.pass_on()))


async def _ask_second(
    second: SecondModel,
    manifest: Manifest,
    first: Outcome,
    used: DecodeSession,
    spool: Spool,
    held: Holdings,
) -> None:
    """Classify a video with another model, at its default point, and compare the labels.

    Raises:
        Problem: it cannot be classified.
    """
    try:
        await used.close()
        with second.use() as runtime:
            other = await _run_again(runtime, runtime.manifest.default_point, spool)
            if other.reason in CALIBRATED:
                found = _label_names(runtime.manifest, other)
                second.compared(manifest.name, agrees=found == _label_names(manifest, first))
    finally:
        await held.give_back()


def _label_names(manifest: Manifest, outcome: Outcome) -> frozenset[str]:
    return frozenset(manifest.labels[index] for index in present_labels(manifest, outcome))


async def _run_again(runtime: Runtime, point: str, spool: Spool) -> Outcome:
    parameters = Parameters(exit=point, top_k=1)
    course, due = course_of(runtime, parameters), time.monotonic() + runtime.settings.request_timeout_seconds
    async with runtime.decoder.open(spool, course.job) as frames:
        source = frames if course.may_spare_focus_frames else frame_source(runtime, frames)
        return await runtime.engine.classify(engine_request(course, parameters, due), source)


async def _shadow(
    runtime: Runtime, point: str, early: Outcome, used: DecodeSession, spool: Spool, held: Holdings
) -> None:
    """Classify a video again without an early exit, and compare; ``held`` is what the video holds until then.

    Raises:
        Problem: it cannot be classified again.
    """
    manifest = runtime.manifest
    try:
        await used.close()
        whole = await _run_again(runtime, FULL, spool)
    finally:
        await held.give_back()
    if whole.reason == "all_steps":
        agrees = present_labels(manifest, early) == present_labels(manifest, whole)
        runtime.shadows.compared(point, agrees=agrees)


def affordable(runtime: Runtime, parameters: Parameters, waited_seconds: float, now: float) -> Parameters:
    """Return the request at the operating point that the service can afford while others wait."""
    before = runtime.quality.level
    level = runtime.quality.observe(now, waited_seconds)
    if level != before:
        runtime.metrics.quality_level(level)
    if parameters.strict or not level:
        return parameters
    return parameters.at(point_at(level, parameters.exit, runtime.manifest.cheaper_points(parameters.exit)))


def course_of(runtime: Runtime, parameters: Parameters, *, ahead: bool = True) -> Course:
    """What the parameters ask of the decoder and of the engine; it is the same for many requests.

    Args:
        runtime: that serves the request.
        parameters: of the request.
        ahead: whether frames that may turn out not to be needed are decoded while the step before them runs.
    """
    key = (parameters.exit, parameters.max_gflops is None, ahead)
    course = runtime.courses.get(key)
    if course is None:
        manifest, slots = runtime.manifest, slots_for(runtime.manifest, parameters)
        continuation = manifest.continuation_row(parameters.exit)
        if not ahead and slots is not None:
            slots, continuation = 1, (0.0,) * len(continuation)
        course = runtime.courses[key] = Course(
            thresholds=manifest.threshold_row(parameters.exit),
            glance_thresholds=manifest.glance_threshold_row(parameters.exit),
            continue_probability=continuation,
            job=DecodeJob(manifest.sampling, manifest.geometry, runtime.settings.media_limits, slots),
            may_spare_focus_frames=may_spare_focus_frames(manifest, parameters.exit),
        )
    return course


def frame_source(runtime: Runtime, frames: DecodeSession) -> FrameSource:
    """The frames of a video as its engine reads them: where they lie, unless they are smaller than their places."""
    return FramesInPlace(frames) if runtime.frames_lie_in_place else frames


def decode_job(course: Course, parameters: Parameters) -> DecodeJob:
    """The decode job of a request."""
    limit_ms = parameters.max_decode_ms
    return course.job if limit_ms is None else replace(course.job, max_cpu_seconds=limit_ms / 1e3)


def engine_request(course: Course, parameters: Parameters, due: float, *, background: bool = False) -> EngineRequest:
    """What a request asks of the engine, if nobody watches its steps."""
    return EngineRequest(
        thresholds=course.thresholds,
        glance_thresholds=course.glance_thresholds,
        max_flops=None if parameters.max_gflops is None else round(parameters.max_gflops * GIGA),
        deadline=due,
        continue_probability=course.continue_probability,
        look_ahead=parameters.deadline_ms is None,
        background=background,
    )


def _times(outcome: Outcome, frames: DecodeSession, total: float, upload: float, waited: float) -> StageTimes:
    engine = outcome.stage_times
    return StageTimes(total, upload, waited + engine.queue, frames.cost.seconds, engine.glance, engine.focus)


def answer_of(
    runtime: Runtime,
    parameters: Parameters,
    request_id: str,
    outcome: Outcome,
    times: StageTimes,
    decoded: Decoded,
) -> Classification:
    """Return the response, and count it in the metrics."""
    manifest = runtime.manifest
    runtime.metrics.video_answered(to_metrics(manifest, parameters, outcome, times, decoded))
    return to_response(manifest, runtime.engine.runner, parameters, request_id, outcome, times, decoded)


def may_spare_focus_frames(manifest: Manifest, point: str) -> bool:
    """Return whether a clip may be answered after its glances, so that the frames of its focus need no decoding."""
    return manifest.kind == "clip" and any(map(math.isfinite, manifest.glance_threshold_row(point)))


def slots_for(manifest: Manifest, parameters: Parameters) -> int | None:
    """Return the number of frames that the decoder may prepare before they are asked for; None for no limit.

    None for a video that will probably need all of its frames; it has them sooner. For any other those that the engine
    asks for before the first step: the second frame only where the video is likely to go on. Frames that are decoded
    for a video that has exited are wasted.
    """
    if manifest.kind == "clip":  # its only step reads all frames together
        return 1 if may_spare_focus_frames(manifest, parameters.exit) else None
    if parameters.max_gflops is not None:  # it may end anywhere
        return 1
    continuation = manifest.continuation_row(parameters.exit)
    if math.prod(continuation[:-1]) >= PREFETCH_PROBABILITY:
        return None
    return prefetch_targets(continuation, (1,) * len(continuation))[0]
