"""Receives a video into a spool while it is decoded: an upload, a source that is read in ranges, or a file."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from service.decode.spool import FileSpool, Spool
from service.decode.upload import open_spool, receive
from service.errors import EmptyBody, Internal
from service.settings import Settings
from service.sources.base import ByteSource
from service.sources.fetcher import Fetch, opened, spool_for


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request: its bytes as they arrive, and their declared type."""

    chunks: AsyncIterator[bytes]
    content_type: str | None = None
    expected_bytes: int | None = None
    """The size of the whole video, if it is known for certain."""


Video = Body | ByteSource | Path
"""Where a video comes from: an upload, a source elsewhere, or a file of this machine, which is not copied."""


@dataclass(slots=True)
class Reception:
    """A video on its way into a spool.

    Attributes:
        spool: from which it is decoded.
        task: brings the bytes; None if they are there.
        some: set when the first bytes are there, or when there will be none.
        clock: returns seconds.
        started: when it began.
        finished: when it ended, if it has.
        fetch: the reading of a source; None for an upload and a file.
    """

    spool: Spool
    task: asyncio.Task[None] | None
    some: asyncio.Event
    clock: Callable[[], float]
    started: float
    finished: float | None = None
    fetch: Fetch | None = None

    @property
    def seconds(self) -> float:
        """Its duration so far, or in total."""
        return (self.finished if self.finished is not None else self.clock()) - self.started

    @property
    def fetched_bytes(self) -> int | None:
        """Bytes fetched from a source; None for an upload and a file."""
        return None if self.fetch is None else self.fetch.fetched_bytes

    @property
    def size(self) -> int | None:
        """Size of a video that comes from a source, bytes; None for others, and if the source does not tell."""
        if self.fetch is None:
            return None
        return self.spool.size if self.spool.complete else self.fetch.source.size

    async def begun(self) -> None:
        """Wait for its first bytes, or for its end."""
        await self.some.wait()
        if self.task is not None and self.task.done():
            self.task.result()

    async def ended(self) -> None:
        """Wait for its end; of a source that is read in ranges, for its first bytes, because it never ends."""
        if self.task is None or self.spool.is_sparse:
            await self.begun()
        else:
            await self.task


@asynccontextmanager
async def receiving(
    video: Video, settings: Settings, clock: Callable[[], float], on_fetched: Callable[[int], None]
) -> AsyncIterator[Reception]:
    """Bring a video into a spool while the block runs, and stop when the block ends.

    Args:
        video: where it comes from.
        settings: for the limits.
        clock: returns seconds.
        on_fetched: called at the end with the bytes that were fetched from a source elsewhere.

    Raises:
        Problem: it cannot be received.
        OSError: the file cannot be read.
    """
    async with AsyncExitStack() as held:
        started = clock()
        if isinstance(video, Path):
            file = held.enter_context(await asyncio.to_thread(FileSpool, video))
            if not file.size:
                raise EmptyBody("the file is empty")
            present = asyncio.Event()
            present.set()
            yield Reception(file, None, present, clock, started, finished=started)
            return
        fetch: Fetch | None = None
        if isinstance(video, Body):
            spool = held.enter_context(open_spool(video.expected_bytes))
            work = receive(
                video.chunks, content_type=video.content_type, max_bytes=settings.max_upload_bytes, spool=spool
            )
        else:
            await held.enter_async_context(opened(video))
            spool = held.enter_context(spool_for(video))
            fetch = reading = Fetch(video, spool, settings.max_upload_bytes)
            held.callback(lambda: on_fetched(reading.fetched_bytes))
            work = reading.run()
        reception = Reception(spool, asyncio.create_task(work), asyncio.Event(), clock, started, fetch=fetch)
        async with _running(reception):
            yield reception


@asynccontextmanager
async def _running(reception: Reception) -> AsyncIterator[None]:
    task = reception.task
    if task is None:
        raise ValueError("there is nothing to run")
    unsubscribe = reception.spool.subscribe(reception.some.set)

    def end(_: asyncio.Task[None]) -> None:
        reception.finished = reception.clock()
        reception.some.set()

    task.add_done_callback(end)
    try:
        yield
    except Internal:
        # The spool only says that the upload ended; the error of the upload says why.
        if task.done() and not task.cancelled():
            task.result()
        raise
    finally:
        unsubscribe()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def is_regular_file(path: Path) -> bool:
    """Whether a path leads to a file that can be read at any position, unlike a pipe.

    Raises:
        OSError: there is no such file.
    """
    return stat.S_ISREG(path.stat().st_mode)
