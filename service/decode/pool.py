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
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Self
from weakref import WeakKeyDictionary

from adafocus.service.decode.exit_code import killed_from_outside, problem_of_exit
from adafocus.service.decode.frame_arena import FrameArena
from adafocus.service.decode.idle_queue import IdleQueue
from adafocus.service.decode.idle_watch import IdleWatch
from adafocus.service.decode.ipc import FAULT, OUT_OF_MEMORY
from adafocus.service.decode.job import DecodeJob
from adafocus.service.decode.messages import Done, ProtocolError, Reply, printable
from adafocus.service.decode.pool_settings import PoolObserver, PoolSettings, RestartReason, Unobserved
from adafocus.service.decode.priority import BackgroundPriority
from adafocus.service.decode.process import WorkerGoneError, WorkerProcess
from adafocus.service.decode.session import MAX_WORKERS, DecodeSession
from adafocus.service.decode.shared_frames import SharedFrames
from adafocus.service.decode.spool import Spool
from adafocus.service.decode.template import WorkerStartError, WorkerTemplate
from adafocus.service.decode.watchdog import Verdict, WorkerTimeouts
from adafocus.service.decode.windows import Reservation, WindowDecoder
from adafocus.service.decode.worker.sandbox import SandboxReport
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

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 30.0
_LONGEST_RETRY_SECONDS = 2.0
_KERNELS_GRACE_SECONDS = 5.0
"""Processor time beyond the watchdog's limit after which the kernel ends a worker."""

logger = logging.getLogger("adafocus.decode")


