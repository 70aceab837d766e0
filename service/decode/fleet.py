"""The worker processes of a pool: they are started, lent for one video at a time, watched while idle, and replaced."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence

from adafocus.service.decode.exit_code import killed_from_outside, problem_of_exit
from adafocus.service.decode.idle_queue import IdleQueue
from adafocus.service.decode.idle_watch import IdleWatch
from adafocus.service.decode.messages import ProtocolError, Reply, printable
from adafocus.service.decode.pool_settings import PoolObserver, PoolSettings, RestartReason
from adafocus.service.decode.priority import BackgroundPriority
from adafocus.service.decode.process import WorkerProcess
from adafocus.service.decode.session import DecodeSession
from adafocus.service.decode.template import WorkerStartError, WorkerTemplate
from adafocus.service.decode.worker.sandbox import SandboxReport
from adafocus.service.decode.worker_losses import MAX_WORKERS
from adafocus.service.errors import Draining, Internal, Problem

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 30.0
_KERNELS_GRACE_SECONDS = 5.0
"""Processor time beyond the watchdog's limit after which the kernel ends a worker."""

logger = logging.getLogger("adafocus.decode")


class WorkerFleet:
    """A fixed number of workers, each idle or at work on one video.

    Args:
        settings: of the pool.
        observer: informed when workers start, end or are replaced.
        on_lost: called with a worker that has left the fleet, before its video is told.
        start_again: gives a video whose worker has ended to another worker.
    """

    def __init__(
        self,
        settings: PoolSettings,
        observer: PoolObserver,
        on_lost: Callable[[WorkerProcess], None],
        start_again: Callable[[DecodeSession], Coroutine[None, None, None]],
    ) -> None:
        self._settings = settings
        self._observer = observer
        self._on_lost = on_lost
        self._start_again = start_again
        self.workers: dict[WorkerProcess, DecodeSession | None] = {}
        """The workers that are alive, each with the video it is at work on."""
        self._line: IdleQueue[WorkerProcess] = IdleQueue()
        self._priorities: dict[WorkerProcess, BackgroundPriority] = {}
        self._starting: set[asyncio.Task[None]] = set()
        self._burials: set[asyncio.Task[None]] = set()
        self._template = WorkerTemplate(
            slots=settings.slots,
            crop=settings.crop,
            memory_bytes=settings.memory_bytes,
            start_seconds=settings.start_seconds,
        )
        self._idle_watch: IdleWatch[WorkerProcess] = IdleWatch(
            lambda: (worker for worker, session in self.workers.items() if session is None),
            lambda worker: self.lose(worker, "idle_cpu"),
        )
        self._closing = False
        self.sandbox: SandboxReport | None = None
        """The workers' sandbox, once a worker has been started."""

    @property
    def waiting(self) -> int:
        """Number of videos that wait for a worker."""
        return self._line.waiting

    async def start(self) -> None:
        """Start the workers and wait until all are ready.

        Raises:
            WorkerStartError: a worker could not be started; `close` stops the others.
        """
        starts = (self._add() for _ in range(self._settings.workers))
        for result in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        self._idle_watch.start()

    async def close(self) -> None:
        """Kill all workers; videos that wait for one or are at work fail with `Draining`. May be called again."""
        self._closing = True
        self._idle_watch.stop()
        self._line.close(Draining())
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, *self._burials, return_exceptions=True)
        self._template.close()
        workers, self.workers = self.workers, {}
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

    async def take(self, caller: str, *, background: bool) -> WorkerProcess:
        """Wait for an idle worker that suits a video; one that does not is replaced.

        It has decoded for nobody but this caller, and its priority is not too low.

        Raises:
            Problem: the fleet is closed.
        """

        def rank(worker: WorkerProcess) -> int:
            unsuited = self._priorities[worker].lowered != background
            return 4 * (worker.caller not in (caller, None)) + 2 * unsuited + (worker.caller is None)

        worker = await self._line.take(rank)
        while True:
            if worker.caller not in (caller, None):
                self.lose(worker, "caller")
            elif not self._priorities[worker].begin(background=background):
                self.lose(worker, "recycled")
            else:
                worker.caller = caller
                return worker
            worker = await self._line.take(rank, first=True)

    def take_reserved(self, worker: WorkerProcess, *, background: bool) -> None:
        """Take an idle worker that is out of the line. If its priority is too low it keeps it, with its open video."""
        self._priorities[worker].begin(background=background)

    def begin(self, worker: WorkerProcess, session: DecodeSession) -> None:
        """Record that a worker that was taken has been given a video."""
        worker.begin_job(self._settings.patience.cpu_seconds + _KERNELS_GRACE_SECONDS)
        self.workers[worker] = session

    def end(self, session: DecodeSession) -> WorkerProcess:
        """Record that the worker of a video has done its job; returns the worker, which is not in the line yet."""
        worker = self.worker_of(session)
        self.workers[worker] = None
        return worker

    def put_back(self, worker: WorkerProcess, *, in_line: bool = True) -> None:
        """Let a worker that was taken be idle; unless it is reserved, the next video may have it."""
        self._priorities[worker].end()
        if in_line:
            self._line.put(worker)

    def end_reservation(self, worker: WorkerProcess) -> None:
        """Let an idle worker that was out of the line stand in it again."""
        if worker in self.workers and self.workers[worker] is None:
            self._line.put(worker)

    def worker_of(self, session: DecodeSession) -> WorkerProcess:
        """The worker that is at work on a video."""
        return next(worker for worker, at_work in self.workers.items() if at_work is session)

    def lose(
        self, worker: WorkerProcess, reason: RestartReason, problem: Problem | None = None, *, innocent: bool = False
    ) -> None:
        """Kill a worker and replace it. Its video fails, or goes to another worker if it may be innocent.

        Without a problem, the exit code determines the problem.
        """
        if worker not in self.workers or self._closing:
            return
        session = self.workers.pop(worker)
        self._priorities.pop(worker).end()
        self._line.discard(worker)
        self._on_lost(worker)
        worker.kill()
        again = session is not None and innocent and session.replaceable(stuck=reason == "timeout")
        if session is not None and again:
            session.lost()
        elif session is not None and problem is not None:
            session.fail(problem)
        if reason != "caller":  # the next one is there in a moment
            self._observer.decode_workers(len(self.workers))
        self._observer.decode_worker_restarted(reason)
        _keep(self._starting, self._refill())
        _keep(self._burials, self._bury(worker, session, reason, again=again))

    async def _add(self) -> None:
        """Start a worker and put it into the line."""
        worker = await WorkerProcess.start(self._template, self._settings.start_seconds)
        self.workers[worker] = None
        self._priorities[worker] = BackgroundPriority(worker)
        self._observer.decode_workers(len(self.workers))
        self._report(worker.sandbox)

        def heard(replies: Sequence[Reply]) -> None:
            session = self.workers.get(worker)
            if session is None:
                raise ProtocolError("the worker sent a message while it had no job")
            session.hear(*replies)

        def lost(error: ProtocolError | None) -> None:
            if error is None:
                self.lose(worker, "crashed", innocent=True)
            else:
                logger.error("a decode worker broke the protocol: %s", printable(str(error)))
                self.lose(worker, "protocol", Internal())

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

    async def _bury(
        self, worker: WorkerProcess, session: DecodeSession | None, reason: RestartReason, *, again: bool
    ) -> None:
        """Wait until a lost worker has ended, and decide about its video."""
        code = await worker.reap()
        fields = {"pid": worker.pid, "reason": reason, "exit_code": code, "video_goes_on": again}
        level = logging.DEBUG if reason == "caller" else logging.WARNING
        logger.log(level, "a decode worker has ended and will be replaced", extra={"fields": fields})
        if session is None:
            return
        session.worker_ended()
        session.losses.faults += not killed_from_outside(code)
        if self._closing:
            session.fail(Draining())
        elif again and session.losses.faults < MAX_WORKERS:
            self._observer.video_retried("decoder_timeout" if reason == "timeout" else "decoder_crashed")
            _keep(self._starting, self._start_again(session))
        else:
            session.fail(problem_of_exit(code))

    async def _refill(self) -> None:
        """Start a worker in place of a lost one; tries until it succeeds."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._add()
            except (WorkerStartError, OSError) as error:
                logger.error("a decode worker could not be started: %s", error)
                self._observer.decode_workers(len(self.workers))
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                return


def _keep(tasks: set[asyncio.Task[None]], work: Coroutine[None, None, None]) -> None:
    """Start a task and keep a reference until it ends, because the event loop keeps only a weak one."""
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
