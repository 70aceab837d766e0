"""A core process that is started again when it has died."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from adafocus.service.engine.messages import Commands, Report
from adafocus.service.engine.process import CoreProcess
from adafocus.service.engine.runners.base import RunnerError
from adafocus.service.engine.transport import RunnerInfo
from adafocus.service.frame_memory import FrameSegment

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 30.0
"""Before a start that follows on one that failed."""

logger = logging.getLogger("adafocus.engine")


class SupervisedCore:
    """A core process and its successors. Implements `service.engine.transport.Transport`.

    Args:
        first: warm.
        start_another: starts a core that loads the same model and waits until it is warm; raises `RunnerError`.
    """

    def __init__(self, first: CoreProcess, start_another: Callable[[], Awaitable[CoreProcess]]) -> None:
        self.slots = first.slots
        self.first_slot = first.first_slot
        self._core = first
        self._start_another = start_another
        self._report: Callable[[Report], None] = lambda _: None
        self._restart: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def runner(self) -> RunnerInfo:
        """See `Transport`."""
        return self._core.runner

    @property
    def pid(self) -> int:
        """Of the process that serves, or that has died last."""
        return self._core.pid

    @property
    def alive(self) -> bool:
        """See `Transport`."""
        return self._core.alive and not self._closed

    @property
    def returns(self) -> bool:
        """See `Transport`."""
        return not self._closed

    async def start(self, report: Callable[[Report], None]) -> None:
        """See `Transport`; the core is warm already."""
        self._report = report
        await self._core.start(self._hear)

    async def back(self) -> None:
        """See `Transport`."""
        if self._restart is not None:
            await asyncio.shield(self._restart)

    def post(self, commands: Commands, *, wake: bool = True) -> None:
        """See `Transport`."""
        self._core.post(commands, wake=wake)

    def wake(self) -> None:
        """See `Transport`."""
        self._core.wake()

    def attach(self, segment: FrameSegment) -> None:
        """See `Transport`."""
        self._core.attach(segment)

    def detach(self, segment: FrameSegment) -> None:
        """See `Transport`."""
        self._core.detach(segment)

    async def close(self) -> None:
        """See `Transport`."""
        self._closed = True
        if self._restart is not None:
            self._restart.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._restart
        await self._core.close()

    def _hear(self, report: Report) -> None:
        if not self._core.alive and not self._closed and self._restart is None:
            logger.error("the engine's process has ended; it is started again", extra={"fields": {"pid": self.pid}})
            self._restart = asyncio.create_task(self._replace())
        self._report(report)

    async def _replace(self) -> None:
        await self._core.discard()
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                core = await self._start_another()
            except (RunnerError, OSError) as error:
                logger.error("the engine could not be started again: %s", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                break
        await core.start(self._hear)
        self._core, self._restart = core, None
        logger.info("the engine serves again", extra={"fields": {"pid": core.pid}})
