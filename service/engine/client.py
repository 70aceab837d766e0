"""The engine's client: videos are submitted, given frames and cancelled; each has an answer that can be awaited.

It lives on an event loop and knows its core only by messages, so the core may be a thread or another process.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.frames import FrameStore
from adafocus.service.engine.messages import Commands, Ended, Failure, Report, StepTable, Submit
from adafocus.service.engine.outcomes import Steps, outcome_of, problem_of
from adafocus.service.engine.request import EngineObserver, EngineRequest
from adafocus.service.engine.step_plan import affordable_steps, certain_steps, prefetch_targets
from adafocus.service.engine.transport import CoreLostError, Transport
from adafocus.service.engine.video import Video
from adafocus.service.errors import DeadlinePassed, Internal
from adafocus.service.frame_memory import FrameSegment, SharedFrame
from adafocus.video.decoder import Frame

OVERDUE_SECONDS = 0.1
"""How long after a deadline the core may be silent. It keeps deadlines itself, unless a batch holds it up."""


class EngineClient:
    """Turns calls into commands for the core, and its reports into answers.

    Args:
        manifest: of the model.
        transport: to the core.
        observer: told what ran.
    """

    def __init__(self, manifest: Manifest, transport: Transport, observer: EngineObserver) -> None:
        self._manifest = manifest
        self._transport = transport
        self._observer = observer
        self._is_clip = manifest.sampling.focus_frames is not None
        self._planned = manifest.sampling.frames + (manifest.sampling.focus_frames or 0)
        self._videos: dict[int, Video] = {}
        self._free = _slots(transport)
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._store = FrameStore(manifest.geometry.crop)
        self._segments: dict[int, FrameSegment] = {}
        self._commands = Commands()
        self._flush_due = False
        self._urgent = False  # the core may stand still until it has the commands
        self._wakes_later = False  # the core may not have seen commands that it was not woken for

    async def start(self) -> None:
        """Start the core."""
        await self._transport.start(self._hear)

    async def close(self) -> None:
        """End the core; videos still in flight fail."""
        await self._transport.close()
        self._fail_all()
        self._store.close()

    async def submit(self, request: EngineRequest) -> Video:
        """Take a video in, once there is a slot; frames may follow at once. The core learns of it with its first frame.

        Raises:
            CoreLostError: the core is gone, and will be back.
            Internal: the core is gone.
        """
        loop = asyncio.get_running_loop()
        if not self._transport.alive:
            raise self._gone()
        slot = self._free.pop() if self._free else await self._next_slot()
        thresholds, most = request.thresholds, self._transport.runner.look_ahead
        affordable = affordable_steps(request.max_flops, self._manifest.flops.per_step)
        glance = request.glance_thresholds
        certain = certain_steps(thresholds, affordable, glance) if request.look_ahead else (1,) * len(thresholds)
        prefetch = prefetch_targets(request.continue_probability, certain)
        if self._is_clip:  # the frames of the focus are asked for when the glances were not enough
            may_exit = bool(glance) and math.isfinite(glance[0])
            prefetch = (self._manifest.sampling.frames if may_exit else self._planned,)
        video = Video(request, slot, loop.create_future(), self._planned, prefetch)
        self._videos[slot] = video
        deadline = math.inf if request.deadline is None else request.deadline
        watched = request.on_step is not None
        together = certain if most > 1 and request.look_ahead else ()
        video.untold = Submit(
            slot, thresholds, affordable, together, time.monotonic(), deadline, watched, glance, request.background
        )
        if request.deadline is not None:
            video.overdue = loop.call_later(max(0.0, request.deadline - time.monotonic()), self._is_due, video)
        return video

    def frame_ready(self, video: Video, frame: Frame | SharedFrame) -> None:
        """Hand over the next frame of a video, in visiting order.

        Raises:
            ValueError: the frame is not of the model's size.
        """
        self.frames_ready(video, (frame,))

    def frames_ready(self, video: Video, frames: Sequence[Frame | SharedFrame]) -> None:
        """Hand over the next frames of a video, in visiting order.

        Raises:
            ValueError: a frame is not of the model's size; those before it have been handed over.
        """
        slot, delivered, held, told = video.slot, video.delivered, video.held, self._commands.frames
        known = self._segments
        if self._is_clip or len(delivered) <= video.steps:  # else the core has a frame that no finished step has used
            self._urgent = True
        try:
            for frame in frames:
                shared = frame if isinstance(frame, SharedFrame) else self._store.put(frame)
                if video.left:
                    shared.release()
                    continue
                segment = shared.segment
                if segment.number not in known:
                    self._attach(segment)
                told.extend((slot, len(delivered), segment.number, shared.place, frame.position))
                delivered.append((frame.index, frame.time_s))
                held.append(shared)
        finally:
            if told:
                self._introduce(video)
                self._flush_soon()

    def no_more_frames(self, video: Video) -> None:
        """Say that no further frame of a video will come."""
        if not video.left:
            self._introduce(video)
            self._commands.drained.append(video.slot)
            self._flush_soon()

    def cancel(self, video: Video, error: BaseException | None = None) -> None:
        """Take a video out of every later batch; its answer is then the error, or never comes. May be called again."""
        if not video.finished.done():
            if error is None:
                video.finished.cancel()
            else:
                video.finished.set_exception(error)
        if video.left:
            return
        if video.untold is None:
            self._commands.cancelled.append(video.slot)
            self._flush_soon()
            self._let_go(video)
        else:  # the core has never heard of it
            self._let_go(video)
            del self._videos[video.slot]
            self._grant(video.slot)

    def _introduce(self, video: Video) -> None:
        """Tell the core of a video, if it has not been told yet."""
        if video.untold is not None and not video.left:
            self._commands.submitted.append(video.untold)
            video.untold = None

    def _attach(self, segment: FrameSegment) -> None:
        """Make a segment known to the core, which forgets those whose decoders have ended meanwhile."""
        held = {frame.segment.number for video in self._videos.values() for frame in video.held}
        for number, known in list(self._segments.items()):
            if known.retired and number not in held:
                del self._segments[number]
                self._transport.detach(known)
        self._segments[segment.number] = segment
        self._transport.attach(segment)

    async def _next_slot(self) -> int:
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # it was granted in the very turn: pass it on
                self._grant(waiter.result())
            raise

    def _grant(self, slot: int) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(slot)
                return
        self._free.append(slot)

    def _flush_soon(self) -> None:
        """Send what was said in this turn of the event loop together."""
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _is_due(self, video: Video) -> None:
        """End a video of which the core does not know, which keeps the deadlines of all others unless it is held up."""
        if video.untold is None:
            video.overdue = asyncio.get_running_loop().call_later(OVERDUE_SECONDS, self._give_up, video)
        else:
            self.cancel(video, DeadlinePassed())

    def _give_up(self, video: Video) -> None:
        """Answer for a core that is held up by the device, if there cannot be an answer yet."""
        if video.steps == 0:
            self.cancel(video, DeadlinePassed())

    def _flush(self) -> None:
        self._flush_due = False
        commands = self._commands
        if not commands:
            return
        self._commands = Commands()
        wake = bool(self._urgent or commands.submitted or commands.drained or commands.cancelled)
        self._urgent = False
        self._wakes_later = self._wakes_later or not wake
        self._transport.post(commands, wake=wake)

    def _hear(self, report: Report) -> None:
        """Take in what the core reports."""
        for rows, glance_seconds, focus_seconds, focus_rows in report.runs:
            if rows:
                self._observer.batch_ran("glance", rows, glance_seconds)
            if focus_rows:
                self._observer.batch_ran("focus", focus_rows, focus_seconds)
        # The core may have finished the steps that frames were held back for, and stand still.
        self._urgent = self._urgent or bool(self._commands.frames)
        if self._wakes_later:
            self._wakes_later = False
            self._transport.wake()
        videos = self._videos
        for slots, counts in report.gathered:
            for slot, count in zip(slots, counts, strict=True):
                video = videos.get(slot)
                if video is not None:
                    video.release(count)
        for slot in report.glanced:
            video = videos.get(slot)
            if video is not None:
                video.prefetch = (self._planned,)
                video.feed()
        for slot, table in report.watched:
            self._show(videos.get(slot), table)
        for slots, counts in report.stepped:
            for slot, count in zip(slots, counts, strict=True):
                video = videos.get(slot)
                if video is not None:
                    video.steps = count
                    if not self._is_clip:
                        video.release(count)
                    if not video.complete:
                        video.feed()
        for ended in report.ended:
            self._conclude(ended)
        if report.freed:
            self._flush()  # what was said of the videos before, before it could be taken for the next one's
        for slot in report.freed:
            videos.pop(slot, None)
            self._grant(slot)
        if not self._transport.alive:
            self._fail_all()

    def _show(self, video: Video | None, table: StepTable) -> None:
        """Tell a video's watcher of a step, with its frame."""
        if video is None or video.left or video.request.on_step is None:
            return
        first = video.steps if not self._is_clip else 0
        shared = video.held[0]
        frame = Frame(shared.position, shared.index, shared.time_s, shared.pixels.copy())
        step = Steps(table, video.delivered[first : first + 1], self._manifest.exit_rule)[0]
        video.steps += 1
        video.release(len(video.delivered) if self._is_clip else video.steps)
        video.feed()
        try:
            video.request.on_step(step, frame)
        except Exception as error:  # noqa: BLE001 - whatever the watcher raises belongs to the video's caller
            self.cancel(video, error)

    def _conclude(self, ended: Ended) -> None:
        video = self._videos.get(ended.slot)
        if video is None:
            return
        self._let_go(video)
        if video.finished.done():
            return
        if isinstance(ended.reason, Failure):
            video.finished.set_exception(problem_of(ended))
        else:
            video.finished.set_result(outcome_of(self._manifest, video.request, video.delivered, ended))

    def _let_go(self, video: Video) -> None:
        """Give its frames back and wake whoever feeds it."""
        video.left = True
        if video.overdue is not None:
            video.overdue.cancel()
        video.release(len(video.delivered))
        video.feed()

    def _gone(self) -> Exception:
        return CoreLostError() if self._transport.returns else Internal()

    def _fail_all(self) -> None:
        """Fail the videos of a core that is gone. One that comes in its place knows nothing."""
        for video in list(self._videos.values()):
            self._let_go(video)
            with suppress(asyncio.InvalidStateError):
                video.finished.set_exception(self._gone())
        self._videos.clear()
        # A core that comes in the lost one's place knows nothing.
        self._free, self._commands = _slots(self._transport), Commands()
        self._segments.clear()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(self._gone())


def _slots(transport: Transport) -> list[int]:
    """All slots, to be taken from the end."""
    return list(reversed(range(transport.first_slot, transport.first_slot + transport.slots)))
