"""One worker process as the service sees it: started, spoken to, listened to, killed and reaped."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import service
from service.decode.ipc import MAX_MESSAGE_BYTES, encode, socket_pair
from service.decode.messages import ProtocolError, Ready, Reply, parse
from service.decode.shared_frames import SharedFrames
from service.decode.watchdog import process_cpu_seconds
from service.decode.worker import main as worker
from service.decode.worker.sandbox import SandboxReport

# What a worker inherits of the environment: where Python finds its own libraries. No key, no password.
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME")
# One thread each, and one heap: threads would be refused, and every further heap reserves address space.
_SET_VARIABLES = {
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
}
# Messages taken in per turn of the event loop, so that a worker that floods does not own it.
_TURN = 64


class WorkerGoneError(Exception):
    """The worker cannot be spoken to any more."""


class WorkerStartError(RuntimeError):
    """A worker process could not be started."""


class WorkerProcess:
    """A running worker. Made by `start`; `reap` must be called once.

    Attributes:
        frames: the memory in which its frames arrive.
        sandbox: what holds inside.
    """

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, frames: SharedFrames) -> None:
        self.frames = frames
        self.sandbox: SandboxReport | None = None
        self._process = process
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._on_reply: Callable[[Reply], None] | None = None
        self._on_lost: Callable[[ProtocolError | None], None] | None = None
        control.setblocking(False)

    @classmethod
    async def start(cls, *, slots: int, crop: int, memory_bytes: int, start_seconds: float) -> WorkerProcess:
        """A new worker, in its sandbox and ready for a job.

        Raises:
            WorkerStartError: it could not be started; its own words are on stderr.
        """
        if not hasattr(os, "memfd_create"):
            raise WorkerStartError(f"decode workers need Linux, this is {sys.platform}")
        frames = SharedFrames.create(slots, crop)
        ours, theirs = socket_pair()
        try:
            with theirs:
                command = worker.arguments(
                    control=theirs.fileno(), frames=frames, memory_bytes=memory_bytes, parent=os.getpid()
                )
                process = _spawn(command, theirs.fileno(), frames.fd)
        except BaseException:
            ours.close()
            frames.close()
            raise
        self = cls(process, ours, frames)
        try:
            self.sandbox = await self._ready(start_seconds)
        except BaseException:
            self.kill()
            reaping = asyncio.create_task(self.reap())
            try:
                await asyncio.shield(reaping)
            except asyncio.CancelledError:  # cancelled only now: a process must not be left behind for that
                await reaping
                raise
            raise
        return self

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def listen(self, on_reply: Callable[[Reply], None], on_lost: Callable[[ProtocolError | None], None]) -> None:
        """Have every reply passed on from now, and be told when there will be none any more.

        Args:
            on_reply: raises `ProtocolError` for a reply that may not come now.
            on_lost: called once: with the error if a message broke the protocol, with None if the worker is gone.
        """
        self._on_reply, self._on_lost = on_reply, on_lost
        self._loop.add_reader(self._control, self._hear)

    def send(self, message: Mapping[str, object], fd: int | None = None) -> None:
        """Say something, with a descriptor if need be. Never waits: an honest worker leaves room for what we say.

        Raises:
            WorkerGoneError: it did not, or is gone.
        """
        fds = [] if fd is None else [fd]
        try:
            socket.send_fds(self._control, [encode(message)], fds)
        except OSError as error:
            raise WorkerGoneError(str(error)) from error

    def cpu_seconds(self) -> float:
        """Processor time that it has used since it was started."""
        return process_cpu_seconds(self.pid)

    def kill(self) -> None:
        """End it now. May be called again, and when it has ended by itself."""
        self._stop_listening()
        self._process.kill()

    async def reap(self) -> int:
        """Wait for its end and let everything go; returns its exit code, negative for a signal."""
        code = await self._end()
        self._stop_listening()
        self._control.close()
        self.frames.close()
        return code

    async def _end(self) -> int:
        """The exit code, once there is one.

        Not asyncio's own child watcher: on Python 3.11 that is a thread for each worker, and it loses the exit code of
        a process that is killed when it is dead already.
        """
        if self._process.poll() is None:
            try:
                handle = os.pidfd_open(self.pid)
            except OSError:  # a kernel before 5.3, or a container that does not let us
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
            raise WorkerStartError("a decode worker began with the wrong word")
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
            if self._on_lost is None:  # what was said has ended the conversation
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
    """Start a worker; takes a few milliseconds, until it has begun to run."""
    return subprocess.Popen(  # noqa: S603 - this interpreter, with arguments of our own
        [sys.executable, "-P", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=inherited,
        env=_environment(),
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    root = Path(service.__path__[0]).parent  # the worker is the same code, wherever it was installed or checked out
    return {**kept, **_SET_VARIABLES, "PYTHONPATH": str(root)}
