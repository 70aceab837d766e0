"""A pool of long-lived decode workers. Each decodes one video at a time, and none is trusted.

Whatever a video does to its worker, only its own request fails:

    ==========================================  ============  =============
    the worker                                  the request   restart reason
    ==========================================  ============  =============
    refuses the video, for a stated reason      that problem  not restarted
    asks for more memory than there may be      Undecodable   not restarted
    fills its memory                            Undecodable   memory
    crashes by its own fault (SIGSEGV, …)       Undecodable   crashed
    uses more than ``cpu_seconds``              Undecodable   timeout
    is silent and uses no processor time        Undecodable   timeout
    is killed from outside, or simply ends      Internal      crashed
    breaks the protocol                         Internal      protocol
    uses the processor while it is idle         –             idle_cpu
    cannot get its priority back                –             recycled
    has decoded videos of another caller        –             caller
    ==========================================  ============  =============

A worker that crashes, is killed or is silent may be innocent of its end, and so may its video. The video is therefore
given to another worker, without the request noticing; the table holds for the fourth that crashes, the second that is
silent, and the sixteenth that is killed: whoever kills workers may go on for a while, so the later ones are waited for,
ever longer. Only ``Internal`` counts as an error of the service.

A video may take its worker over, and nobody would see it. So a worker serves one caller only, and so does the memory
of its frames: whoever takes a worker over gets nothing but its own videos.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self
from weakref import WeakKeyDictionary

from adafocus.service.decode.fleet import WorkerFleet
from adafocus.service.decode.frame_arena import FrameArena
from adafocus.service.decode.ipc import FAULT, OUT_OF_MEMORY
from adafocus.service.decode.job import DecodeJob
from adafocus.service.decode.messages import Done, printable
from adafocus.service.decode.pool_settings import PoolObserver, PoolSettings, Unobserved
from adafocus.service.decode.process import WorkerGoneError, WorkerProcess
from adafocus.service.decode.session import DecodeSession
from adafocus.service.decode.shared_frames import SharedFrames
from adafocus.service.decode.spool import Spool
from adafocus.service.decode.template import WorkerStartError
from adafocus.service.decode.watchdog import Verdict, WorkerTimeouts
from adafocus.service.decode.windows import Reservation, WindowDecoder
from adafocus.service.decode.worker.sandbox import SandboxReport
from adafocus.service.decode.worker_losses import MAX_WORKERS
from adafocus.service.errors import DeadlinePassed, Draining, Internal, Problem, Undecodable

__all__ = [
    "DecodeJob",
    "DecodePool",
    "DecodeSession",
    "PoolObserver",
    "PoolSettings",
    "WorkerStartError",
    "WorkerTimeouts",
]

_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 0.1, 2.0

logger = logging.getLogger("adafocus.decode")


class DecodePool:
    """A fixed number of decode workers and the requests that wait for one. An async context manager.

    Args:
        settings: of the pool.
        observer: informed when workers start, end or are replaced.
    """

    def __init__(self, settings: PoolSettings, observer: PoolObserver | None = None) -> None:
        self.settings = settings
        self._reservations: dict[WorkerProcess, Reservation] = {}
        self._reserved_for: WeakKeyDictionary[DecodeSession, Reservation] = WeakKeyDictionary()
        self._may_reserve = asyncio.Semaphore(max(1, settings.workers // 2))
        self._arena = FrameArena(settings.segments, settings.slots, settings.crop)
        self._fleet = WorkerFleet(settings, observer or Unobserved(), self._lost, self._assign_again)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def sandbox(self) -> SandboxReport | None:
        """The workers' sandbox, once a worker has been started."""
        return self._fleet.sandbox

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that are alive now."""
        return tuple(worker.pid for worker in self._fleet.workers)

    @property
    def waiting(self) -> int:
        """Number of videos that wait for a worker or for memory."""
        return self._fleet.waiting + self._arena.waiting

    @property
    def segments_lent(self) -> int:
        """Number of segments of memory that hold, or will hold, frames of videos."""
        return self._arena.lent

    async def start(self) -> None:
        """Start the workers and wait until all are ready.

        Raises:
            WorkerStartError: a worker could not be started; all others have been stopped.
        """
        try:
            await self._fleet.start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Kill all workers; videos that wait or are being decoded fail with `Draining`. May be called again."""
        self._arena.close(Draining())
        await self._fleet.close()
        while self._reservations:
            self._reservations.popitem()[1].lost()

    @asynccontextmanager
    async def windows(
        self, spool: Spool, job: DecodeJob, window_s: float, stride_s: float, caller: str = ""
    ) -> AsyncIterator[WindowDecoder]:
        """Wait until a worker may be reserved for a long video, and yield what decodes its windows.

        At most half of the workers are reserved, so that other videos are not kept waiting.

        Args:
            spool: of the video; must stay open until the context ends.
            job: the frames that are wanted of each window.
            window_s: length of a window, seconds.
            stride_s: from the start of one window to that of the next, seconds.
            caller: whose video it is.
        """
        async with self._may_reserve:
            reservation = Reservation()
            try:
                yield WindowDecoder(self, reservation, spool, job, window_s, stride_s, caller)
            finally:
                self._end_reservation(reservation)

    @asynccontextmanager
    async def open(
        self,
        spool: Spool,
        job: DecodeJob,
        reservation: Reservation | None = None,
        caller: str = "",
        *,
        background: bool = False,
    ) -> AsyncIterator[DecodeSession]:
        """Wait for a worker, have it check the video, and yield a session whose frames are pulled one by one.

        On exit the worker has stopped or has nothing left to do, and the session's counts are final. If the worker does
        not stop within `MOST_CLOSING_SECONDS`, or the block is cancelled, it stops without being waited for.

        Args:
            spool: of the upload; may still be growing, and must stay open until the context ends.
            job: the frames that are wanted.
            reservation: whose worker does the job, and stays reserved.
            caller: whose video it is; no worker decodes videos of two callers.
            background: whether the processor is for other videos first.

        Raises:
            Problem: the video is refused, its worker failed, or the pool is closed.
            ValueError: the job's crop is larger than the pool's.
        """
        session = await self.begin(spool, job, reservation, caller, background=background)
        try:
            await session.opened()
            yield session
        except BaseException as error:
            await end_session(session, error)
            raise
        await end_session(session)

    async def begin(
        self,
        spool: Spool,
        job: DecodeJob,
        reservation: Reservation | None = None,
        caller: str = "",
        *,
        background: bool = False,
    ) -> DecodeSession:
        """Wait for a worker and give it the job; returns a session that has not checked the video yet.

        The arguments are those of `open`. `end_session` must be called with it.

        Raises:
            Problem: the pool is closed.
            ValueError: the job's crop is larger than the pool's.
        """
        if job.geometry.crop > self.settings.crop:
            raise ValueError(f"crop must be at most {self.settings.crop} in this pool, got {job.geometry.crop}")
        session = DecodeSession(
            spool,
            job,
            self.settings.patience,
            on_end=self._job_done,
            on_hang=self._hung,
            on_read=self._arena.put,
            assign=self._assign,
            caller=caller,
            background=background,
        )
        if reservation is not None:
            self._reserved_for[session] = reservation
        try:
            await self._assign(session)
        except BaseException as error:
            await end_session(session, error)
            raise
        return session

    async def _assign(self, session: DecodeSession, frames: SharedFrames | None = None) -> None:
        """Give the job to the next idle worker, with memory for its frames."""
        frames = frames or await self._arena.take(session.caller)
        try:
            while True:
                worker, again = await self._take(session)
                if session.ended:  # it was closed while it waited
                    self._put_back(worker)
                    self._arena.put(frames)
                    return
                try:
                    session.start(worker, frames, again=again)
                except WorkerGoneError:  # it ended while it was idle, so this video is not the cause
                    self._fleet.lose(worker, "crashed")
                except BaseException:  # the worker did not receive the job, so it is still idle
                    self._put_back(worker)
                    raise
                else:
                    self._fleet.begin(worker, session)
                    return
        except BaseException as error:
            self._arena.put(frames)
            session.fail(error if isinstance(error, Problem) else Internal())
            raise

    async def _take(self, session: DecodeSession) -> tuple[WorkerProcess, bool]:
        """An idle worker, and whether it has the video open: the reserved one, or else the next."""
        reservation = self._reserved_for.get(session) if self._reserved_for else None
        if reservation is None:
            return await self._fleet.take(session.caller, background=session.background), False
        if reservation.worker is not None:
            await reservation.idle.wait()
        known = worker = reservation.worker
        if worker is None:
            worker = await self._fleet.take(session.caller, background=session.background)
        else:
            self._fleet.take_reserved(worker, background=session.background)
        reservation.worker = worker
        reservation.idle.clear()
        self._reservations[worker] = reservation
        return worker, known is not None

    def _end_reservation(self, reservation: Reservation) -> None:
        worker = reservation.worker
        if worker is None or self._reservations.pop(worker, None) is None:
            return
        with suppress(WorkerGoneError):  # the pool learns of it from the closed socket
            worker.send({"type": "forget"})
        self._fleet.end_reservation(worker)

    def _put_back(self, worker: WorkerProcess) -> None:
        reservation = self._reservations.get(worker)
        self._fleet.put_back(worker, in_line=reservation is None)
        if reservation is not None:
            reservation.idle.set()

    def _lost(self, worker: WorkerProcess) -> None:
        reservation = self._reservations.pop(worker, None)
        if reservation is not None:
            reservation.lost()

    async def _assign_again(self, session: DecodeSession) -> None:
        """Give the job of a worker that has ended to another; the frames of the first stay where they are."""
        late = session.losses.workers - MAX_WORKERS
        pause = min(_FIRST_RETRY_SECONDS * 2**late, _LONGEST_RETRY_SECONDS) if late >= 0 else 0.0
        try:
            await asyncio.sleep(pause)
            if session.ended:
                return
            await self._assign(session, self._arena.spare(session.caller))
        except Problem:
            pass  # the session has failed with it
        except asyncio.CancelledError:
            session.fail(Draining())
            raise
        except Exception:
            logger.exception("a video could not be given to another decode worker")
            session.fail(Internal())

    def _hung(self, session: DecodeSession, verdict: Verdict) -> None:
        worker = self._fleet.worker_of(session)
        logger.warning("a decode worker was stopped", extra={"fields": {"pid": worker.pid, "because": verdict}})
        self._fleet.lose(worker, "timeout", self._out_of_patience(verdict), innocent=verdict == "silent")

    def _out_of_patience(self, verdict: Verdict) -> Problem:
        if verdict == "busy":
            limit = self.settings.patience.cpu_seconds
            return Undecodable(f"decoding the video takes more than the limit of {limit:g} s of processor time")
        return Undecodable("decoding the video makes no progress")

    def _job_done(self, session: DecodeSession, done: Done | None) -> None:
        worker = self._fleet.end(session)
        error = None if done is None else done.error
        if error is not None and error.code == FAULT:
            logger.error("a decode worker failed unexpectedly: %s", printable(error.detail, most=2000))
        if error is not None and error.code == OUT_OF_MEMORY:
            self._fleet.lose(worker, "memory")
        else:
            self._put_back(worker)


async def end_session(session: DecodeSession, error: BaseException | None = None) -> None:
    """Stop a session: on return its worker has stopped or has nothing left to do.

    Args:
        session: may have ended.
        error: why it is stopped. Whoever passed a deadline, or was cancelled because nobody listens, does not wait.
    """
    if isinstance(error, asyncio.CancelledError | DeadlinePassed):
        session.abandon()
    else:
        await session.close()
