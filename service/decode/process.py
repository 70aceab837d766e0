"""The service's side of one worker process: start it, exchange messages with it, kill it and reap it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import adafocus
from adafocus.service.decode.ipc import MAX_MESSAGE_BYTES, encode, socket_pair
from adafocus.service.decode.messages import ProtocolError, Ready, Reply, parse
from adafocus.service.decode.watchdog import process_cpu_seconds
from adafocus.service.decode.worker import main as worker
from adafocus.service.decode.worker.sandbox import SandboxReport

# Environment variables that a worker inherits: where Python finds its libraries. No key and no password is inherited.
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME")
# One thread and one heap: the sandbox refuses threads, and every further heap reserves address space.
_SET_VARIABLES = {
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
}
# Messages read per iteration of the event loop, so that a worker that floods the socket does not block the loop. As a
# rule there is one, and asking for another costs as much as coming back.
_TURN = 1


class WorkerGoneError(Exception):
    """The worker cannot receive messages any more."""


class WorkerStartError(RuntimeError):
    """A worker process could not be started."""


class WorkerProcess:
    """A running worker. Created by `start`; `reap` must be called once.

    Attributes:
        sandbox: the worker's sandbox, as the worker reported it.
    """

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self.sandbox: SandboxReport | None = None
        self._process = process
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._on_reply: Callable[[Reply], None] | None = None
        self._on_lost: Callable[[ProtocolError | None], None] | None = None
        control.setblocking(False)

    @classmethod
    async def start(cls, *, slots: int, crop: int, memory_bytes: int, start_seconds: float) -> WorkerProcess:
        """Start a worker and wait until it is in its sandbox and ready for a job.

        Raises:
            WorkerStartError: it could not be started; stderr has the worker's error message.
        """
        if not hasattr(os, "memfd_create"):
            raise WorkerStartError(f"decode workers need Linux, this system is {sys.platform}")
        ours, theirs = socket_pair()
        try:
            with theirs:
                command = worker.arguments(
                    control=theirs.fileno(), slots=slots, crop=crop, memory_bytes=memory_bytes, parent=os.getpid()
                )
                process = _spawn(command, theirs.fileno())
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

    def listen(self, on_reply: Callable[[Reply], None], on_lost: Callable[[ProtocolError | None], None]) -> None:
        """Call ``on_reply`` for every message from now on, and ``on_lost`` when no more will come.

        Args:
            on_reply: may raise `ProtocolError` for a message that the protocol does not allow now.
            on_lost: called once: with the error if a message broke the protocol, with None if the worker has ended.
        """
        self._on_reply, self._on_lost = on_reply, on_lost
        self._loop.add_reader(self._control, self._hear)

    def send(self, message: Mapping[str, object], fds: Sequence[int] = ()) -> None:
        """Send a message, and descriptors with it. Never blocks: a correct worker keeps the socket's buffer free.

        Raises:
            WorkerGoneError: the socket's buffer is full, or the worker has ended.
        """
        try:
            socket.send_fds(self._control, [encode(message)], list(fds))
        except OSError as error:
            raise WorkerGoneError(str(error)) from error

    def cpu_seconds(self) -> float:
        """Processor time that the worker has used since it was started."""
        return process_cpu_seconds(self.pid)

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

        def heard(reply: Reply) -> None:
            if not first.done():
                first.set_result(reply)

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
        for _ in range(_TURN):
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
                reply = parse(data)
                if self._on_reply is not None:
                    self._on_reply(reply)
            except ProtocolError as error:
                self._lost(error)
                return
            if self._on_lost is None:  # handling this message has ended the connection
                return

    def _lost(self, error: ProtocolError | None) -> None:
        on_lost = self._on_lost
        self._stop_listening()
        if on_lost is not None:
            on_lost(error)

    def _stop_listening(self) -> None:
        self._on_reply = self._on_lost = None
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control)


def _spawn(arguments: list[str], *inherited: int) -> subprocess.Popen[bytes]:
    """Start a worker. This blocks for a few milliseconds, until the process runs."""
    return subprocess.Popen(  # noqa: S603 - this interpreter, with arguments of our own
        [sys.executable, "-P", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=inherited,
        env=worker_environment(),
        # A group of its own, for a terminal's Ctrl-C, but not a session: where no control group divides the processors,
        # Linux gives every session the same share of them, and priorities count within one only.
        process_group=0,
    )


def worker_environment() -> dict[str, str]:
    """The environment of a sandboxed process: no key and no password, one thread, this code."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    root = Path(adafocus.__path__[0]).parent  # the worker must import the same code as this process
    return {**kept, **_SET_VARIABLES, "PYTHONPATH": str(root)}
