"""uvicorn's protocol on httptools, as careful as the one on h11. Import it only where httptools is installed."""

from __future__ import annotations

import asyncio

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from adafocus.cli.http_protocol import MAX_HEAD_BYTES, HeadTimer


class _RefusedError(Exception):
    """The request is refused; raised in a parser's callback, it becomes a 400."""


class HttptoolsHeaderTimeoutProtocol(HttpToolsProtocol):
    """Bounds the time and the bytes of a request's head, and refuses what is ambiguous about who a request is for.

    The parser itself refuses a request with both Content-Length and Transfer-Encoding (RFC 9112, section 6.1). It keeps
    an unfinished header of any length, passes trailers on as if they were headers, and does not ask for a Host.
    """

    head_seconds = 20.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Expect the first head."""
        super().connection_made(transport)
        self._running: RequestResponseCycle | None = None
        self._in_body = False
        self._left_of_body = 0  # of one that is not the parser's to read
        self._head_bytes = 0
        self._unfinished_bytes = 0  # that came since the parser last had something to tell
        self._timer = HeadTimer(self.head_seconds, transport, self.loop)
        self._timer.start()

    def data_received(self, data: bytes) -> None:
        """Take in more of a head, or of a body, whose silence is not judged here."""
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
        """Parse it; an offer to upgrade the connection is not taken up, and what follows is the next request."""
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
        """A head begins."""
        super().on_message_begin()
        self._in_body = False
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """More of the target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; one that comes after the body is counted and not passed on."""
        self._count(len(name) + len(value))
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise _RefusedError(f"{hosts} Host headers")
        self._in_body = True
        self._head_bytes = self._unfinished_bytes = 0
        if self.parser.should_upgrade():  # httptools would take the body for what comes after the upgrade
            fields = dict(self.headers)
            if b"transfer-encoding" in fields:
                raise _RefusedError("a chunked body with an offer to upgrade")
            self._left_of_body = int(fields.get(b"content-length", b"0"))
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """More of the body."""
        self._unfinished_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._unfinished_bytes = 0
        if not self._left_of_body:
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Expect the next head, unless it has come already."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._timer.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting, and tell the request that is being answered, even if others are queued behind it."""
        self._timer.stop()
        super().connection_lost(exc)
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()

    def _count(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > MAX_HEAD_BYTES:
            raise _RefusedError(f"a head of more than {MAX_HEAD_BYTES} bytes")
