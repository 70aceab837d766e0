"""The service's side of the template from which decode workers are forked (see `service.decode.worker.template`)."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import adafocus
from adafocus.service.decode.ipc import socket_pair
from adafocus.service.decode.worker import main as worker
from adafocus.service.decode.worker.template import BECOME, READY

# Environment variables that a worker inherits: where Python finds its libraries. No key and no password is inherited.
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME")
# One thread and one heap: the sandbox refuses threads, and every further heap reserves address space.
_SET_VARIABLES = {
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
}
_MOST_BYTES = 16


class WorkerStartError(RuntimeError):
    """A worker process could not be started."""


class Process(Protocol):
    """A child process; `subprocess.Popen` is one."""

    @property
    def pid(self) -> int:
        """Its id."""

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""

    def wait(self) -> int:
        """Wait for its end; returns the exit code."""

    def kill(self) -> None:
        """Kill it; does nothing if it has ended."""


class ForkedProcess:
    """A child of this process that another one forked.

    Args:
        pid: its id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """See `Process`."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int:
        """See `Process`."""
        code = self._wait(0)
        return -signal.SIGKILL if code is None else code

    def kill(self) -> None:
        """See `Process`."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _wait(self, options: int) -> int | None:
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:  # somebody else has waited for it, and nobody can tell its code any more
                self._code = -signal.SIGKILL
            else:
                if pid:
                    self._code = os.waitstatus_to_exitcode(status)
        return self._code


class WorkerTemplate:
    """Starts workers, from a process that is started when it is first needed, and again after it has ended.

    Args:
        slots: of a video's frame memory.
        crop: side of the largest square that a job may request, pixels.
        memory_bytes: address space of a worker beyond what it starts with.
        start_seconds: time limit for one start.
    """

    def __init__(self, *, slots: int, crop: int, memory_bytes: int, start_seconds: float) -> None:
        self._slots, self._crop, self._memory_bytes = slots, crop, memory_bytes
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._one_at_a_time = asyncio.Lock()

    async def fork(self, control: socket.socket) -> Process:
        """Start a worker.

        Args:
            control: the worker's end of its control socket.

        Raises:
            WorkerStartError: it could not be started; stderr has the error message.
        """
        async with self._one_at_a_time:
            if self._process is not None:
                try:
                    return await self._fork(self._process, control)
                except WorkerStartError:  # it has ended meanwhile
                    pass
            return await self._fork(await self._start(), control)

    def close(self) -> None:
        """End the template; its workers stay. May be called again."""
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def _start(self) -> subprocess.Popen[bytes]:
        if not hasattr(os, "memfd_create"):
            raise WorkerStartError(f"decode workers need Linux, this system is {sys.platform}")
        ours, theirs = socket_pair()
        ours.setblocking(False)
        self._requests = ours
        with theirs:
            command = worker.arguments(
                requests=theirs.fileno(),
                slots=self._slots,
                crop=self._crop,
                memory_bytes=self._memory_bytes,
                parent=os.getpid(),
            )
            process = self._process = _spawn(command, theirs.fileno())
        try:
            if await self._message(ours) != READY:
                raise WorkerStartError("a decode worker did not start: its template has ended")
        except BaseException:
            self.close()
            raise
        return process

    async def _fork(self, process: subprocess.Popen[bytes], control: socket.socket) -> Process:
        asking = asyncio.create_task(self._ask(process, control))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:  # a process that nobody waits for would stay as a zombie
            with suppress(WorkerStartError):
                unwanted = await asking
                unwanted.kill()
                unwanted.wait()
            raise

    async def _ask(self, process: subprocess.Popen[bytes], control: socket.socket) -> Process:
        requests = self._requests
        try:
            if requests is None:
                raise WorkerStartError("the template of the decode workers has been closed")
            socket.send_fds(requests, [b"fork"], [control.fileno()])
            answer = await self._message(requests)
            if not answer.isdigit():
                raise WorkerStartError("a decode worker did not start: its template has ended")
        except OSError as error:
            self.close()
            raise WorkerStartError(f"a decode worker did not start: {error}") from error
        except WorkerStartError:
            self.close()
            raise
        if int(answer) != BECOME:
            return ForkedProcess(int(answer))
        self._process = None  # it is the worker now
        self.close()
        return process

    async def _message(self, requests: socket.socket) -> bytes:
        """The next message of the template; empty if it has ended."""
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(requests, readable.set)
        try:
            async with asyncio.timeout(self._start_seconds):
                await readable.wait()
            return requests.recv(_MOST_BYTES)
        except TimeoutError:
            raise WorkerStartError(f"a decode worker was not ready after {self._start_seconds:g} s") from None
        except ConnectionError:
            return b""
        finally:
            loop.remove_reader(requests)


def _spawn(arguments: list[str], *inherited: int) -> subprocess.Popen[bytes]:
    """Start the template. This blocks for a few milliseconds, until the process runs."""
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
