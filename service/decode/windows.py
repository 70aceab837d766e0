"""The windows of a long video, one job after the other, by a worker that keeps the video open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from adafocus.service.decode.job import DecodeJob, WindowJob
from adafocus.service.decode.process import WorkerProcess
from adafocus.service.decode.session import DecodeSession
from adafocus.service.decode.spool import Spool

if TYPE_CHECKING:
    from adafocus.service.decode.pool import DecodePool


@dataclass(slots=True, eq=False)
class Reservation:
    """A worker that one long video has to itself, between its windows too.

    Attributes:
        worker: the worker; None before the first window, and after it was lost.
        idle: set while the worker has no job, or is None.
    """

    worker: WorkerProcess | None = None
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def lost(self) -> None:
        """Record that the worker has ended: the next window needs another one."""
        self.worker = None
        self.idle.set()


class WindowDecoder:
    """Decodes the windows of one video in ascending order. Created by `DecodePool.windows`.

    A worker that is lost is replaced for the next window, which then opens the video again.

    Args:
        pool: has the workers.
        reservation: in the pool.
        spool: of the video.
        job: the frames that are wanted of each window.
        window_s: length of a window, seconds.
        stride_s: from the start of one window to that of the next, seconds.
        caller: whose video it is.
    """

    def __init__(
        self,
        pool: DecodePool,
        reservation: Reservation,
        spool: Spool,
        job: DecodeJob,
        window_s: float,
        stride_s: float,
        caller: str = "",
    ) -> None:
        self._pool = pool
        self._reservation = reservation
        self._spool = spool
        self._job = job
        self._window_s = window_s
        self._stride_s = stride_s
        self._caller = caller

    @asynccontextmanager
    async def open(
        self, number: int, max_cpu_seconds: float | None = None, *, background: bool = False
    ) -> AsyncIterator[DecodeSession]:
        """Decode one window, as `DecodePool.open` decodes a video; the session has a ``window``.

        Args:
            number: of the window, from 0, less than the ``count`` of the first window.
            max_cpu_seconds: as `DecodeJob` has it, of this window.
            background: as `DecodePool.open` has it, of this window.

        Raises:
            Problem: as `DecodePool.open`.
        """
        window = WindowJob(self._window_s, self._stride_s, number)
        job = replace(self._job, window=window, max_cpu_seconds=max_cpu_seconds)
        opened = self._pool.open(self._spool, job, self._reservation, self._caller, background=background)
        async with opened as session:
            yield session
