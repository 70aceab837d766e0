"""The engine's core: a plain loop that schedules, runs and updates, on a thread of its own.

The loop's thread owns the state of every video. Another thread only waits for the device, so that the next batch is
prepared while one runs. Whoever sends commands, and whoever is told what has happened, is elsewhere: on an event loop
in the same process, or in another process.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

import numpy as np

from adafocus.bundle.exit_rule import Bool, ExitReason, leaves
from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.batch import BatchResult
from adafocus.service.engine.device import Device, Done, InFlight, name_this_thread
from adafocus.service.engine.messages import Commands, Ended, Failure, Report
from adafocus.service.engine.runners.base import Int64, Runner
from adafocus.service.engine.scheduler import MAX_BATCHES_IN_FLIGHT, most_urgent, rows_to_run, steps_together
from adafocus.service.engine.staging import Staging
from adafocus.service.engine.step_plan import exit_reason
from adafocus.service.engine.video_states import FREE, LEAVING, QUEUE, READY, RUNNING, WAITING, VideoStates
from adafocus.service.frame_memory import FrameSegment

logger = logging.getLogger("adafocus.engine")

LONGEST_WAIT_SECONDS = 60.0
"""The loop wakes at least so often, which costs nothing and needs no limit of the platform."""


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
        self._states = VideoStates(slots, manifest, runner.widths)
        self._staging = [Staging(manifest, runner, max_batch) for _ in range(MAX_BATCHES_IN_FLIGHT)]
        self._segments: dict[int, FrameSegment] = {}
        self._tell = report
        self._report = Report()
        self._urgent = False  # somebody waits for the report: it is not held back until the next one
        self._watching = 0  # videos that are watched and not yet free
        self._next_deadline = math.inf  # none is earlier
        self._mailbox: SimpleQueue[Commands | FrameSegment | Done | int | None] = SimpleQueue()
        self._device = Device(runner, self._mailbox.put, own_thread=device_thread)

    def post(self, commands: Commands) -> None:
        """Have commands carried out; from any thread."""
        self._mailbox.put(commands)

    def attach(self, segment: FrameSegment) -> None:
        """Know a segment whose frames commands that are posted later name; from any thread."""
        self._mailbox.put(segment)

    def detach(self, number: int) -> None:
        """Forget a segment in which no frame is waiting; from any thread."""
        self._mailbox.put(number)

    def close(self) -> None:
        """End `run` soon; from any thread."""
        self._mailbox.put(None)

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
        wait = min(LONGEST_WAIT_SECONDS, max(0.0, self._next_deadline - time.monotonic()))
        try:
            message = self._mailbox.get(timeout=wait)
            while message is not None:
                self._take(message)
                message = self._mailbox.get_nowait()
            return False
        except Empty:
            pass
        if self._next_deadline <= time.monotonic():
            self._expire()
        self._dispatch()
        idle = len(self._staging) == MAX_BATCHES_IN_FLIGHT
        if self._report and self._mailbox.empty() and (self._urgent or idle):
            report, self._report, self._urgent = self._report, Report(), False
            self._tell(report)
        return True

    def _take(self, message: Commands | FrameSegment | Done | int) -> None:
        match message:
            case Commands():
                self._obey(message)
            case Done():
                self._complete(message.flight, message.result)
            case FrameSegment():
                self._segments[message.number] = message
            case int():
                self._segments.pop(message, None)

    def _obey(self, commands: Commands) -> None:
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
            self._offer(slots, time.monotonic())

    def _offer(self, slots: Int64, now: float) -> None:
        """Make videos that wait ready if their next step has its frames, or end them if it never will."""
        states = self._states
        slots = slots[states.status[slots] == WAITING]
        delivered = states.delivered[slots]
        if self._is_clip:
            complete = (delivered == self._planned) | (states.drained[slots] & (delivered > 0))
        else:
            complete = delivered > states.step[slots]
        ready = slots[complete]
        states.status[ready] = READY
        states.ready_since[ready] = now
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
        states = self._states
        while self._staging:
            ready = np.flatnonzero(states.status == READY)
            in_flight = MAX_BATCHES_IN_FLIGHT - len(self._staging)
            rows = rows_to_run(ready=len(ready), max_batch=self._max_batch, in_flight=in_flight)
            if not rows:
                return
            if rows < len(ready):
                ready = ready[most_urgent(states.due[ready], states.arrived[ready], rows)]
            self._start(ready)

    def _start(self, slots: Int64) -> None:
        states, staging = self._states, self._staging.pop()
        together = steps_together(alone=len(slots) == 1, available=states.available(int(slots[0]), self._look_ahead))
        step = states.step[slots]
        after = step + together
        states.seconds[slots, step, QUEUE] = time.monotonic() - states.ready_since[slots]
        states.started[slots] = after
        states.status[slots] = RUNNING
        try:
            batch = (
                staging.step_of_each(slots, step, states, self._segments)
                if together == 1
                else staging.steps_of_one(int(slots[0]), together, states, self._segments)
            )
        except Exception as error:
            logger.exception("a batch of %d rows could not be put together", len(slots))
            self._staging.append(staging)
            states.status[slots] = WAITING
            self._fail(slots, str(error))
            return
        self._device.run(slots, together, batch, staging)
        read = states.delivered[slots] if self._is_clip else after
        self._urgent |= states.hungry(slots)
        if self._watching:
            unwatched = ~states.watched[slots]
            slots, read = slots[unwatched], read[unwatched]
        self._report.gathered.append((slots.tolist(), read.tolist()))

    def _complete(self, flight: InFlight, result: BatchResult | Exception) -> None:
        """Store what a batch left, and decide which videos are finished."""
        states, slots = self._states, flight.slots
        self._staging.append(flight.staging)
        staying = states.status[slots] == RUNNING
        states.status[slots[staying]] = WAITING
        if not staying.all():
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
        if result.failed.any():
            self._fail(slots[staying & result.failed], str(result.fault))
        rows = np.flatnonzero(staying & ~result.failed)
        if len(rows):
            self._advance(slots[rows], result, rows, now)
            self._offer(slots[rows], now)

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
        confidences = self._judge(outputs.logits, step)
        states.finish_step(slots, step, outputs, confidences, seconds, now)
        if self._watching:
            for slot, last in zip(slots.tolist(), step.tolist(), strict=True):
                if states.watched[slot]:
                    self._urgent = True
                    self._report.watched.append((slot, states.step_table(slot, last)))
        self._decide(slots, step + 1, leaves(confidences, states.thresholds[slots, step]))

    def _decide(self, slots: Int64, step: Int64, confident: Bool) -> None:
        """End the videos that are finished, and let the others go on."""
        stop = confident | (step >= self._manifest.steps) | (step >= self._states.affordable[slots])
        if stop.any():
            for index in np.flatnonzero(stop).tolist():
                slot, at_end = int(slots[index]), bool(step[index] == self._manifest.steps)
                short = at_end and self._is_clip and self._states.delivered[slot] < self._planned
                self._end(slot, exit_reason(at_end=at_end, short=bool(short), confident=bool(confident[index])))
            slots, step = slots[~stop], step[~stop]
        self._urgent |= self._states.hungry(slots)
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
