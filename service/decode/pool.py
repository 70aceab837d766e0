"""A pool of long-lived decode workers. Each decodes one video at a time, and none is trusted.

Whatever a video does to its worker, only its own request fails:

    ==========================================  ============  =============
    the worker                                  the request   restart reason
    ==========================================  ============  =============
    refuses the video, for a stated reason      that problem  not restarted
    reaches the memory limit                    Undecodable   memory
    crashes by its own fault (SIGSEGV, …)       Undecodable   crashed
    uses more than ``cpu_seconds``              Undecodable   timeout
    is silent and uses no processor time        Undecodable   timeout
    is killed from outside, or simply ends      Internal      crashed
    breaks the protocol                         Internal      protocol
    ==========================================  ============  =============

Only the last two count as errors of the service. The video may be the cause there too, but the client may retry.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Self

from adafocus.service.decode.idle_queue import IdleQueue
from adafocus.service.decode.ipc import FAULT, OUT_OF_MEMORY
from adafocus.service.decode.job import DecodeJob
from adafocus.service.decode.messages import Done, ProtocolError, Reply, printable
from adafocus.service.decode.pool_settings import PoolObserver, PoolSettings, RestartReason, Unobserved
from adafocus.service.decode.process import WorkerGoneError, WorkerProcess, WorkerStartError
from adafocus.service.decode.session import DecodeSession
from adafocus.service.decode.spool import Spool
from adafocus.service.decode.watchdog import Verdict, WorkerTimeouts
from adafocus.service.decode.worker.sandbox import SandboxReport
from adafocus.service.errors import Draining, Internal, Problem, Undecodable

__all__ = [
    "DecodeJob",
    "DecodePool",
    "DecodeSession",
    "PoolObserver",
    "PoolSettings",
    "WorkerStartError",
    "WorkerTimeouts",
]

# Signals that a process causes by its own fault; any other signal comes from outside.
_OWN_DOING = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP}
)
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 30.0

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
        self._burials: set[asyncio.Task[None]] = set()
        self._refilling: set[asyncio.Task[None]] = set()
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
        """Number of videos that wait for a worker."""
        return self._line.waiting

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

    async def close(self) -> None:
        """Kill all workers; videos that wait or are being decoded fail with `Draining`. May be called again."""
        self._closing = True
        self._line.close(Draining())
        for task in self._refilling:
            task.cancel()
        await asyncio.gather(*self._refilling, *self._burials, return_exceptions=True)
        workers, self._workers = self._workers, {}
        for worker, session in workers.items():
            worker.kill()
            if session is not None:
                session.fail(Draining())
        await asyncio.gather(*(worker.reap() for worker in workers))
        self._observer.decode_workers(0)

    @asynccontextmanager
    async def open(self, spool: Spool, job: DecodeJob) -> AsyncIterator[DecodeSession]:
        """Wait for a worker, have it check the video, and yield a session whose frames are pulled one by one.

        On exit the worker has stopped (within the time of one frame) or has nothing left to do, and the session's
        counts are final.

        Args:
            spool: of the upload; may still be growing, and must stay open until the context ends.
            job: the frames that are wanted.

        Raises:
            Problem: the video is refused, its worker failed, or the pool is closed.
            ValueError: the job's crop is larger than the pool's.
        """
        if job.geometry.crop > self.settings.crop:
            raise ValueError(f"crop must be at most {self.settings.crop} in this pool, got {job.geometry.crop}")
        session = await self._begin(spool, job)
        try:
            await session.opened()
            yield session
        finally:
            await session.close()

    async def _begin(self, spool: Spool, job: DecodeJob) -> DecodeSession:
        while True:
            worker = await self._line.take()
            session = self._session(worker, spool, job)
            try:
                session.start()
            except WorkerGoneError:  # it ended while it was idle, so this video is not the cause
                self._lose(worker, "crashed", Internal())
            except BaseException:  # the worker did not receive the job, so it is still idle
                session.fail(Internal())
                self._workers[worker] = None
                self._line.put(worker)
                raise
            else:
                return session

    def _session(self, worker: WorkerProcess, spool: Spool, job: DecodeJob) -> DecodeSession:
        def hung(verdict: Verdict) -> None:
            logger.warning("a decode worker was stopped", extra={"fields": {"pid": worker.pid, "because": verdict}})
            self._lose(worker, "timeout", self._out_of_patience(verdict))

        session = DecodeSession(
            worker,
            spool,
            job,
            self.settings.patience,
            on_end=lambda done: self._job_done(worker, done),
            on_hang=hung,
        )
        self._workers[worker] = session
        return session

    def _out_of_patience(self, verdict: Verdict) -> Problem:
        if verdict == "busy":
            limit = self.settings.patience.cpu_seconds
            return Undecodable(f"decoding the video takes more than the limit of {limit:g} s of processor time")
        return Undecodable("decoding the video makes no progress")

    def _job_done(self, worker: WorkerProcess, done: Done) -> None:
        if worker not in self._workers:  # it was lost while its last frames were being read
            return
        self._workers[worker] = None
        code = None if done.error is None else done.error.code
        if code == FAULT and done.error is not None:
            logger.error("a decode worker failed unexpectedly: %s", printable(done.error.detail, most=2000))
        if code == OUT_OF_MEMORY:
            self._lose(worker, "memory", None)
        else:
            self._line.put(worker)

    async def _add_worker(self) -> None:
        settings = self.settings
        worker = await WorkerProcess.start(
            slots=settings.slots,
            crop=settings.crop,
            memory_bytes=settings.memory_bytes,
            start_seconds=settings.start_seconds,
        )
        self._workers[worker] = None
        self._observer.decode_workers(len(self._workers))
        self._report(worker.sandbox)

        def heard(reply: Reply) -> None:
            session = self._workers.get(worker)
            if session is None:
                raise ProtocolError("the worker sent a message while it had no job")
            session.hear(reply)

        def lost(error: ProtocolError | None) -> None:
            if error is None:
                self._lose(worker, "crashed", None)
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

    def _lose(self, worker: WorkerProcess, reason: RestartReason, problem: Problem | None) -> None:
        """Kill a worker, fail its request and replace it. Without a problem, the exit code determines the problem."""
        if worker not in self._workers or self._closing:
            return
        session = self._workers.pop(worker)
        self._line.discard(worker)
        worker.kill()
        if session is not None and problem is not None:
            session.fail(problem)
        self._observer.decode_workers(len(self._workers))
        self._observer.decode_worker_restarted(reason)
        _keep(self._burials, self._bury(worker, session, reason))

    async def _bury(self, worker: WorkerProcess, session: DecodeSession | None, reason: RestartReason) -> None:
        code = await worker.reap()
        fields = {"pid": worker.pid, "reason": reason, "exit_code": code}
        logger.warning("a decode worker has ended and will be replaced", extra={"fields": fields})
        if session is not None:
            session.fail(_problem_of_exit(code))
        if not self._closing:
            _keep(self._refilling, self._refill())

    async def _refill(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._add_worker()
            except (WorkerStartError, OSError) as error:
                logger.error("a decode worker could not be started: %s", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                return


def _keep(tasks: set[asyncio.Task[None]], work: Coroutine[None, None, None]) -> None:
    """Start a task and keep a reference until it ends, because the event loop keeps only a weak one."""
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


def _problem_of_exit(code: int) -> Problem:
    if -code in _OWN_DOING:
        return Undecodable("the decoder crashed on the video")
    return Internal()
