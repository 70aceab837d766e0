"""The decoding of one video by one worker: the consumer pulls frames, and the worker decodes a few ahead."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from adafocus.service.decode.ipc import FAULT, OUT_OF_MEMORY
from adafocus.service.decode.job import DecodeJob
from adafocus.service.decode.messages import Done, FrameReady, Need, Opened, ProtocolError, Ready, Reply, printable
from adafocus.service.decode.process import WorkerGoneError
from adafocus.service.decode.shared_frames import SharedFrames
from adafocus.service.decode.spool import Spool
from adafocus.service.decode.watchdog import Verdict, Watchdog, WorkerTimeouts
from adafocus.service.errors import Internal, Problem, Undecodable, problem_from_code
from adafocus.video.decoder import Frame
from adafocus.video.probe import VideoInfo


class Worker(Protocol):
    """The part of a worker that a session needs. `WorkerProcess` implements it."""

    @property
    def frames(self) -> SharedFrames:
        """The shared memory into which the worker writes frames."""

    def send(self, message: Mapping[str, object], fd: int | None = None) -> None:
        """Send a message, and optionally a descriptor; raises `WorkerGoneError`."""

    def cpu_seconds(self) -> float:
        """Processor time that the worker has used."""


class DecodeSession:
    """The frames of one video, in the order in which the model visits them, for one consumer.

    Created by `DecodePool.open`. The counts come from the worker and are final once the session is closed.

    Args:
        worker: an idle worker, which belongs to this session until ``on_end`` is called.
        spool: of the upload; may still be growing.
        job: the frames that are wanted.
        patience: time limits of the worker.
        on_end: called once with the worker's ``done`` message.
        on_hang: called once when the worker exceeds a limit; the caller then ends the session with `fail`.
    """

    def __init__(
        self,
        worker: Worker,
        spool: Spool,
        job: DecodeJob,
        patience: WorkerTimeouts,
        *,
        on_end: Callable[[Done], None],
        on_hang: Callable[[Verdict], None],
    ) -> None:
        self._worker = worker
        self._spool = spool
        self._job = job
        self._slots = job.slots_of(worker.frames.slots)
        self._on_end = on_end
        self._watchdog = Watchdog(patience, worker.cpu_seconds, on_hang)
        self._unsubscribe = spool.subscribe(self._feed)
        self._info: VideoInfo | None = None
        self._inbox: deque[FrameReady | Frame] = deque()
        self._held: set[int] = set()
        self._lent: int | None = None  # the slot whose frame the consumer took last
        self._reading: Callable[[], bool] = lambda: False
        self._last_word: Done | None = None  # what the worker said at the end, while its frames are being read
        self._need: Need | None = None
        self._told_size, self._told_complete = spool.size, spool.complete
        self._last_position = -1
        self._dropped = False  # the consumer wants no more frames
        self._stopping = False  # the worker has been told to stop
        self._ended = False
        self._error: Problem | None = None
        self._changed = asyncio.Event()
        self.frames_decoded = 0
        """Number of frames handed to the decoder so far."""
        self.decode_seconds = 0.0
        """Wall time that the worker has spent opening, decoding and resizing so far, without waiting."""

    @property
    def info(self) -> VideoInfo:
        """Container, codec, size and duration of the video."""
        if self._info is None:
            raise ValueError("the session has not been opened; wait for opened() first")
        return self._info

    @property
    def planned(self) -> int:
        """Number of frames wanted. Fewer arrive if some cannot be decoded."""
        return self._job.planned

    def start(self) -> None:
        """Send the job to the worker.

        Raises:
            WorkerGoneError: the worker has ended.
            OSError: the spool cannot be opened for the worker.
        """
        self._told_size, self._told_complete = self._spool.size, self._spool.complete
        message = self._job.message(self._told_size, self._told_complete, self._spool.expected_bytes)
        fd = self._spool.open_for_reading()
        try:
            self._worker.send(message, fd)
        except WorkerGoneError:
            self._end(None)
            raise
        finally:
            os.close(fd)

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
        ready = await self.next_where_it_lies()
        if not isinstance(ready, FrameReady):
            return ready
        self._lent = ready.slot
        return self._copied(ready)

    async def next_where_it_lies(self) -> FrameReady | Frame | None:
        """As `next`; the frame's slot is the caller's to give back, unless it is a copy.

        Frames that wait when the worker has ended are copies, so that it can go on to another video.

        Raises:
            Problem: as `next`.
        """
        await self._until(lambda: bool(self._inbox))
        if self._inbox:
            return self._inbox.popleft()
        if self._error is not None and not self._dropped:
            raise self._error
        return None

    def _copy_arrived(self) -> None:
        """Copy the frames that have arrived, because the worker's memory is about to be used or closed."""
        self._inbox = deque(self._copied(it) if isinstance(it, FrameReady) else it for it in self._inbox)

    def _copied(self, ready: FrameReady) -> Frame:
        pixels = self._worker.frames.take(ready.slot, self._job.geometry.crop)
        return Frame(ready.position, ready.index, ready.time_s, pixels)

    def next_arrived(self) -> FrameReady | Frame | None:
        """As `next_where_it_lies`, if the frame has arrived."""
        return self._inbox.popleft() if self._inbox else None

    def read_in_place(self, reading: Callable[[], bool]) -> SharedFrames:
        """The memory in which the frames lie; the worker has no other job while ``reading`` holds.

        Raises:
            ValueError: the job's frames are smaller than the places of that memory.
        """
        if self._job.geometry.crop != self._worker.frames.crop:
            raise ValueError(f"frames have {self._job.geometry.crop} pixels, places {self._worker.frames.crop}")
        self._reading = reading
        return self._worker.frames

    def pass_on(self) -> None:
        """Let the worker have another job, which may write into any slot, if it has done this one."""
        last_word, self._last_word = self._last_word, None
        if last_word is not None:
            self._on_end(last_word)

    async def close(self) -> None:
        """Stop the worker and wait until it has, within the time of one frame. May be called again or cancelled.

        A worker without a free slot is not decoding and its counts are final, so this does not wait for it.
        """
        idle = len(self._held) >= self._slots
        self.abandon()
        if not idle:
            await self._until(lambda: False)

    def abandon(self) -> None:
        """Tell the worker to stop, without waiting. Frames that were not taken are lost."""
        self._dropped = True
        self._inbox.clear()
        self._stop()
        self.pass_on()

    def hear(self, reply: Reply) -> None:
        """Handle a message from the worker.

        Raises:
            ProtocolError: the protocol does not allow this message now.
        """
        if self._ended or isinstance(reply, Ready):
            raise ProtocolError(f"the message {reply.type!r} is not allowed now")
        match reply:
            case Opened():
                self._take_info(reply)
            case FrameReady():
                self._take_frame(reply)
            case Need():
                self._take_need(reply)
            case Done():
                self._take_cost(reply.frames_decoded, reply.seconds)
                self._end(_problem(reply))
                self._copy_arrived()
                self._last_word = reply
                if not self._reading():
                    self.pass_on()
                return
        self._watchdog.heard(owes=self._owed())

    def fail(self, problem: Problem) -> None:
        """End the session with a problem because its worker has ended. Frames that have arrived can still be taken."""
        if not self._ended:
            self._copy_arrived()
            self._end(problem)

    def _take_info(self, reply: Opened) -> None:
        if self._info is not None:
            raise ProtocolError("the worker sent 'opened' twice")
        self._take_cost(reply.frames_decoded, reply.seconds)
        self._info = reply.video()
        self._changed.set()

    def _take_frame(self, reply: FrameReady) -> None:
        if self._info is None or reply.slot in self._held:
            raise ProtocolError("the worker sent a frame in a slot that was not free")
        if not self._last_position < reply.position < self._job.planned:
            raise ProtocolError(f"the worker sent a frame for position {reply.position}, which was not due")
        self._take_cost(reply.frames_decoded, reply.seconds)
        self._last_position = reply.position
        if reply.slot >= self._worker.frames.slots:
            raise ProtocolError(f"slot must be 0..{self._worker.frames.slots - 1}, got {reply.slot}")
        self._held.add(reply.slot)
        if not self._stopping:
            self._inbox.append(reply)
            self._changed.set()

    def _take_need(self, reply: Need) -> None:
        # More bytes may have arrived than the worker knows of.
        told = self._told_complete or (reply.size is not None and reply.size <= self._told_size)
        if self._need is not None or told:
            raise ProtocolError("the worker waits for bytes that it was told of")
        self._need = reply
        self._feed()

    def _take_cost(self, frames_decoded: int, seconds: float) -> None:
        if frames_decoded < self.frames_decoded or seconds < self.decode_seconds:
            raise ProtocolError("the worker reported a lower cost than before")
        self.frames_decoded, self.decode_seconds = frames_decoded, seconds

    def _feed(self) -> None:
        """Tell the worker about bytes for which it waits. Called whenever the spool changes."""
        if self._spool.error is not None:
            self._error = self._error or self._spool.error
            self._stop()
        need = self._need
        if need is None or self._stopping:
            return
        enough = need.size is not None and self._spool.size >= need.size
        if enough or self._spool.complete:
            self._need = None
            self._told_size, self._told_complete = self._spool.size, self._spool.complete
            self._say({"type": "more", "size": self._told_size, "complete": self._told_complete})
            self._watchdog.heard(owes=True)

    def give_back(self, slot: int) -> None:
        """Let the worker write into a slot again."""
        self._held.discard(slot)
        if not self._ended and not self._stopping:
            self._say({"type": "free", "slot": slot})
            self._watchdog.heard(owes=self._owed())

    def _owed(self) -> bool:
        return self._stopping or (self._need is None and len(self._held) < self._slots)

    def _stop(self) -> None:
        if not self._stopping and not self._ended:
            self._stopping = True
            self._say({"type": "close"})
            self._watchdog.closing()

    def _say(self, message: dict[str, object]) -> None:
        with suppress(WorkerGoneError):  # the pool learns of it from the closed socket
            self._worker.send(message)

    def _end(self, problem: Problem | None) -> None:
        self._ended = True
        self._error = self._error or problem
        self._unsubscribe()
        self._watchdog.stop()
        self._changed.set()

    async def _until(self, there: Callable[[], bool]) -> None:
        while not self._ended and not there():
            self._changed.clear()
            await self._changed.wait()


def _problem(done: Done) -> Problem | None:
    """The problem for a worker's error. The details of a bug are not shown to the client."""
    if done.error is None:
        return None
    if done.error.code == OUT_OF_MEMORY:
        return Undecodable("decoding the video needs more memory than decode_memory_bytes allows")
    if done.error.code == FAULT:
        return Internal()
    return problem_from_code(done.error.code, printable(done.error.detail))
