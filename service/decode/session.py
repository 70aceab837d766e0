"""The decoding of one video by a worker: the consumer pulls frames, and the worker decodes a few ahead."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from adafocus.service.deadline import Deadline
from adafocus.service.decode.decode_cost import DecodeCost
from adafocus.service.decode.delivery import Arrived, Delivery
from adafocus.service.decode.held_worker import HeldWorker, Worker
from adafocus.service.decode.job import DecodeJob
from adafocus.service.decode.messages import (
    Done,
    FrameReady,
    Need,
    Opened,
    ProtocolError,
    Ready,
    Reply,
    WindowOpened,
)
from adafocus.service.decode.shared_frames import SharedFrames
from adafocus.service.decode.spool import Spool
from adafocus.service.decode.spool_feed import SpoolFeed
from adafocus.service.decode.watchdog import Verdict, WorkerTimeouts
from adafocus.service.decode.worker_losses import WorkerLosses, problem_of
from adafocus.service.errors import DeadlinePassed, Internal, Problem
from adafocus.video.decoder import Frame
from adafocus.video.probe import VideoInfo

MOST_CLOSING_SECONDS = 1.0
"""How long an answer waits for its worker to stop. A frame takes less; a stuck worker is found out by the watchdog."""


class DecodeSession:
    """The frames of one video, in the order in which the model visits them, for one consumer.

    Created by `DecodePool.open`. The job may be given to a second worker after the first has ended: the second decodes
    from the start, and the frames that the first has delivered are not delivered again. The counts come from the
    workers and are final once the session is closed.

    Args:
        spool: of the upload; may still be growing.
        job: the frames that are wanted.
        patience: time limits of a worker.
        on_end: called with this session and the worker's ``done`` message, None if it sends none; the worker is then
            free.
        on_hang: called with this session when the worker exceeds a limit; the caller then ends it, and calls `lost` or
            `fail`.
        on_read: called with each segment that was given to `start`, when its frames have been read.
        assign: has `start` of this session called with the next idle worker.
        caller: whose video it is.
        background: whether the processor is for other videos first.
    """

    def __init__(
        self,
        spool: Spool,
        job: DecodeJob,
        patience: WorkerTimeouts,
        *,
        on_end: Callable[[DecodeSession, Done | None], None],
        on_hang: Callable[[DecodeSession, Verdict], None],
        on_read: Callable[[SharedFrames], None],
        assign: Callable[[DecodeSession], Awaitable[None]],
        caller: str = "",
        background: bool = False,
    ) -> None:
        self.caller = caller
        self.background = background
        self._spool = spool
        self._job = job
        self.planned = job.planned
        """Number of frames wanted. Fewer arrive if some cannot be decoded."""
        self.side = job.geometry.crop
        """Side of the frames, pixels."""
        self._on_end = on_end
        self._on_hang = on_hang
        self._assign = assign
        self._unsubscribe = spool.subscribe(self._feed)
        self._worker = HeldWorker(patience)
        self._delivery = Delivery(job.planned, on_read)
        self._info: VideoInfo | None = None
        self._window: WindowOpened | None = None
        self._opened = False  # the present worker has opened the video
        self._lent: Arrived | None = None  # the frame that the consumer took last
        self._bytes = SpoolFeed(spool)
        self.losses = WorkerLosses()
        """The workers that the video has ended."""
        self._dropped = False  # the consumer wants no more frames
        self._stopping = False  # the worker has been told to stop
        self._ended = False
        self._error: Problem | None = None
        self._changed = asyncio.Event()
        self._listener: Callable[[], None] = _nothing
        self.cost = DecodeCost()
        """What decoding has cost so far."""
        self.capped = False
        """Whether the worker ended because it had used its processor time."""

    @property
    def info(self) -> VideoInfo:
        """Container, codec, size and duration of the video."""
        if self._info is None:
            raise ValueError("the session has not been opened; wait for opened() first")
        return self._info

    @property
    def window(self) -> WindowOpened:
        """The window that the frames come from, of a job that asked for one."""
        if self._window is None:
            raise ValueError("the session has no window, or has not been opened")
        return self._window

    @property
    def ended(self) -> bool:
        """Whether the job is done, has failed or was given up."""
        return self._ended

    def start(self, worker: Worker, frames: SharedFrames, *, again: bool = False) -> None:
        """Send the job to an idle worker, which belongs to this session until ``on_end`` is called or it is lost.

        Args:
            worker: the worker.
            frames: the memory into which it writes frames; stays the caller's if this raises.
            again: the worker has the video open from the window before.

        Raises:
            WorkerGoneError: the worker has ended; the job may be given to another.
            OSError: the spool cannot be opened for the worker.
        """
        spool = self._spool
        self._bytes.restart()
        message = self._job.message(
            self._bytes.size,
            self._bytes.complete,
            spool.expected_bytes,
            sparse=spool.is_sparse,
            again=again,
            memory=frames.number,
        )
        fd = spool.open_for_reading()
        try:
            worker.send(message, (fd, frames.fd))
        finally:
            os.close(fd)
        self._delivery.begin(frames, self._job.slots_of(frames.slots))
        self.losses.workers += 1
        self._worker.hold(worker, partial(self._on_hang, self))
        self.cost.next_worker()
        self._opened = False

    def replaceable(self, *, stuck: bool = False) -> bool:
        """Whether another worker may do the job now that the present one has ended, or is stuck."""
        return self.losses.permit_another(stuck=stuck) and not self._ended and not self._stopping

    def lost(self) -> None:
        """Let go of a worker that has ended, before `start` is called with another."""
        self._worker.let_go()

    def worker_ended(self) -> None:
        """Record that the worker's process has ended: nobody writes into the memory any more."""
        self._delivery.written()

    async def rewind(self) -> None:
        """Decode the video again from its first frame, by the next idle worker. Frames that were not taken are lost.

        Raises:
            Problem: there is no worker any more.
        """
        self.abandon()
        await self._until(lambda: False)
        self._unsubscribe = self._spool.subscribe(self._feed)
        self._dropped = self._stopping = self._ended = False
        self._error = None
        self._delivery.restart()
        self.losses.workers = 0
        await self._assign(self)

    async def opened(self) -> None:
        """Wait until the video has passed its checks.

        Raises:
            Problem: the video is refused.
        """
        await self._until(lambda: self._info is not None)
        if self._error is not None:
            raise self._error
        if self._info is None:
            raise Internal

    async def next(self) -> Frame | None:
        """Wait for the next decodable frame, in visiting order; None when there is none left.

        The slot of a frame is returned to the worker by the next call, so with a single slot a frame is decoded only
        when it is requested. Cancelling this call loses no frame.

        Raises:
            Problem: the video or its upload failed before the first frame, or the worker failed.
        """
        if self._lent is not None:
            lent, self._lent = self._lent, None
            self.give_back(lent)
        arrived = await self.next_where_it_lies()
        if arrived is None:
            return None
        self._lent, ready = arrived, arrived.frame
        pixels = arrived.lease.frames.take(ready.slot, self.side)
        return Frame(ready.position, ready.index, ready.time_s, pixels)

    async def next_where_it_lies(self) -> Arrived | None:
        """As `next`; the frame is the caller's to give back.

        Raises:
            Problem: as `next`.
        """
        await self._until(lambda: bool(self._delivery.waiting))
        return self._delivery.waiting.popleft() if self.has_more() else None

    def next_arrived(self) -> Arrived | None:
        """As `next_where_it_lies`, if the frame has arrived."""
        waiting = self._delivery.waiting
        return waiting.popleft() if waiting else None

    def has_more(self) -> bool:
        """Whether there is, or may come, a further frame.

        Raises:
            Problem: as `next`.
        """
        if self._delivery.waiting or not self._ended:
            return True
        if self._error is not None and not self._dropped:
            raise self._error
        if self._info is None and not self._dropped:
            raise Internal
        return False

    def spare_place(self) -> None:
        """Let a worker that has no free slot decode one more frame, if there is memory for it."""
        if not self._worker.there or self._ended or self._stopping:
            return
        slot = self._delivery.spare_slot()
        if slot is not None:
            self._worker.say({"type": "free", "slot": slot})
            self._worker.heard(owes=self._owed())

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener``, and no other one, whenever a frame has arrived or none will come any more."""
        self._listener = listener

    async def close(self) -> None:
        """Stop the worker and wait until it has, within the time of one frame. May be called again or cancelled.

        A worker without a free slot is not decoding and its counts are final, so this does not wait for it.
        """
        full = self._delivery.is_full
        self.abandon()
        if not full and not self._ended:
            with suppress(DeadlinePassed), Deadline(time.monotonic() + MOST_CLOSING_SECONDS):
                await self._until(lambda: False)

    def abandon(self) -> None:
        """Tell the worker to stop, without waiting. Frames that were not taken are lost."""
        self._dropped = True
        lent, self._lent = self._lent, None
        if lent is not None:
            self._delivery.read(lent)
        self._delivery.drop()
        self._stop()

    def hear(self, *replies: Reply) -> None:
        """Handle messages that the worker has sent together.

        Raises:
            ProtocolError: the protocol does not allow one of them now.
        """
        unread = len(self._delivery.waiting)
        for reply in replies:
            self._take(reply)
        if not self._ended:
            if len(self._delivery.waiting) > unread:
                self._tell()
            self._worker.heard(owes=self._owed())

    def _take(self, reply: Reply) -> None:
        if self._ended or isinstance(reply, Ready):
            raise ProtocolError(f"the message {reply.type!r} is not allowed now")
        match reply:
            case Opened():
                self._take_info(reply)
                if reply.frame is not None:
                    self._take_frame(reply.frame)
            case FrameReady():
                self._take_frame(reply)
            case Need():
                self._bytes.take(reply)
                self._feed()
                self._bytes.fetch()
            case Done():
                self.cost.take(reply)
                self.capped = reply.capped
                self._job_ended(reply)

    def fail(self, problem: Problem) -> None:
        """End the session with a problem because its worker has ended. Frames that have arrived can still be taken."""
        if not self._ended:
            self._end(problem)

    def _take_info(self, reply: Opened) -> None:
        if self._opened:
            raise ProtocolError("the worker sent 'opened' twice")
        self.cost.take(reply)
        if (reply.window is None) != (self._job.window is None):
            raise ProtocolError("the worker must send a window for a job that asks for one, and for no other")
        self._opened = True
        self._info = self._info or reply.video()
        self._window = self._window or reply.window
        self._changed.set()

    def _take_frame(self, reply: FrameReady) -> None:
        if not self._opened:
            raise ProtocolError("the worker sent a frame before it sent 'opened'")
        known = self._delivery.take(reply, wanted=not self._stopping)
        self.cost.take(reply)
        if known is not None:
            self.give_back(known)

    def _feed(self) -> None:
        """Tell the worker about bytes for which it waits. Called whenever the spool changes."""
        if self._spool.error is not None:
            self._error = self._error or self._spool.error
            self._stop()
        if self._stopping or not self._worker.there:
            return
        more = self._bytes.more()
        if more is not None:
            self._worker.say(more)
            self._worker.heard(owes=True)

    def give_back(self, arrived: Arrived) -> None:
        """Let the worker write over a frame that has been read. May be called again."""
        held = self._delivery.read(arrived)
        if held and self._worker.there and not self._ended and not self._stopping:
            arrived.lease.held.discard(arrived.frame.slot)
            self._worker.say({"type": "free", "slot": arrived.frame.slot})
            self._worker.heard(owes=self._owed())

    def _owed(self) -> bool:
        return self._stopping or (not self._bytes.waits and not self._delivery.is_full)

    def _stop(self) -> None:
        if not self._stopping and not self._ended:
            self._stopping = True
            if not self._worker.there:  # it was lost, and there is no other yet
                self._end(None)
            elif self._waits_for_slot():
                self._worker.close(silent=True)
                self._job_ended(None)
            else:
                self._worker.close()

    def _waits_for_slot(self) -> bool:
        """Whether the worker does nothing until it is told something: then there is nothing to wait for from it."""
        return self._delivery.is_full and not self._delivery.may_be_over and not self._bytes.waits

    def _job_ended(self, done: Done | None) -> None:
        """The worker is free, and writes no more; ``done`` is its last message, if it sends one."""
        self._end(None if done is None else problem_of(done))
        self.worker_ended()
        self._on_end(self, done)

    def _end(self, problem: Problem | None) -> None:
        self._ended = True
        self._worker.let_go()
        self._error = self._error or problem
        self._unsubscribe()
        self._tell()
        # They refer to this session, which would have to wait for the garbage collector.
        self._unsubscribe = self._listener = _nothing

    def _tell(self) -> None:
        self._changed.set()
        self._listener()

    async def _until(self, there: Callable[[], bool]) -> None:
        while not self._ended and not there():
            self._changed.clear()
            await self._changed.wait()


def _nothing() -> None:
    """Do nothing."""
