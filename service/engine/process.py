"""A core in a separate process, which shares neither the interpreter's lock nor crashes with the HTTP process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from typing import Protocol

from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.messages import Commands, Report
from adafocus.service.engine.runners.base import RunnerError
from adafocus.service.engine.transport import RunnerInfo
from adafocus.service.engine.wire import (
    BUFFER_BYTES,
    Attach,
    Begin,
    Detach,
    Failed,
    Hello,
    Inbox,
    MakeCore,
    Ready,
    packed,
)
from adafocus.service.frame_memory import FrameSegment

logger = logging.getLogger("adafocus.engine")

CLOSE_SECONDS = 30.0
"""How long a core may take to finish the batch that runs, before its process is killed."""


class Process(Protocol):
    """The part of a process that the client needs; asyncio's processes have it."""

    @property
    def pid(self) -> int:
        """Its number."""

    async def wait(self) -> int:
        """Wait until it has ended; returns its exit code."""

    def kill(self) -> None:
        """End it at once."""


class CoreProcess:
    """A core in another process. Frames are read where they lie; all else is one message a batch.

    Made by `open_core_process`, which waits until it is ready.

    Args:
        process: of the core.
        connection: to it.
        slots: videos in flight at once.
    """

    returns = False

    def __init__(self, process: Process, connection: socket.socket, slots: int) -> None:
        self.slots = slots
        self.first_slot = 0
        self._process = process
        self._connection = connection
        self._inbox = Inbox(connection)
        self._outbox: deque[tuple[bytes, int | None]] = deque()
        self._report: Callable[[Report], None] = lambda _: None
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._lost = False
        asyncio.get_running_loop().add_reader(connection, self._hear)

    @property
    def runner(self) -> RunnerInfo:
        """See `Transport`."""
        return self._ready.result().runner

    @property
    def manifest(self) -> Manifest:
        """Of the bundle that the core has loaded."""
        return self._ready.result().manifest

    @property
    def loaded(self) -> Ready:
        """What the core said when it was warm."""
        return self._ready.result()

    @property
    def pid(self) -> int:
        """Of the core's process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """See `Transport`."""
        return self._ready.done() and not self._lost

    async def start(self, report: Callable[[Report], None]) -> None:
        """See `Transport`; the core is warm already."""
        self._report = report

    async def begin(self, make: MakeCore, max_batch: int) -> None:
        """Have the core loaded and warmed up.

        Raises:
            RunnerError: the model could not be loaded, or the process ended before it was.
        """
        await self.join(Begin(pickle.dumps(make), self.slots, max_batch))

    async def join(self, first: Begin | Hello) -> None:
        """Say what is to be run, or who this is, and wait until the core is warm.

        Raises:
            RunnerError: the model could not be loaded, or the process ended before it was.
        """
        self._send(first)
        await self._ready

    def post(self, commands: Commands, *, wake: bool = True) -> None:
        """See `Transport`; it always wakes the core."""
        self._send(commands)

    def wake(self) -> None:
        """See `Transport`; nothing waits."""

    def attach(self, segment: FrameSegment) -> None:
        """See `Transport`."""
        if segment.fd is None:
            raise ValueError("a segment without a descriptor cannot be seen by another process")
        places, side = segment.pixels.shape[:2]
        self._send(Attach(segment.number, places, side), segment.fd)

    def detach(self, segment: FrameSegment) -> None:
        """See `Transport`."""
        self._send(Detach(segment.number))

    async def back(self) -> None:
        """See `Transport`; it does not come back by itself."""

    async def discard(self) -> None:
        """Kill and reap the process of a core that has been lost."""
        self._lose()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def close(self) -> None:
        """See `Transport`."""
        self._lose()
        try:
            await asyncio.wait_for(self._process.wait(), CLOSE_SECONDS)
        except TimeoutError:
            logger.error("the engine's process does not end; it is killed")
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    def _send(self, message: object, fd: int | None = None) -> None:
        """Send now what the socket takes, and the rest when it takes it."""
        if self._lost:
            return
        # The descriptor must stay open until it is sent.
        self._outbox.append((packed(message), None if fd is None else os.dup(fd)))
        if len(self._outbox) == 1:
            self._flush()

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._outbox:
                data, fd = self._outbox[0]
                sent = self._sent(data, fd)
                if fd is not None:
                    os.close(fd)
                if sent < len(data):
                    self._outbox[0] = (data[sent:], None)
                else:
                    self._outbox.popleft()
        except BlockingIOError:
            loop.add_writer(self._connection, self._flush)
            return
        except OSError:
            self._lose()
            return
        loop.remove_writer(self._connection)

    def _sent(self, data: bytes, fd: int | None) -> int:
        return self._connection.send(data) if fd is None else socket.send_fds(self._connection, [data], [fd])

    def _hear(self) -> None:
        try:
            going = self._inbox.receive()
        except BlockingIOError:
            return
        except OSError:
            going = False
        for message in self._inbox.messages():
            match message:
                case Report():
                    self._report(message)
                case Ready():
                    self._ready.set_result(message)
                case Failed():
                    self._ready.set_exception(message.error)
        if not going:
            self._lose()

    def _lose(self) -> None:
        """The connection has ended, by either side's doing."""
        if self._lost:
            return
        self._lost = True
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._connection)
        loop.remove_writer(self._connection)
        self._connection.close()
        for _, fd in self._outbox:
            if fd is not None:
                os.close(fd)
        self._outbox.clear()
        if not self._ready.done():
            self._ready.set_exception(RunnerError("the engine's process ended while it was loading the model"))
        self._report(Report())


async def open_core_process(make: MakeCore, *, slots: int, max_batch: int) -> CoreProcess:
    """Start a core in a process of its own and wait until it is warm.

    Args:
        make: loads the model there; a function of a module, or a partial of one.
        slots: videos in flight at once.
        max_batch: rows in one batch at most.

    Raises:
        RunnerError: the model could not be loaded, or the process ended before it was.
    """
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    ours.setblocking(False)
    try:
        with theirs:
            process = await _start(theirs)
    except BaseException:
        ours.close()
        raise
    core = CoreProcess(process, ours, slots)
    try:
        await core.begin(make, max_batch)
    except BaseException:
        await core.close()
        raise
    return core


async def _start(connection: socket.socket) -> asyncio.subprocess.Process:
    """Start a core process at the other end of a connection."""
    # What this process can import, the other must find, too: it unpickles functions by their modules.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "adafocus.service.engine.core_process", str(connection.fileno())),
        pass_fds=(connection.fileno(),),
        stdin=subprocess.DEVNULL,
        env=environment,
    )
