"""A body taken piece by piece: so many bytes now, the rest as it comes in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from service.errors import BadParameter, TooLarge, UploadTimeout

CHUNK_BYTES = 1 << 20

_ENDS_EARLY = "the body ends before the bytes that it announced"


class Pieces:
    """Reads one body once, from its beginning to its end.

    Args:
        chunks: of the body, none of them empty.
        patience_seconds: the longest silence; `rest` leaves this to its reader.
    """

    def __init__(self, chunks: AsyncIterator[bytes], patience_seconds: float) -> None:
        self._chunks = chunks
        self._patience_seconds = patience_seconds
        self._left = b""

    async def take(self, count: int) -> bytes:
        """Exactly so many bytes.

        Raises:
            BadParameter: the body ends before.
            UploadTimeout: it stalled.
        """
        parts = []
        while count > 0:
            chunk = self._left or await self._next()
            if not chunk:
                raise BadParameter(_ENDS_EARLY)
            parts.append(chunk[:count])
            self._left = chunk[count:]
            count -= len(parts[-1])
        return b"".join(parts)

    async def all(self, most: int, too_large: str) -> bytes:
        """What there is.

        Raises:
            TooLarge: more than so much, with that text.
            UploadTimeout: the body stalled.
        """
        parts, size = [], 0
        while chunk := await self._next():
            size += len(chunk)
            if size > most:
                raise TooLarge(too_large)
            parts.append(chunk)
        return b"".join(parts)

    async def rest(self, count: int) -> AsyncIterator[bytes]:
        """So many bytes as they come in, after which the body must end.

        Raises:
            BadParameter: it ends before, or goes on.
        """
        chunk = self._left or await anext(self._chunks, b"")
        while chunk:
            if len(chunk) > count:
                raise BadParameter("there are bytes after those that the request announced")
            count -= len(chunk)
            yield chunk
            chunk = await anext(self._chunks, b"")
        if count:
            raise BadParameter(_ENDS_EARLY)

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(self._patience_seconds):
                return await anext(self._chunks, b"")
        except TimeoutError:
            raise UploadTimeout(f"nothing came for {self._patience_seconds:g} s") from None


async def pieces_of(content: bytes) -> AsyncIterator[bytes]:
    """What is in memory already, as if it came in."""
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]
