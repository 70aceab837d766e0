"""The body of one request, read once from its beginning to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Self

from starlette.types import Receive

from adafocus.service.errors import BadParameter, TooLarge
from adafocus.service.http.head import Head
from adafocus.service.http.slow_clients import UploadLimits, UploadTimer

DISCARDED_AT_ONCE, DISCARD_PAUSE_SECONDS = 1 << 19, 0.02
"""Bytes of a refused upload that are thrown away before others get their turn, and for how long they have it: a fast
network brings more than can be read beside answering."""

ON_DISCONNECT = "adafocus.on_disconnect"
"""An extension of an ASGI scope: a function that is given what to call if the client disconnects, or None to forget it.

Where the server has it, nobody needs to wait for the message that says so.
"""

BODY_HAS_ARRIVED = "adafocus.body_has_arrived"
"""An extension of an ASGI scope: a function that tells whether the server has the whole body, so that reading it waits
for nobody."""


class ClientDisconnected(Exception):  # noqa: N818 - not an error, an event
    """The client closed the connection before it had its answer."""


class BodyReader:
    """Reads the body of a request. Only one task may read at a time.

    Args:
        receive: the ASGI server's.
        head: of the request.
        limits: the slowest upload that is accepted.
        on_complete: called once, when the client has sent the whole body.
        has_arrived: tells whether the server has the whole body.
    """

    def __init__(
        self,
        receive: Receive,
        head: Head,
        limits: UploadLimits,
        on_complete: Callable[[], None] | None = None,
        has_arrived: Callable[[], bool] = lambda: False,
    ) -> None:
        length = head.get(b"content-length")
        self.declared_bytes = int(length[:18]) if length.isascii() and length.isdecimal() else None
        """The value of Content-Length; None if there is none."""
        self.received_bytes = 0
        self.waits_for_continue = head.get(b"expect").lower() == "100-continue"
        """Whether the client sends nothing until the server starts to read."""
        self.complete = not self.declared_bytes and b"transfer-encoding" not in head
        """Whether the client has sent the whole body."""
        self.on_complete = on_complete
        self.has_arrived = has_arrived
        self._receive = receive
        self._limits = limits
        self._timer = UploadTimer(limits)
        self._buffer = b""

    def chunks(self) -> AsyncIterator[bytes]:
        """The rest of the body as it arrives, in chunks that are not empty. Reading slowly slows the client down.

        Raises:
            ClientDisconnected: the client closed the connection.
            UploadTimeout: the client sends too slowly.
        """
        return self

    def __aiter__(self) -> Self:
        """See `chunks`. It iterates itself: the event loop keeps a list of asynchronous generators."""
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._next_chunk()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def readexactly(self, count: int) -> bytes:
        """Exactly ``count`` bytes.

        Raises:
            BadParameter: the body ends before.
            ClientDisconnected: the client closed the connection.
            UploadTimeout: the client sends too slowly.
        """
        parts = []
        missing = count
        while missing > 0:
            chunk = await self._next_chunk()
            if not chunk:
                raise BadParameter(_ends_early(missing))
            parts.append(chunk[:missing])
            self._buffer = chunk[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)

    async def read(self, max_bytes: int, too_large: str) -> bytes:
        """The whole rest of the body.

        Raises:
            TooLarge: there are more than ``max_bytes``; ``too_large`` is the error's text.
            ClientDisconnected: the client closed the connection.
            UploadTimeout: the client sends too slowly.
        """
        parts, size = [], 0
        while chunk := await self._next_chunk():
            size += len(chunk)
            if size > max_bytes:
                raise TooLarge(too_large)
            parts.append(chunk)
        return b"".join(parts)

    async def last_chunks(self, count: int) -> AsyncIterator[bytes]:
        """The last ``count`` bytes of the body as they arrive.

        Raises:
            BadParameter: the body ends before, or holds more.
            ClientDisconnected: the client closed the connection.
            UploadTimeout: the client sends too slowly.
        """
        missing = count
        while chunk := await self._next_chunk():
            if len(chunk) > missing:
                raise BadParameter(f"the body holds more than the {count} bytes that the request declares")
            missing -= len(chunk)
            yield chunk
        if missing:
            raise BadParameter(_ends_early(missing))

    async def discard(self, max_bytes: int) -> None:
        """Read up to ``max_bytes`` more, or until the client disconnects, and throw them away."""
        until = self.received_bytes + max_bytes
        paused_at = self.received_bytes
        with suppress(ClientDisconnected):
            while not self.complete and self.received_bytes < until:
                await self._receive_chunk()
                if self.received_bytes - paused_at > DISCARDED_AT_ONCE:
                    paused_at = self.received_bytes
                    await asyncio.sleep(DISCARD_PAUSE_SECONDS)

    async def wait_for_disconnect(self) -> None:
        """Wait until the client closes the connection. Only for a body that is complete."""
        with suppress(ClientDisconnected):
            while True:
                await self._receive_chunk()

    def close(self) -> None:
        """Stop the timer of the upload. May be called again; `discard` still works."""
        self._timer.stop()

    async def _next_chunk(self) -> bytes:
        """The next bytes; empty at the end of the body."""
        chunk, self._buffer = self._buffer, b""
        while not chunk and not self.complete:
            chunk = await self._receive_chunk(None if self.has_arrived() else self._timer)
            if not self.complete:
                self._limits.check_rate(self.received_bytes, self._timer.waited_seconds)
        return chunk

    async def _receive_chunk(self, timer: UploadTimer | None = None) -> bytes:
        self.waits_for_continue = False
        message = await (self._receive() if timer is None else timer.next_message(self._receive))
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        chunk: bytes = message.get("body", b"")
        self.received_bytes += len(chunk)
        if not message.get("more_body", False) and not self.complete:
            self.complete = True
            self._timer.stop()
            if self.on_complete is not None:
                self.on_complete()
        return chunk


def _ends_early(missing: int) -> str:
    return f"the body ends {missing} bytes before the length that the request declares"