class DecodePool:
    """A fixed number of decode workers and the requests that wait for one. An async context manager.

    Args:
        settings: of the pool.
        observer: informed when workers start, end or are replaced.
    """

    def __init__(self, settings: PoolSettings, observer: PoolObserver | None = None) -> None:
        self.settings = settings
        self._observer = observer or Unobserved()
        self._line: IdleQueue[WorkerProcess] = IdleQueue()
        self._workers: dict[WorkerProcess, DecodeSession | None] = {}
        self._priorities: dict[WorkerProcess, BackgroundPriority] = {}
        self._burials: set[asyncio.Task[None]] = set()
        self._refilling: set[asyncio.Task[None]] = set()
        self._reservations: dict[WorkerProcess, Reservation] = {}
        self._reserved_for: WeakKeyDictionary[DecodeSession, Reservation] = WeakKeyDictionary()
        self._may_reserve = asyncio.Semaphore(max(1, settings.workers // 2))
        self._arena = FrameArena(settings.segments, settings.slots, settings.crop)
        self._template = WorkerTemplate(
            slots=settings.slots,
            crop=settings.crop,
            memory_bytes=settings.memory_bytes,
            start_seconds=settings.start_seconds,
        )
        self._idle_watch: IdleWatch[WorkerProcess] = IdleWatch(
            lambda: (worker for worker, session in self._workers.items() if session is None),
            lambda worker: self._lose(worker, "idle_cpu"),
        )
        self._closing = False
        self.sandbox: SandboxReport | None = None
        """The workers' sandbox, once a worker has been started."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that are alive now."""
        return tuple(worker.pid for worker in self._workers)

    @property
    def waiting(self) -> int:
        """Number of videos that wait for a worker or for memory."""
        return self._line.waiting + self._arena.waiting

    @property
    def segments_lent(self) -> int:
        """Number of segments of memory that hold, or will hold, frames of videos."""
        return self._arena.lent

    async def start(self) -> None:
        """Start the workers and wait until all are ready.

        Raises:
            WorkerStartError: a worker could not be started; all others have been stopped.
        """
        starts = (self._add_worker() for _ in range(self.settings.workers))
        try:
            for result in await asyncio.gather(*starts, return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result
        except BaseException:
            await self.close()
            raise
        self._idle_watch.start()

    async def close(self) -> None:
        """Kill all workers; videos that wait or are being decoded fail with `Draining`. May be called again."""
        self._closing = True
        self._idle_watch.stop()
        self._line.close(Draining())
        self._arena.close(Draining())
        for task in self._refilling:
            task.cancel()
        await asyncio.gather(*self._refilling, *self._burials, return_exceptions=True)
        self._template.close()
        workers, self._workers = self._workers, {}
        while self._reservations:
            self._reservations.popitem()[1].lost()
        while self._priorities:
            self._priorities.popitem()[1].end()
        for worker, session in workers.items():
            worker.kill()
            if session is not None:
                session.fail(Draining())
        await asyncio.gather(*(worker.reap() for worker in workers))
        for session in workers.values():
            if session is not None:
                session.worker_ended()
        self._observer.decode_workers(0)

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
                    self._lose(worker, "crashed")
                except BaseException:  # the worker did not receive the job, so it is still idle
                    self._put_back(worker)
                    raise
                else:
                    worker.begin_job(self.settings.patience.cpu_seconds + _KERNELS_GRACE_SECONDS)
                    self._workers[worker] = session
                    return
        except BaseException as error:
            self._arena.put(frames)
            session.fail(error if isinstance(error, Problem) else Internal())
            raise

    async def _take(self, session: DecodeSession) -> tuple[WorkerProcess, bool]:
        """An idle worker, and whether it has the video open: the reserved one, or else the next."""
        reservation = self._reserved_for.get(session) if self._reserved_for else None
        if reservation is None:
            return await self._take_idle(session), False
        if reservation.worker is not None:
            await reservation.idle.wait()
        known = worker = reservation.worker
        if worker is None:
            worker = await self._take_idle(session)
        else:  # with too low a priority it goes on as it is, because it has the video open
            self._priorities[worker].begin(background=session.background)
        reservation.worker = worker
        reservation.idle.clear()
        self._reservations[worker] = reservation
        return worker, known is not None

    async def _take_idle(self, session: DecodeSession) -> WorkerProcess:
        """The next idle worker that suits a video; one that does not is replaced.

        It has decoded for nobody but this caller, and its priority is not too low.
        """
        caller = session.caller

        def rank(worker: WorkerProcess) -> int:
            unsuited = self._priorities[worker].lowered != session.background
            return 4 * (worker.caller not in (caller, None)) + 2 * unsuited + (worker.caller is None)

        worker = await self._line.take(rank)
        while True:
            if worker.caller not in (caller, None):
                self._lose(worker, "caller")
            elif not self._priorities[worker].begin(background=session.background):
                self._lose(worker, "recycled")
            else:
                worker.caller = caller
                return worker
            worker = await self._line.take(rank, first=True)

    def _end_reservation(self, reservation: Reservation) -> None:
        worker = reservation.worker
        if worker is None or self._reservations.pop(worker, None) is None:
            return
        with suppress(WorkerGoneError):  # the pool learns of it from the closed socket
            worker.send({"type": "forget"})
        if worker in self._workers and self._workers[worker] is None:
            self._line.put(worker)

    def _put_back(self, worker: WorkerProcess) -> None:
        self._priorities[worker].end()
        reservation = self._reservations.get(worker)
        if reservation is None:
            self._line.put(worker)
        else:
            reservation.idle.set()

    async def _assign_again(self, session: DecodeSession) -> None:
        """Give the job of a worker that has ended to another; the frames of the first stay where they are."""
        late = session.workers_lost - MAX_WORKERS
        pause = min(_FIRST_PAUSE_SECONDS * 2**late, _LONGEST_RETRY_SECONDS) if late >= 0 else 0.0
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
        worker = next(worker for worker, at_work in self._workers.items() if at_work is session)
        logger.warning("a decode worker was stopped", extra={"fields": {"pid": worker.pid, "because": verdict}})
        self._lose(worker, "timeout", self._out_of_patience(verdict), innocent=verdict == "silent")

    def _out_of_patience(self, verdict: Verdict) -> Problem:
        if verdict == "busy":
            limit = self.settings.patience.cpu_seconds
            return Undecodable(f"decoding the video takes more than the limit of {limit:g} s of processor time")
        return Undecodable("decoding the video makes no progress")

    def _job_done(self, session: DecodeSession, done: Done) -> None:
        worker = next(worker for worker, at_work in self._workers.items() if at_work is session)
        self._workers[worker] = None
        code = None if done.error is None else done.error.code
        if code == FAULT and done.error is not None:
            logger.error("a decode worker failed unexpectedly: %s", printable(done.error.detail, most=2000))
        if code == OUT_OF_MEMORY:
            self._lose(worker, "memory")
        else:
            self._put_back(worker)

    async def _add_worker(self) -> None:
        worker = await WorkerProcess.start(self._template, self.settings.start_seconds)
        self._workers[worker] = None
        self._priorities[worker] = BackgroundPriority(worker)
        self._observer.decode_workers(len(self._workers))
        self._report(worker.sandbox)

        def heard(reply: Reply) -> None:
            session = self._workers.get(worker)
            if session is None:
                raise ProtocolError("the worker sent a message while it had no job")
            session.hear(reply)

        def lost(error: ProtocolError | None) -> None:
            if error is None:
                self._lose(worker, "crashed", innocent=True)
            else:
                logger.error("a decode worker broke the protocol: %s", printable(str(error)))
                self._lose(worker, "protocol", Internal())

        worker.listen(heard, lost)
        self._line.put(worker)

    def _report(self, sandbox: SandboxReport | None) -> None:
        """Log once how complete the sandbox is on this system."""
        if sandbox is None or self.sandbox is not None:
            return
        self.sandbox = sandbox
        fields = {
            "no_new_privileges": sandbox.no_new_privileges,
            "landlock": sandbox.landlock,
            "seccomp": sandbox.seccomp,
            "memory_limit_bytes": sandbox.memory_limit_bytes,
            "missing": list(sandbox.missing),
        }
        if sandbox.missing:
            logger.warning("decode workers run in a weaker sandbox", extra={"fields": fields})
        else:
            logger.info("decode workers run in a full sandbox", extra={"fields": fields})

    def _lose(
        self, worker: WorkerProcess, reason: RestartReason, problem: Problem | None = None, *, innocent: bool = False
    ) -> None:
        """Kill a worker and replace it. Its request fails, or goes to another worker if the video may be innocent.

        Without a problem, the exit code determines the problem.
        """
        if worker not in self._workers or self._closing:
            return
        session = self._workers.pop(worker)
        self._priorities.pop(worker).end()
        self._line.discard(worker)
        if (reservation := self._reservations.pop(worker, None)) is not None:
            reservation.lost()
        worker.kill()
        again = session is not None and innocent and session.replaceable(stuck=reason == "timeout")
        if session is not None and again:
            session.lost()
        elif session is not None and problem is not None:
            session.fail(problem)
        if reason != "caller":  # the next one is there in a moment
            self._observer.decode_workers(len(self._workers))
        self._observer.decode_worker_restarted(reason)
        _keep(self._refilling, self._refill())
        _keep(self._burials, self._bury(worker, session, reason, again=again))

    async def _bury(
        self, worker: WorkerProcess, session: DecodeSession | None, reason: RestartReason, *, again: bool
    ) -> None:
        code = await worker.reap()
        fields = {"pid": worker.pid, "reason": reason, "exit_code": code, "video_goes_on": again}
        level = logging.DEBUG if reason == "caller" else logging.WARNING
        logger.log(level, "a decode worker has ended and will be replaced", extra={"fields": fields})
        if session is None:
            return
        session.worker_ended()
        session.faults += not killed_from_outside(code)
        if self._closing:
            session.fail(Draining())
        elif again and session.faults < MAX_WORKERS:
            self._observer.video_retried("decoder_timeout" if reason == "timeout" else "decoder_crashed")
            _keep(self._refilling, self._assign_again(session))
        else:
            session.fail(problem_of_exit(code))

    async def _refill(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._add_worker()
            except (WorkerStartError, OSError) as error:
                logger.error("a decode worker could not be started: %s", error)
                self._observer.decode_workers(len(self._workers))
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                return


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


def _keep(tasks: set[asyncio.Task[None]], work: Coroutine[None, None, None]) -> None:
    """Start a task and keep a reference until it ends, because the event loop keeps only a weak one."""
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
