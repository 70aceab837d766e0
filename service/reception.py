"""Receives a video into a spool while it is decoded: an upload, a source that is read in ranges, or a file."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from adafocus.service.decode.spool import FileSpool, Spool
from adafocus.service.decode.upload import open_spool, receive
from adafocus.service.errors import EmptyBody, Internal
from adafocus.service.settings import Settings
from adafocus.service.sources.base import ByteSource
from adafocus.service.sources.fetcher import Fetch, spool_for
from adafocus.service.telemetry.timeline import Timeline

SOON_SECONDS = 0.005
"""How long the end of an upload is awaited after its first bytes: a decoder that waits for bytes costs more."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request: its bytes as they arrive, and what is declared of them.

    Attributes:
        chunks: its bytes.
        content_type: None if none is declared.
        expected_bytes: size of the whole video, if it is known for certain.
        at_most_bytes: size of the body, if it is known for certain.
        has_arrived: whether all of it is there, so that reading it waits for nobody.
    """

    chunks: AsyncIterator[bytes]
    content_type: str | None = None
    expected_bytes: int | None = None
    at_most_bytes: int | None = None
    has_arrived: bool = False


Video = Body | ByteSource | Path
"""Where a video comes from: an upload, a source elsewhere, or a file of this machine, which is not copied."""


class Reception:
    """Brings a video into a spool: an async context manager that stops at its end.

    Args:
        video: where it comes from.
        settings: for the limits.
        timeline: records how long it took.
        clock: returns seconds.
        on_fetched: called at the end with the bytes that were fetched from a source elsewhere.
    """

    spool: Spool
    """From which the video is decoded."""

    def __init__(
        self, video: Video, settings: Settings, timeline: Timeline, clock: Clock, on_fetched: Callable[[int], None]
    ) -> None:
        self._video, self._settings, self._timeline = video, settings, timeline
        self._clock, self._on_fetched = clock, on_fetched
        self._started = clock()
        self._finished: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._fetch: Fetch | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float:
        """Its duration so far, or in total."""
        return (self._finished if self._finished is not None else self._clock()) - self._started

    @property
    def fetched_bytes(self) -> int | None:
        """Bytes fetched from a source; None for an upload and a file."""
        return None if self._fetch is None else self._fetch.fetched_bytes

    @property
    def size(self) -> int | None:
        """Size of a video that comes from a source, bytes; None for others, and if the source does not tell."""
        if self._fetch is None:
            return None
        return self.spool.size if self.spool.complete else self._fetch.source.size

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self._task is None or self._task.done()

    def on_end(self, told: Callable[[], None]) -> None:
        """Have ``told`` called when it has ended, however it ends; at once if it is over."""
        if self._task is None:
            told()
        else:
            self._task.add_done_callback(lambda _: told())

    async def soon(self) -> None:
        """Wait for its end, but not for long once its first bytes are there."""
        if self._task is None:
            return
        if not self._task.done():
            self._waiter = asyncio.get_running_loop().create_future()
            self._unsubscribe = self.spool.subscribe(self._first_bytes)
            if self.spool.size:
                self._first_bytes()
            await self._waiter
        if self._task.done():
            self._task.result()

    async def ended(self) -> None:
        """Wait for its end; of a source that is read in ranges, for its first bytes, because it never ends."""
        if self.spool.is_sparse:
            await self.soon()
        elif self._task is not None:
            await self._task

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def open(self) -> None:
        """Begin to receive; `close` ends it. If this fails, nothing is left to be closed.

        Raises:
            Problem: the video cannot be had, or does not fit.
        """
        video, most = self._video, self._settings.max_upload_bytes
        if isinstance(video, Path):
            self.spool = await asyncio.to_thread(FileSpool, video)
            self._finished = self._started
            if not self.spool.size:
                self.spool.close()
                raise EmptyBody("the file is empty")
            return
        if isinstance(video, Body):
            self.spool = open_spool(video.expected_bytes, video.at_most_bytes)
            work = receive(video.chunks, content_type=video.content_type, max_bytes=most, spool=self.spool)
            if video.has_arrived:  # a task that brings it would cost more than copying it
                try:
                    await work
                except BaseException:
                    self.spool.close()
                    raise
                self._finished = self._clock()
                return
        else:
            try:
                await video.open()
                self.spool = spool_for(video)
            except BaseException:
                await video.close()
                raise
            self._fetch = Fetch(video, self.spool, most)
            work = self._fetch.run()
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(self._end)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(error)

    async def close(self, error: BaseException | None = None) -> None:
        """Stop, and give the memory of the video back.

        Args:
            error: why the request fails; None if it does not.

        Raises:
            Problem: the upload failed, and that is why the decoder reports an internal error.
        """
        self._timeline.add("upload", self._started, self._started + self.seconds)
        self._stop_waiting()
        try:
            await self._stop(error)
        finally:
            self.spool.close()
            if self._fetch is not None:
                self._on_fetched(self._fetch.fetched_bytes)
                await self._fetch.source.close()

    async def _stop(self, error: BaseException | None) -> None:
        task = self._task
        if task is None:
            return
        if not task.done() or task.cancelled():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        elif task.exception() is not None and isinstance(error, Internal):
            # The spool only says that the upload ended; the error of the upload says why.
            task.result()

    def _end(self, _: asyncio.Task[None]) -> None:
        self._finished = self._clock()
        self._go_on()

    def _first_bytes(self) -> None:
        self._unsubscribe()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SOON_SECONDS, self._go_on)

    def _go_on(self) -> None:
        self._stop_waiting()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _stop_waiting(self) -> None:
        self._unsubscribe()
        if self._timer is not None:
            self._timer.cancel()


def is_regular_file(path: Path) -> bool:
    """Whether a path leads to a file that can be read at any position, unlike a pipe.

    Raises:
        OSError: there is no such file.
    """
    return stat.S_ISREG(path.stat().st_mode)
