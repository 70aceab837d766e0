"""The engine: schedule, run, update, until nobody is left.

A row is one video at one step. Whoever has a frame runs in the next batch, whatever its step; whoever is sure leaves
and its slot is taken at once. A video that is alone runs several steps in one batch if it will need them anyway. The
loop below owns the device: one thread runs batches, the event loop's thread owns every row, so there are no locks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import numpy as np

from bundle.exit_rule import leaves
from bundle.manifest import Manifest
from service.engine.admission import Admission
from service.engine.batch import Batch, BatchRun, StepResult, run
from service.engine.intake import FrameIntake, intake_for
from service.engine.request import EngineObserver, EngineRequest, FrameSource, Outcome, Row, Status, Step
from service.engine.runners.base import Runner, RunnerError
from service.engine.scheduler import next_rows, steps_of
from service.errors import DeadlinePassed, Internal, Undecodable

logger = logging.getLogger("adafocus.engine")


class Engine:
    """Runs the videos of all requests through one model on one device.

    Args:
        manifest: of the bundle that the runner loaded.
        runner: the device.
        slots: videos in flight at once.
        max_batch: rows in one batch at most.
        max_queue: requests that may hold a place beyond those in a slot.
        observer: told what ran; metrics.
    """

    def __init__(
        self,
        manifest: Manifest,
        runner: Runner,
        *,
        slots: int,
        max_batch: int,
        max_queue: int,
        observer: EngineObserver,
    ) -> None:
        self.manifest = manifest
        self.runner = runner
        self.admission = Admission(slots, max_queue, observer, time.monotonic)
        self._max_batch = max_batch
        self._observer = observer
        self._intake: FrameIntake = intake_for(manifest, runner.look_ahead)
        self._judge = manifest.exit_rule.confidence
        self._rows: list[Row] = []
        self._wake = asyncio.Event()
        self._device = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._loop_task: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Started, and still serving rows."""
        return self._loop_task is not None and not self._loop_task.done()

    async def start(self) -> None:
        """Warm every batch size, then begin to serve rows."""
        await asyncio.get_running_loop().run_in_executor(self._device, self.runner.warm_up)
        self._loop_task = asyncio.create_task(self._serve(), name="engine")

    async def close(self) -> None:
        """Stop serving and give the device back; rows still in flight fail."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop_task
        for row in self._rows:
            row.fail(Internal())
        self._device.shutdown(wait=True)
        self.runner.close()

    async def classify(self, request: EngineRequest, source: FrameSource) -> Outcome:
        """Run one video until it is sure, out of frames, out of budget or out of time. The caller holds a slot.

        A caller that is cancelled takes no part in any later batch.

        Raises:
            DeadlinePassed: the deadline passed before the first step finished.
            Undecodable: the source had no frame at all.
            Internal: the device failed on this video.
        """
        loop = asyncio.get_running_loop()
        row = Row.start(request, time.monotonic(), self.runner.widths, loop.create_future())
        feeder = asyncio.create_task(self._feed(row, source))
        self._rows.append(row)
        try:
            async with asyncio.timeout_at(request.deadline) as limit:
                await row.finished
        except TimeoutError:
            if not limit.expired():
                raise
            if not row.steps:
                raise DeadlinePassed from None
            row.finish("deadline")
        finally:
            row.leave()
            self._rows.remove(row)
            feeder.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await feeder
        return row.outcome()

    def schedule(self) -> list[Row]:
        """The rows of the next batch: ready ones, most urgent first."""
        batch = next_rows([row for row in self._rows if row.status is Status.READY], self._max_batch)
        now = time.monotonic()
        for row in batch:
            row.status = Status.RUNNING
            row.turn = steps_of(alone=len(batch) == 1, at_once=self._intake.at_once(row))
            row.step_queue_seconds = now - row.ready_since
            row.queue_seconds += row.step_queue_seconds
            row.glance_flops += row.turn * self.manifest.flops.glance
            row.focus_flops += row.turn * self.manifest.flops.focus
        return batch

    async def run(self, rows: Sequence[Row]) -> BatchRun:
        """Glance and focus of all rows, on the device's thread."""
        steps = [(row, later) for row in rows for later in range(row.turn)]
        pairs = [self._intake.pixels(row, later) for row, later in steps]
        seen = np.stack([glance for glance, _ in pairs])
        batch = Batch(
            glance_frames=seen,
            focus_frames=seen if all(a is b for a, b in pairs) else np.stack([focus for _, focus in pairs]),
            policy_state=np.stack([row.policy_state for row in rows]),
            pooled_state=np.stack([row.pooled_state for row in rows]),
            step=np.array([row.step + later for row, later in steps], dtype=np.int64),
        )
        return await asyncio.get_running_loop().run_in_executor(self._device, run, self.runner, self._judge, batch)

    def update(self, rows: Sequence[Row], done: BatchRun) -> None:
        """Store what each row learnt and decide who is finished."""
        for size, glance_seconds, focus_seconds in done.runs:
            self._observer.batch_ran("glance", size, glance_seconds)
            self._observer.batch_ran("focus", size, focus_seconds)
        stepped: list[tuple[Row, StepResult]] = []
        thresholds: list[float] = []
        steps = [(row, row.step + later) for row in rows for later in range(row.turn)]
        for (row, step), result in zip(steps, done.results, strict=True):
            if isinstance(result, RunnerError):
                error = Internal()
                error.__cause__ = result
                row.fail(error)
            else:
                stepped.append((row, result))
                thresholds.append(row.request.thresholds[step])
        sure = leaves([result.confidence for _, result in stepped], thresholds)
        for (row, result), is_sure in zip(stepped, sure, strict=True):
            if row.status is not Status.DONE:  # its client left, its time was up, or it failed, while it ran
                self._advance(row, result, is_sure=bool(is_sure))

    def _advance(self, row: Row, result: StepResult, *, is_sure: bool) -> None:
        frame = self._intake.take(row)
        y, x = result.patch_centre.tolist()
        row.steps.append(
            Step(
                frame.index,
                frame.time_s,
                (y, x),
                result.logits,
                result.confidence,
                row.step_queue_seconds,
                result.glance_seconds,
                result.focus_seconds,
            )
        )
        if row.request.on_step is not None:
            row.request.on_step(row.steps[-1], frame)
        row.policy_state, row.pooled_state = result.policy_state, result.pooled_state
        row.glance_seconds += result.glance_seconds
        row.focus_seconds += result.focus_seconds
        row.step_queue_seconds = 0.0  # of further steps of the same turn
        row.status = Status.WAITING
        cap = row.request.max_flops
        if row.step == self.manifest.steps:
            row.finish("end_of_video" if self._intake.fell_short(row) else "all_steps")
        elif is_sure:
            row.finish("confident")
        elif cap is not None and (row.step + 1) * self.manifest.flops.per_step > cap:
            row.finish("max_gflops")
        else:
            self._offer(row)

    def _offer(self, row: Row) -> None:
        """Make a row ready if its next step has its frames, or end it if it never will."""
        if row.status is not Status.WAITING:
            return
        if self._intake.complete(row):
            row.status = Status.READY
            row.ready_since = time.monotonic()
            self._wake.set()
        elif row.drained and row.steps:
            row.finish("end_of_video")
        elif row.drained:
            row.fail(Undecodable("no frame of the video could be decoded"))

    async def _feed(self, row: Row, source: FrameSource) -> None:
        """Pull frames a little ahead of the steps, so that a row that goes on is ready at once."""
        try:
            while row.status is not Status.DONE and not row.drained:
                if self._intake.full(row):
                    row.room.clear()
                    await row.room.wait()
                    continue
                frame = await source.next()
                if frame is None:
                    row.drained = True
                else:
                    row.inbox.append(frame)
                self._offer(row)
        except Exception as error:  # noqa: BLE001 - whatever the source raises belongs to this row's caller
            row.fail(error)

    async def _serve(self) -> None:
        while True:
            await self._wake.wait()
            rows = self.schedule()
            if not rows:
                self._wake.clear()
                continue
            try:
                self.update(rows, await self.run(rows))
            except Exception:  # the rows of this batch fail, the engine goes on
                logger.exception("a batch of %d rows failed outside the graphs", len(rows))
                for row in rows:
                    row.fail(Internal())


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[Engine]:
    """The engine, started and closed around a block."""
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()
