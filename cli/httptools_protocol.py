"""uvicorn's protocol on httptools, with the limits and checks of the one on h11. Imported only if it is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from adafocus.cli.http_protocol import MAX_HEAD_BYTES, HeadTimer
from adafocus.service.http.body import BODY_HAS_ARRIVED, ON_DISCONNECT

_CONTINUE = b"HTTP/1.1 100 "


class _RefusedError(Exception):
    """The request is refused; raised in a parser's callback, it becomes a 400."""


class _WholeResponses:
    """A transport for one response that sends the head with the first bytes of the body: the client wakes up once.

    A head whose body does not follow at once is sent alone.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head: bytes | None = None
        self._begun = False
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Send, or keep a head for a moment."""
        if self._head is not None:
            data, self._head = self._head + data, None
        elif not self._begun and not data.startswith(_CONTINUE):
            self._begun = True
            self._head = data
            self._loop.call_soon(self._send_alone)
            return
        self._transport.write(data)

    def close(self) -> None:
        """Send what is kept, and close the connection."""
        self._send_alone()
        self._transport.close()

    def _send_alone(self) -> None:
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.write(head)


class HttptoolsHeaderTimeoutProtocol(HttpToolsProtocol):
    """Limits the time and the bytes of a request's head, and refuses requests whose Host is missing or ambiguous.

    The parser itself refuses a request with both Content-Length and Transfer-Encoding (RFC 9112, section 6.1). It keeps
    an unfinished header of any length, passes trailers on as if they were headers, and does not ask for a Host.
    """

    head_seconds = 20.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Start to wait for the first head."""
        super().connection_made(transport)
        self._running: RequestResponseCycle | None = None
        self._lost = False
        self._on_disconnect: Callable[[], object] | None = None
        self._in_body = False
        self._left_of_body = 0  # bytes of a body that the parser does not read
        self._head_bytes = 0
        self._unfinished_bytes = 0  # received since the parser's last callback
        self._timer = HeadTimer(self.head_seconds, transport, self.loop)
        self._timer.start()

    def data_received(self, data: bytes) -> None:
        """Receive bytes of a head or of a body; time limits of bodies are the application's."""
        self._unset_keepalive_if_required()
        self._unfinished_bytes += len(data)
        try:
            self._feed(data)
            if self._unfinished_bytes > MAX_HEAD_BYTES:
                raise httptools.HttpParserError
        except httptools.HttpParserError:
            self._timer.stop()
            self.send_400_response("Invalid HTTP request received.")
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._timer.stop()
        elif not self._timer.running:
            self._timer.start()

    def _feed(self, data: bytes) -> None:
        """Parse received bytes. An offer to upgrade the connection is ignored; the next request follows it."""
        while data:
            if self._left_of_body:
                piece, data = data[: self._left_of_body], data[self._left_of_body :]
                self._left_of_body -= len(piece)
                self.on_body(piece)
                if not self._left_of_body:
                    self.on_message_complete()
                continue
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = data[max(1, upgrade.args[0]) :]

    def on_message_begin(self) -> None:
        """Handle the start of a head."""
        super().on_message_begin()
        self._in_body = False
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Handle a part of the target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Handle a header; one that follows the body is counted and dropped."""
        self._count(len(name) + len(value))
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Handle the end of a head."""
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise _RefusedError(f"{hosts} Host headers")
        self._in_body = True
        self._head_bytes = self._unfinished_bytes = 0
        if self.parser.should_upgrade():  # httptools would treat the body as bytes after the upgrade
            fields = dict(self.headers)
            if b"transfer-encoding" in fields:
                raise _RefusedError("a chunked body with an offer to upgrade")
            self._left_of_body = int(fields.get(b"content-length", b"0"))
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Handle a part of the body."""
        self._unfinished_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Handle the end of a request."""
        self._unfinished_bytes = 0
        if not self._left_of_body:
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        self._on_disconnect = None
        extensions = {ON_DISCONNECT: self._call_on_disconnect, BODY_HAS_ARRIVED: lambda: not cycle.more_body}
        cycle.scope["extensions"] = cast("dict[str, dict[object, object]]", extensions)
        cycle.transport = cast("asyncio.Transport", _WholeResponses(self.transport, self.loop))
        super()._start_asgi_task(cycle, app)

    def _call_on_disconnect(self, callback: Callable[[], object] | None) -> None:
        """Call this once if the client disconnects before the next request; None: call nothing any more."""
        self._on_disconnect = callback
        if self._lost and callback is not None:
            self.loop.call_soon(callback)

    def on_response_complete(self) -> None:
        """Wait for the next head, unless it has arrived already."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._timer.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting, and tell the request that is being answered, even if others are queued behind it."""
        self._timer.stop()
        self._lost = True
        callback, self._on_disconnect = self._on_disconnect, None
        if callback is not None:
            callback()
        super().connection_lost(exc)
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()

    def _count(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > MAX_HEAD_BYTES:
            raise _RefusedError(f"a head of more than {MAX_HEAD_BYTES} bytes")
