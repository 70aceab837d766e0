"""One request's body at the level of ASGI messages: one reader, bounded patience, and an answer that always arrives.

A client may be told no while it still sends. Three manners, because clients differ: curl shows an early answer at
once only if it says ``Connection: close``; httpx reads none before it has sent everything, and loses it if the
connection is closed on it; and whoever waits for ``100 Continue`` sends nothing at all unless we read. So a refusal is
decided before the first read, the whole answer is sent at once, and what the client still sends is then thrown away,
up to a bound, before the connection ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.errors import UploadTimeout

Result = TypeVar("Result")

KEEP_ALIVE_BYTES = 1 << 20
"""An unread rest up to this is read out, so that the connection can be used again; a longer one closes it."""

LINGER_SECONDS = 10.0
"""How long the rest of an answered upload is read out."""


class ClientLeft(Exception):  # noqa: N818 - not an error, an event
    """The client closed the connection before it had its answer."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The slowest upload that is waited for: who sends a byte now and then is never silent, and holds a place.

    Attributes:
        bytes_per_second: at least, over all the time that was spent waiting for the client; 0: any.
        grace_seconds: of waiting, before it is asked for.
    """

    bytes_per_second: float
    grace_seconds: float

    def check(self, received: int, waited: float) -> None:
        """Raise `UploadTimeout` if the upload is slower."""
        if waited > self.grace_seconds and received < self.bytes_per_second * waited:
            raise UploadTimeout(f"the upload came at less than {self.bytes_per_second:g} bytes a second")


class Upload:
    """The body of one request. ``receive`` has one reader at a time: `chunks`, then whoever waits for the end.

    Args:
        receive: of the ASGI server.
        headers: of the request.
        linger_bytes: how much of the body is read and thrown away after an early answer.
        pace: at least.
    """

    def __init__(self, receive: Receive, headers: Headers, *, linger_bytes: int, pace: Pace) -> None:
        length = headers.get("content-length", "")
        self.declared = int(length[:18]) if length.isascii() and length.isdecimal() else None
        """Bytes that the client announced; None if it did not."""
        self.received = 0
        self._receive = receive
        self._linger_bytes = linger_bytes
        self._pace = pace
        self._held_back = headers.get("expect", "").lower() == "100-continue"
        self._complete = asyncio.Event()
        if not self.declared and "transfer-encoding" not in headers:
            self._complete.set()

    @property
    def complete(self) -> bool:
        """Whether the client has nothing more to send."""
        return self._complete.is_set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes in; pulling slowly slows the client down.

        Raises:
            ClientLeft: the client closed the connection.
            UploadTimeout: it sends too slowly.
        """
        waited = 0.0
        while not self.complete:
            begun = time.monotonic()
            chunk = await self._next()
            waited += time.monotonic() - begun
            if not self.complete:
                self._pace.check(self.received, waited)
            if chunk:
                yield chunk

    async def unless_client_leaves(self, work: Coroutine[None, None, Result]) -> Result:
        """Do the work, which may read `chunks`, and cancel it if the client goes away meanwhile.

        Raises:
            ClientLeft: it went; the work is cancelled and has cleaned up.
        """
        task, left = asyncio.current_task(), False

        def cancel(watch: asyncio.Task[None]) -> None:
            nonlocal left
            if task is not None and not watch.cancelled():
                left = task.cancel()

        watch = asyncio.create_task(self._client_left())
        watch.add_done_callback(cancel)
        try:
            return await work
        except asyncio.CancelledError:
            if left and task is not None and task.uncancel() == 0:  # nobody else wants it to end
                raise ClientLeft from None
            raise
        finally:
            watch.remove_done_callback(cancel)
            watch.cancel()

    async def send_early(self, response: Response, scope: Scope, send: Send) -> None:
        """Send a response while the client may still be sending, so that it arrives in any client."""
        unread = None if self.declared is None else self.declared - self.received
        if self._held_back or unread is None or unread > KEEP_ALIVE_BYTES:
            response.headers["connection"] = "close"
        if self._held_back:  # nothing is on its way, and reading would invite it
            await response(scope, self._receive, send)
            return

        async def send_all_but_the_end(message: Message) -> None:
            ends = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send({**message, "more_body": True} if ends else message)

        await response(scope, self._receive, send_all_but_the_end)
        await self.linger()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def linger(self) -> None:
        """Throw away what the client still sends, up to a bound, so that it sees the answer it already has."""
        with suppress(TimeoutError, ClientLeft):
            async with asyncio.timeout(LINGER_SECONDS):
                await self._throw_away(self._linger_bytes)

    async def _client_left(self) -> None:
        await self._complete.wait()
        with suppress(ClientLeft):
            while True:
                await self._next()

    async def _throw_away(self, most: int) -> None:
        until = self.received + most
        while not self.complete and self.received < until:
            await self._next()

    async def _next(self) -> bytes:
        self._held_back = False
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        chunk: bytes = message.get("body", b"")
        self.received += len(chunk)
        if not message.get("more_body", False):
            self._complete.set()
        return chunk


class Answer(Response):
    """A response to a request with a body: as it is if the body was read, else by `Upload.send_early`."""

    def __init__(self, response: Response, upload: Upload) -> None:
        super().__init__(status_code=response.status_code)
        self._response = response
        self._upload = upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        if self._upload.complete:
            await self._response(scope, receive, send)
        else:
            await self._upload.send_early(self._response, scope, send)
