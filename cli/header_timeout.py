"""Limits how long a connection may take to send the head of a request."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


class HeaderTimeoutProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which closes a connection that does not send a request's head in time.

    uvicorn itself waits for ever for the first head: its keep-alive timeout only covers the silence after an answer.
    A client that connects and sends nothing, or sends a head byte by byte, would keep a file descriptor for as long as
    it likes.
    """

    head_seconds = 20.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Start to wait for a head when a client connects."""
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Stop waiting when the head is complete; silence during a body is limited elsewhere."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()
        elif self._timer is None:
            self._start_timer()

    def on_response_complete(self) -> None:
        """Wait for the next head when the answer is sent; it may have begun already."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting when the connection ends."""
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(self.head_seconds, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def protocol_with_timeout(head_seconds: float) -> type[HeaderTimeoutProtocol]:
    """Return the protocol with its own timeout, for the option ``http`` of uvicorn."""
    return type("HeaderTimeoutProtocol", (HeaderTimeoutProtocol,), {"head_seconds": head_seconds})
