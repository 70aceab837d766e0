"""Fetches from a source what the decoder asks for, into a spool."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field

from adafocus.service.decode.sparse_spool import SparseSpool
from adafocus.service.decode.spool import Spool
from adafocus.service.decode.upload import not_stored
from adafocus.service.errors import EmptyBody, Internal, Problem, TooLarge
from adafocus.service.sources.base import ByteSource

FIRST_READ_BYTES = 1 << 16
"""Fetched at a place where nothing has been read before."""

LONGEST_READ_BYTES = 1 << 20
"""Each read that continues the one before fetches twice as much, up to this."""

WORTH_FINISHING_BYTES = 1 << 17
"""A read of which no more than this is left is finished though other bytes are wanted: a new connection costs more."""


@dataclass(slots=True)
class Fetch:
    """The reading of one source into one spool.

    Attributes:
        source: open.
        spool: sparse if the source has ranges.
        max_bytes: most bytes that are fetched.
        fetched_bytes: fetched so far.
    """

    source: ByteSource
    spool: Spool
    max_bytes: int
    fetched_bytes: int = 0
    _wanted: tuple[int, int] | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Fetch until everything is there, or until this is cancelled. If it fails, the spool fails likewise.

        Raises:
            Problem: the source cannot be read.
        """
        try:
            if isinstance(self.spool, SparseSpool):
                await self._serve(self.spool)
            else:
                await self._read_all()
        except Problem as problem:
            self.spool.fail(problem)
            raise
        except OSError as error:
            stored = not_stored(error)
            self.spool.fail(stored)
            raise stored from error
        except BaseException:
            self.spool.fail(Internal())
            raise

    async def _read_all(self) -> None:
        async with aclosing(self.source.read(0, None)) as chunks:
            async for chunk in chunks:
                self._count(chunk)
                self.spool.write(chunk)
        if not self.spool.size:
            raise EmptyBody("the file at the URL is empty")
        self.spool.finish()

    async def _serve(self, spool: SparseSpool) -> None:
        spool.on_wanted = self._want
        size, length, place = spool.expected_bytes or 0, FIRST_READ_BYTES, 0
        self._want(0, min(size, FIRST_READ_BYTES))  # every decoder begins there
        while True:
            while self._wanted is None:
                self._changed.clear()
                await self._changed.wait()
            (start, stop), self._wanted = self._wanted, None
            if spool.covers(start, stop):
                continue
            start = spool.present.end_of(start)
            length = min(2 * length, LONGEST_READ_BYTES) if start == place else FIRST_READ_BYTES
            end = min(max(stop, start + length), size, spool.present.next_start(start) or size)
            place = await self._read(spool, start, end)

    async def _read(self, spool: SparseSpool, start: int, end: int) -> int:
        """Fetch a range; stops early if other bytes are wanted meanwhile. Returns where it stopped."""
        position = start
        async with aclosing(self.source.read(start, end)) as chunks:
            async for chunk in chunks:
                self._count(chunk)
                spool.write_at(position, chunk)
                position += len(chunk)
                if self._is_left(position, end) and end - position > WORTH_FINISHING_BYTES:
                    break
        return position

    def _is_left(self, position: int, end: int) -> bool:
        """Whether bytes are wanted that this read will not bring."""
        return self._wanted is not None and not position <= self._wanted[0] < end

    def _want(self, start: int, stop: int) -> None:
        self._wanted = (start, stop)
        self._changed.set()

    def _count(self, chunk: bytes) -> None:
        self.fetched_bytes += len(chunk)
        if self.fetched_bytes > self.max_bytes:
            raise TooLarge(f"more than {self.max_bytes} bytes would have to be fetched, the most permitted")


def spool_for(source: ByteSource) -> Spool:
    """A spool that suits a source; the caller closes it.

    Raises:
        EmptyBody: the file is empty.
        Problem: there is no space for it.
    """
    if source.size == 0:
        raise EmptyBody("the file at the URL is empty")
    try:
        if source.ranged and source.size is not None:
            return SparseSpool(source.size)
        return Spool(expected_bytes=source.size)
    except OSError as error:
        raise not_stored(error) from error
