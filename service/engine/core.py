"""The engine's core: a plain loop that schedules, runs and updates, on a thread of its own.

The loop's thread owns the state of every video. Another thread only waits for the device, so that the loop can prepare
the next batch while one runs. The client, which sends commands and gets reports, lives on an event loop of the same
process or in another process.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from adafocus.bundle.exit_rule import Bool, ExitReason, should_exit
from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.batch import Batch, BatchResult, GlanceExit
from adafocus.service.engine.clip_parts import ClipParts
from adafocus.service.engine.device import Device, InFlight, name_this_thread
from adafocus.service.engine.mailbox import Mailbox
from adafocus.service.engine.messages import QUEUE, Commands, Ended, Failure, Report
from adafocus.service.engine.pace import Pace
from adafocus.service.engine.runners.base import Float32, FrameFetcher, Int64, Runner, RunnerError
from adafocus.service.engine.scheduler import (
    MAX_BATCHES_IN_FLIGHT,
    most_urgent,
    nearly_full,
    of_the_foreground,
    rows_short,
    rows_to_run,
    steps_together,
)
from adafocus.service.engine.staging import Staging
from adafocus.service.engine.step_plan import exit_reason
from adafocus.service.engine.video_states import FREE, LEAVING, READY, RUNNING, WAITING, VideoStates
from adafocus.service.frame_memory import FrameSegment

logger = logging.getLogger("adafocus.engine")


class EngineCore:
    """Runs the videos of all clients through one model on one device.

    Args:
        manifest: of the bundle that the runner loaded.
        runner: the device; warmed up.
        slots: videos in flight at once.
        max_batch: rows in one batch at most.
        report: told what has happened, about once a batch, on the core's thread; must not block.
        device_thread: wait for the device on a thread of its own.
    """

    def __init__(
        self,
        manifest: Manifest,
        runner: Runner,
        *,
        slots: int,
        max_batch: int,
        report: Callable[[Report], None],
        device_thread: bool = True,
    ) -> None:
        self._manifest = manifest
        self._max_batch = max_batch
        self._planned = manifest.sampling.frames + (manifest.sampling.focus_frames or 0)
        self._is_clip = manifest.sampling.focus_frames is not None
        self._look_ahead = 1 if self._is_clip else runner.look_ahead
        self._judge = manifest.exit_rule.confidence
        self._glance_rule = manifest.glance_exit_rule
        self._glance_frames = manifest.sampling.frames
        self._exits_after_glance = any(point.glance_thresholds for point in manifest.operating_points)
        self._states = VideoStates(slots, manifest, runner.widths)
        self._parts = ClipParts(manifest, self._states)
        self._segments: dict[int, FrameSegment] = {}
        self._staging = [Staging(manifest, runner, max_batch, self._segments) for _ in range(MAX_BATCHES_IN_FLIGHT)]
        self._fetcher = runner if isinstance(runner, FrameFetcher) else None
        self._tell = report
        self._report = Report()
        self._urgent = False  # somebody waits for the report: it is not held back until the next one
        self._watching = 0  # videos that are watched and not yet free
        self._next_deadline = math.inf  # none is earlier
        self._almost_full = False  # a batch should be started when the running one is about to end
        self._frames_short = 0.0  # frames that have to come until a batch can be started
        self.mailbox = Mailbox()
        """What other threads tell the core."""
        self._device = Device(runner, self.mailbox.done, own_thread=device_thread)
        self._pace = Pace()

    def run(self) -> None:
        """Serve until closed; videos still in flight then fail."""
        name_this_thread("engine")
        self._device.start()
        try:
            while self._turn():
                pass
        finally:
            self._end_all()
            self._device.close()

    def _turn(self) -> bool:
        """Wait for something to do, and do all of it; False once closed."""
        done = self.mailbox.wait(min(self._next_deadline, self._pace.ends_at if self._almost_full else math.inf))
        if done is None:
            return False
        self._take_letters()  # before the batches: a video is ready since its frame came, or since its step has ended
        for batch in done:
            self._complete(batch.flight, batch.result)
        if self._next_deadline <= time.monotonic():
            self._expire()
        self._dispatch()
        self.mailbox.expect(self._frames_short, self._next_deadline)
        idle = len(self._staging) == MAX_BATCHES_IN_FLIGHT
        if self._report and not self.mailbox.has_event and (self._urgent or idle):
            report, self._report, self._urgent = self._report, Report(), False
            self._tell(report)
        return True

    def _take_letters(self) -> None:
        """Carry out everything that was posted, in that order."""
        while (letter := self.mailbox.take()) is not None:
            if isinstance(letter, tuple):
                self._obey(*letter)
            elif isinstance(letter, FrameSegment):
                self._attach(letter)
            else:
                segment = self._segments.pop(letter, None)
                if self._fetcher is not None and segment is not None:
                    self._fetcher.detach(segment)

    def _attach(self, segment: FrameSegment) -> None:
        self._segments[segment.number] = segment
        if self._fetcher is not None:
            try:
                self._fetcher.attach(segment)
            except RunnerError as error:  # its frames are then copied by the processor
                logger.warning(
                    "the device cannot read frames where they lie", extra={"fields": {"because": str(error)}}
                )

    def _obey(self, commands: Commands, posted: float) -> None:
        states, touched = self._states, []
        for request in commands.submitted:
            states.start(request)
            self._watching += request.watched
            self._next_deadline = min(self._next_deadline, request.deadline)
        if commands.frames:
            touched.append(states.deliver(commands.frame_table()))
        if commands.drained:
            drained = np.array(commands.drained, dtype=np.int64)
            states.drained[drained] = True
            touched.append(drained)
        for slot in commands.cancelled:
            self._leave(slot)
        for slots in touched:
            self._offer(slots, posted)

    def _offer(self, slots: Int64, since: float) -> None:
        """Make videos that wait ready if their next step has its frames, or end them if it never will.

        Args:
            slots: of the videos.
            since: when they got what they may have waited for, in seconds.
        """
        states = self._states
        slots = slots[states.status[slots] == WAITING]
        delivered = states.delivered[slots]
        if self._is_clip:
            needed = np.where(self._parts.glances_first(slots), self._glance_frames, self._planned)
            complete = (delivered >= needed) | (states.drained[slots] & (delivered > 0))
        else:
            complete = delivered > states.step[slots]
        ready = slots[complete]
        states.status[ready] = READY
        states.ready_since[ready] = since
        if len(ready) < len(slots):
            starved = slots[~complete]
            for slot in set(starved[states.drained[starved]].tolist()):
                self._end(slot, "end_of_video" if states.step[slot] else Failure.NO_FRAME)

    def _expire(self) -> None:
        """End videos whose time is up, with the best answer so far."""
        states = self._states
        for slot in np.flatnonzero(states.deadline <= time.monotonic()).tolist():
            self._end(slot, "deadline" if states.step[slot] else Failure.DEADLINE)
        self._next_deadline = float(states.deadline.min())

    def _dispatch(self) -> None:
        """Give the device what it should have now."""
        states, max_batch = self._states, self._max_batch
        self._almost_full, self._frames_short = False, math.inf
        while self._staging:
            (ready,) = (states.status == READY).nonzero()
            if len(ready) and states.background[ready].any():
                ready = self._of_the_foreground(ready)
            if self._parts.exist and len(ready):
                ready = self._parts.with_the_most_urgent(ready)
            in_flight, ending = MAX_BATCHES_IN_FLIGHT - len(self._staging), self._pace.ending(time.monotonic())
            rows = rows_to_run(ready=len(ready), max_batch=max_batch, in_flight=in_flight, ending=ending)
            if not rows:
                self._almost_full = len(ready) >= nearly_full(max_batch) and not ending
                self._frames_short = rows_short(ready=len(ready), max_batch=max_batch, in_flight=in_flight)
                return
            if rows < len(ready):
                ready = ready[most_urgent(states.due[ready], states.arrived[ready], rows)]
            self._start(ready)

    def _of_the_foreground(self, slots: Int64) -> Int64:
        """Return the videos that may run now; those in the background may have to wait for others."""
        states = self._states
        others = bool(((states.status != FREE) & ~states.background).any())
        behind, since = states.background[slots], states.ready_since[slots]
        allowed = of_the_foreground(
            behind, since, time.monotonic(), others_in_flight=others, shares=self._fetcher is not None
        )
        return slots[allowed]

    def _start(self, slots: Int64) -> None:
        states, staging = self._states, self._staging.pop()
        # Several steps of a video in the background would keep others waiting for all of them.
        alone = len(slots) == 1 and not states.background[slots[0]]
        together = steps_together(alone=alone, available=states.available(int(slots[0]), self._look_ahead))
        step = states.step[slots]
        after = step + together
        part = self._parts.next_of(slots)
        states.seconds[slots, step, QUEUE] += time.monotonic() - states.ready_since[slots]
        states.started[slots] = after
        states.status[slots] = RUNNING
        try:
            batch = (
                staging.step_of_each(slots, step, states, part)
                if together == 1
                else staging.steps_of_one(int(slots[0]), together, states)
            )
        except Exception as error:
            logger.exception("a batch of %d rows could not be put together", len(slots))
            self._staging.append(staging)
            states.status[slots] = WAITING
            self._fail(slots, str(error))
            return
        if self._exits_after_glance:
            batch = self._with_glance_exit(batch, states.glance_thresholds[slots, step])
        self._device.run(slots, together, batch, staging)
        self._pace.submitted(len(batch.step), time.monotonic())
        if batch.frame_places is None and not batch.in_place:
            read = states.delivered[slots] if self._is_clip else after
            # A frame of the glance may have to stand for a lost one of the focus.
            self._tell_what_was_read(slots, np.zeros_like(read) if part == "glance" else read)

    def _tell_what_was_read(self, slots: Int64, counts: Int64) -> None:
        """Report frames that have been copied into a batch, except those that a watcher is shown later."""
        if self._is_clip:  # others are given a further place for the frame that they ask for
            self._urgent = self._urgent or self._states.hungry(slots)
        if self._watching:
            unwatched = ~self._states.watched[slots]
            slots, counts = slots[unwatched], counts[unwatched]
        self._report.gathered.append((slots.tolist(), counts.tolist()))

    def _with_glance_exit(self, batch: Batch, thresholds: Float32) -> Batch:
        """Let rows exit after the glance where their step has a threshold there."""
        if batch.of_one_video or not np.isfinite(thresholds).any():
            return batch
        return replace(batch, glance_exit=GlanceExit(self._glance_rule, thresholds))

    def _complete(self, flight: InFlight, result: BatchResult | Exception) -> None:
        """Store what a batch left, and decide which videos are finished."""
        states, slots = self._states, flight.slots
        self._staging.append(flight.staging)
        self._pace.finished(len(flight.batch.step), time.monotonic())
        staying = states.status[slots] == RUNNING
        if staying.all():
            states.status[slots] = WAITING
        else:
            states.status[slots[staying]] = WAITING
            self._free(slots[~staying])
        if isinstance(result, Exception):
            logger.error("a batch of %d rows failed outside the graphs", len(slots), exc_info=result)
            self._fail(slots[staying], str(result))
            return
        self._report.runs += result.runs
        now = time.monotonic()
        if flight.steps > 1:
            self._advance_one(int(slots[0]), flight.steps, result, now)
            return
        if result.fault is not None:
            self._fail(slots[staying & result.failed], str(result.fault))
            staying &= ~result.failed
        (rows,) = staying.nonzero()
        if len(rows) and flight.batch.part == "glance":
            rows = self._keep_glances(slots, rows, result)
        if len(rows):
            self._advance(slots[rows], result, rows, now)
            self._offer(slots[rows], now)

    def _keep_glances(self, slots: Int64, rows: Int64, result: BatchResult) -> Int64:
        """Let clips whose glances were not enough wait for the frames of their focus; returns the rows that exit."""
        after = result.outputs.after_glance
        if after is None:
            return rows
        on = rows[~after[rows]]
        if len(on):
            seconds = result.seconds if len(result.seconds) == 1 else result.seconds[on]
            self._states.keep_glance(slots[on], result.outputs.take(on), seconds)
            self._report.glanced += slots[on].tolist()
            self._urgent = True
            self._offer(slots[on], time.monotonic())
        leaving: Int64 = rows[after[rows]]
        return leaving

    def _advance_one(self, slot: int, steps: int, result: BatchResult, now: float) -> None:
        """Let a video take several steps that ran together, until it ends."""
        slots = np.array([slot])
        if result.failed.any() and self._states.status[slot] == WAITING:
            self._fail(slots, str(result.fault))
        for row in range(steps):
            if self._states.status[slot] == WAITING:
                self._advance(slots, result, np.array([row]), now)
        self._offer(slots, now)

    def _advance(self, slots: Int64, result: BatchResult, rows: Int64, now: float) -> None:
        """Let each of the slots take what its row of the batch left."""
        states, outputs, seconds, step = self._states, result.outputs, result.seconds, self._states.step[slots]
        if len(rows) < len(outputs.logits):
            outputs = outputs.take(rows)
            seconds = seconds if len(seconds) == 1 else seconds[rows]
        thresholds, after = states.thresholds[slots, step], outputs.after_glance
        # Where no video can exit, nobody needs to know now how confident it is; whoever asks later computes it.
        decides = self._watching or after is not None or np.isfinite(thresholds).any()
        confidences = self._judge(outputs.logits, step) if decides else np.full(len(slots), np.nan, np.float32)
        if after is not None:
            states.after_glance[slots] = after
            confidences[after] = self._glance_rule.confidence(outputs.logits[after], step[after])
        states.finish_step(slots, step, outputs, confidences, seconds, now)
        if self._watching:
            for slot, last in zip(slots.tolist(), step.tolist(), strict=True):
                if states.watched[slot]:
                    self._urgent = True
                    self._report.watched.append((slot, states.step_table(slot, last)))
        confident = should_exit(confidences, thresholds)
        self._decide(slots, step + 1, confident if after is None else confident | after)

    def _decide(self, slots: Int64, step: Int64, confident: Bool) -> None:
        """End the videos that are finished, and let the others go on."""
        stop = confident | (step >= self._manifest.steps) | (step >= self._states.affordable[slots])
        if stop.any():
            for index in stop.nonzero()[0].tolist():
                slot = int(slots[index])
                at_end = bool(step[index] == self._manifest.steps) and not self._states.after_glance[slot]
                short = at_end and self._is_clip and self._states.delivered[slot] < self._planned
                self._end(slot, exit_reason(at_end=at_end, short=bool(short), confident=bool(confident[index])))
            slots, step = slots[~stop], step[~stop]
        self._urgent = self._urgent or self._states.hungry(slots)
        self._report.stepped.append((slots.tolist(), step.tolist()))

    def _fail(self, slots: Int64, fault: str) -> None:
        for slot in slots.tolist():
            self._end(slot, Failure.FAULT, fault)

    def _end(self, slot: int, reason: ExitReason | Failure, fault: str = "") -> None:
        """Report a video's end and take it out of every further batch."""
        states = self._states
        started = int(states.started[slot])
        queued = float(states.seconds[slot, :started, QUEUE].sum())
        self._urgent = True
        self._report.ended.append(Ended(slot, reason, states.step_table(slot), started, queued, fault))
        self._leave(slot)

    def _leave(self, slot: int) -> None:
        """Take a video out of every further batch; its slot is free, or will be when its batch is done."""
        states = self._states
        if states.status[slot] == RUNNING:
            states.status[slot] = LEAVING
            states.deadline[slot] = np.inf
        elif states.status[slot] not in (FREE, LEAVING):
            self._free(np.array([slot]))

    def _free(self, slots: Int64) -> None:
        if self._watching:
            self._watching -= int(self._states.watched[slots].sum())
        self._states.free(slots)
        self._report.freed += slots.tolist()
        self._urgent = True

    def _end_all(self) -> None:
        for slot in np.flatnonzero(~np.isin(self._states.status, (FREE, LEAVING))).tolist():
            self._end(slot, Failure.FAULT, "the engine was closed")
        self._tell(self._report)
        self._report = Report()
