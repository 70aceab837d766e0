"""A front's way to a core that several fronts share; it connects again when the core has been replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from pathlib import Path

from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.hub import SEGMENTS_EACH
from adafocus.service.engine.messages import Commands, Report
from adafocus.service.engine.process import CoreProcess
from adafocus.service.engine.transport import RunnerInfo
from adafocus.service.engine.wire import BUFFER_BYTES, Hello, Ready
from adafocus.service.frame_memory import FrameSegment, number_segments_from

RETRY_SECONDS = 0.1

logger = logging.getLogger("adafocus.engine")


class _Elsewhere:
    """Stands for the process of a core that somebody else started, and ends."""

    pid = 0

    async def wait(self) -> int:
        """Return at once."""
        return 0

    def kill(self) -> None:
        """Do nothing."""


class RemoteCore:
    """A core that other fronts use as well. Implements `service.engine.transport.Transport`.

    While there is none it is not alive; videos that were in flight may be tried again when it is back.

    Args:
        path: of the hub's socket.
        front: this front's number.
        slots: of this front.
    """

    def __init__(self, path: Path, front: int, slots: int) -> None:
        self.slots = slots
        self.first_slot = front * slots
        self._path = path
        self._front = front
        self._link: CoreProcess | None = None
        self._known: Ready | None = None
        self._report: Callable[[Report], None] = lambda _: None
        self._coming_back: asyncio.Task[None] | None = None
        self._closed = False
        number_segments_from(front * SEGMENTS_EACH + 1)

    @property
    def runner(self) -> RunnerInfo:
        """See `Transport`."""
        return self._served.runner

    @property
    def manifest(self) -> Manifest:
        """Of the bundle that the core has loaded."""
        return self._served.manifest

    @property
    def pid(self) -> int:
        """See `Transport`."""
        return self._served.pid

    @property
    def alive(self) -> bool:
        """See `Transport`."""
        return self._link is not None and self._link.alive

    @property
    def returns(self) -> bool:
        """See `Transport`."""
        return not self._closed

    async def back(self) -> None:
        """See `Transport`."""
        if self._coming_back is not None:
            await asyncio.shield(self._coming_back)

    @property
    def _served(self) -> Ready:
        if self._known is None:
            raise ValueError("the core has not been reached yet; wait for connect() first")
        return self._known

    async def connect(self) -> None:
        """Reach the core; waits until it is warm, however often it has to be started."""
        while True:
            connection = socket.socket(socket.AF_UNIX)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            connection.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(connection, str(self._path))
            except OSError:
                connection.close()
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except BaseException:
                connection.close()
                raise
            link = CoreProcess(_Elsewhere(), connection, self.slots)
            try:
                await link.join(Hello(self._front))
            except Exception:  # noqa: BLE001 - it ended while it was loading; the next one will say the same or not
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except BaseException:
                await link.close()
                raise
            await link.start(self._hear)
            self._link, self._known = link, link.loaded
            return

    async def start(self, report: Callable[[Report], None]) -> None:
        """See `Transport`; the core is warm already."""
        self._report = report

    def post(self, commands: Commands, *, wake: bool = True) -> None:
        """See `Transport`."""
        if self._link is not None:
            self._link.post(commands, wake=wake)

    def wake(self) -> None:
        """See `Transport`."""
        if self._link is not None:
            self._link.wake()

    def attach(self, segment: FrameSegment) -> None:
        """See `Transport`."""
        if self._link is not None:
            self._link.attach(segment)

    def detach(self, segment: FrameSegment) -> None:
        """See `Transport`."""
        if self._link is not None:
            self._link.detach(segment)

    async def close(self) -> None:
        """See `Transport`."""
        self._closed = True
        if self._coming_back is not None:
            self._coming_back.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._coming_back
        if self._link is not None:
            await self._link.close()

    def _hear(self, told: Report) -> None:
        self._report(told)
        if not self.alive and not self._closed and self._coming_back is None:
            logger.error("the connection to the engine is lost")
            self._link = None
            self._coming_back = asyncio.create_task(self._come_back())

    async def _come_back(self) -> None:
        await self.connect()
        self._coming_back = None
        logger.info("connected to the engine again")
