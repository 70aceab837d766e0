"""HTTP protocols: uvicorn's, with limits on the time and the bytes that a connection may take before a request.

uvicorn waits forever for a request's head. A client that connects and says nothing, or sends its head a byte at a time,
would keep a descriptor for as long as it likes; here it has a time limit. uvicorn's keep-alive timeout guards only the
silence after a response.

httptools parses in C what h11 parses in Python, and takes half a millisecond less per request. It has no limits and
accepts some requests that h11 refuses, so the protocol built on it adds these checks. Where it is not installed, h11
serves.
"""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from adafocus.cli.connections import ConnectionLimit, LimitedProtocol

MAX_HEAD_BYTES = 64 << 10
"""Bytes of a request's head, of its trailer, or of a chunk's extensions, at most; the limit that h11 has."""


class HeadTimer:
    """Closes a connection that does not send a whole head in time.

    Args:
        seconds: that a head may take.
        transport: to be closed.
        loop: that the connection lives in.
    """

    def __init__(self, seconds: float, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._seconds = seconds
        self._transport = transport
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        """True while the head of a request is awaited."""
        return self._handle is not None

    def start(self) -> None:
        """Start the timer for the next head."""
        self.stop()
        self._handle = self._loop.call_later(self._seconds, self._transport.close)

    def stop(self) -> None:
        """Stop the timer: the head has arrived, or the connection has ended."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class _UnambiguousConnection(h11.Connection):
    """Refuses a request with both Content-Length and Transfer-Encoding, as RFC 9112, section 6.1, permits."""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """See h11."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            event = _in_origin_form(event)
            names = {name for name, _ in event.headers}
            if {b"content-length", b"transfer-encoding"} <= names:
                raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
        return event


def _in_origin_form(request: h11.Request) -> h11.Request:
    """The request with the path alone as its target, as uvicorn expects it (RFC 9112, section 3.2.2)."""
    scheme, separator, rest = request.target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return request
    _, slash, path = rest.partition(b"/")
    return h11.Request(
        method=request.method, headers=request.headers, target=slash + path or b"/", http_version=request.http_version
    )


class H11HeaderTimeoutProtocol(H11Protocol):
    """uvicorn's protocol on h11, with a time limit for a request's head."""

    head_seconds = 20.0

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = _UnambiguousConnection(h11.SERVER, MAX_HEAD_BYTES)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Start to wait for the first head."""
        super().connection_made(transport)
        self._timer = HeadTimer(self.head_seconds, transport, self.loop)
        self._timer.start()

    def data_received(self, data: bytes) -> None:
        """Receive bytes of a head or of a body; time limits of bodies are the application's."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._timer.stop()
        elif not self._timer.running:
            self._timer.start()

    def on_response_complete(self) -> None:
        """Wait for the next head, unless it has arrived already."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._timer.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._timer.stop()
        super().connection_lost(exc)


def http_protocol(head_seconds: float, limit: ConnectionLimit | None = None) -> type[asyncio.Protocol]:
    """The fastest protocol that is installed, for uvicorn's ``http``.

    Args:
        head_seconds: that a request's head may take.
        limit: on the connections of the server.
    """
    fields = {"head_seconds": head_seconds, "limit": limit}
    if find_spec("httptools") is None:
        return type("HeaderTimeoutProtocol", (LimitedProtocol, H11HeaderTimeoutProtocol), fields)
    from adafocus.cli.httptools_protocol import HttptoolsHeaderTimeoutProtocol

    return type("HeaderTimeoutProtocol", (LimitedProtocol, HttptoolsHeaderTimeoutProtocol), fields)
