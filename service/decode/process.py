"""The service's side of one worker process: start it, exchange messages with it, kill it and reap it."""

from __future__ import annotations

import asyncio
import math
import os
import resource
import socket
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec

from adafocus.service.decode.ipc import MAX_MESSAGE_BYTES, socket_pair
from adafocus.service.decode.messages import ProtocolError, Ready, Reply, parse
from adafocus.service.decode.template import Process, WorkerStartError, WorkerTemplate
from adafocus.service.decode.watchdog import process_cpu_clock, waits_for_processor
from adafocus.service.decode.worker.sandbox import SandboxReport


class WorkerGoneError(Exception):
    """The worker cannot receive messages any more."""


class WorkerProcess:
    """A running worker. Created by `start`; `reap` must be called once.

    Attributes:
        sandbox: the worker's sandbox, as the worker reported it.
        caller: whose videos it has decoded; None before its first one.
        jobs: number of jobs that it has been given.
    """

    def __init__(self, process: Process, control: socket.socket) -> None:
        self.sandbox: SandboxReport | None = None
        self.caller: str | None = None
        self.jobs = 0
        self._process = process
        self._cpu_clock = process_cpu_clock(process.pid)
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._on_replies: Callable[[Sequence[Reply]], None] | None = None
        self._on_lost: Callable[[ProtocolError | None], None] | None = None
        control.setblocking(False)

    @classmethod
    async def start(cls, template: WorkerTemplate, start_seconds: float) -> WorkerProcess:
        """Start a worker and wait until it is in its sandbox and ready for a job.

        Raises:
            WorkerStartError: it could not be started; stderr has the worker's error message.
        """
        ours, theirs = socket_pair()
        try:
            with theirs:
                process = await template.fork(theirs)
        except BaseException:
            ours.close()
            raise
        self = cls(process, ours)
        try:
            self.sandbox = await self._ready(start_seconds)
        except BaseException:
            self.kill()
            reaping = asyncio.create_task(self.reap())
            try:
                await asyncio.shield(reaping)
            except asyncio.CancelledError:  # the process must be reaped even if this task is cancelled
                await reaping
                raise
            raise
        return self

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def listen(
        self, on_replies: Callable[[Sequence[Reply]], None], on_lost: Callable[[ProtocolError | None], None]
    ) -> None:
        """Call ``on_replies`` with all messages from now on, and ``on_lost`` when no more will come.

        Args:
            on_replies: is given messages that came together; may raise `ProtocolError` for one that the protocol does
                not allow now.
            on_lost: called once: with the error if a message broke the protocol, with None if the worker has ended.
        """
        self._on_replies, self._on_lost = on_replies, on_lost
        self._loop.add_reader(self._control, self._hear)

    def send(self, message: Mapping[str, object], fds: Sequence[int] = ()) -> None:
        """Send a message, and descriptors with it. Never blocks: a correct worker keeps the socket's buffer free.

        Raises:
            WorkerGoneError: the socket's buffer is full, or the worker has ended.
            ValueError: the message is too long.
        """
        data = msgspec.json.encode(message)
        if len(data) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message must have at most {MAX_MESSAGE_BYTES} bytes, got {len(data)}")
        try:
            if fds:
                self._control.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))])
            else:
                self._control.send(data)
        except OSError as error:
            raise WorkerGoneError(str(error)) from error

    def cpu_seconds(self) -> float:
        """Processor time that the worker has used since it was started; 0 once it has ended."""
        try:
            return time.clock_gettime(self._cpu_clock)
        except OSError:
            return 0.0

    def starved(self) -> bool:
        """Whether the worker would use the processor if others left it some."""
        return waits_for_processor(self.pid)

    def begin_job(self, cpu_seconds: float) -> None:
        """Count a job, and have the kernel end the worker when it has used so much more processor time.

        This is for a service that is stopped or stuck itself; otherwise the watchdog is earlier.
        """
        self.jobs += 1
        most = math.ceil(self.cpu_seconds() + cpu_seconds)
        with suppress(OSError):  # it has ended, or this process may have less itself
            resource.prlimit(self.pid, resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))

    def kill(self) -> None:
        """Kill the worker. May be called again, and after the worker has ended."""
        self._stop_listening()
        self._process.kill()

    async def reap(self) -> int:
        """Wait until the worker has ended and release its resources.

        Returns:
            The exit code, negative for a signal.
        """
        code = await self._end()
        self._stop_listening()
        self._control.close()
        return code

    async def _end(self) -> int:
        """Wait for the exit code.

        This does not use asyncio's child watcher: on Python 3.11 it needs a thread for each worker, and it loses the
        exit code of a process that is killed after it has ended.
        """
        if self._process.poll() is None:
            try:
                handle = os.pidfd_open(self.pid)
            except OSError:  # a kernel before 5.3, or a container that forbids the call
                return await asyncio.to_thread(self._process.wait)
            ended = asyncio.Event()
            self._loop.add_reader(handle, ended.set)
            try:
                await ended.wait()
            finally:
                self._loop.remove_reader(handle)
                os.close(handle)
        return self._process.wait()

    async def _ready(self, seconds: float) -> SandboxReport:
        first: asyncio.Future[Reply] = self._loop.create_future()

        def lost(error: ProtocolError | None) -> None:
            if not first.done():
                first.set_exception(WorkerStartError(f"a decode worker did not start: {error or 'it ended'}"))

        def heard(replies: Sequence[Reply]) -> None:
            if not first.done():
                first.set_result(replies[0])

        self.listen(heard, lost)
        try:
            async with asyncio.timeout(seconds):
                reply = await first
        except TimeoutError:
            raise WorkerStartError(f"a decode worker was not ready after {seconds:g} s") from None
        if not isinstance(reply, Ready):
            raise WorkerStartError(f"the first message of a decode worker must be 'ready', got {reply.type!r}")
        return reply.sandbox.report()

    def _hear(self) -> None:
        """Receive once, so that a worker that floods the socket does not block the loop."""
        try:
            data = self._control.recv(MAX_MESSAGE_BYTES + 1)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost(None)
            return
        try:
            replies = parse(data)
            if self._on_replies is not None:
                self._on_replies(replies)
        except ProtocolError as error:
            self._lost(error)

    def _lost(self, error: ProtocolError | None) -> None:
        on_lost = self._on_lost
        self._stop_listening()
        if on_lost is not None:
            on_lost(error)

    def _stop_listening(self) -> None:
        self._on_replies = self._on_lost = None
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control)
