"""How long a connection may take to say what it wants."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


class PatientProtocol(H11Protocol):
    """uvicorn's own, which waits for ever for a request's head; this one waits so long, and then hangs up.

    Its keep-alive timeout guards only the silence after an answer. A client that connects and says nothing, or sends
    its head a byte at a time, would otherwise keep a descriptor for as long as it likes.
    """

    head_seconds = 20.0
    _hang_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self._wait_for_a_head()

    def data_received(self, data: bytes) -> None:
        """It says something: the rest of a head, or a body, whose silence is not ours to judge."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._hang_up is None:
            self._wait_for_a_head()

    def on_response_complete(self) -> None:
        """The answer has gone; the next head may have begun already."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._wait_for_a_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has left."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_a_head(self) -> None:
        self._stop_waiting()
        self._hang_up = self.loop.call_later(self.head_seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._hang_up is not None:
            self._hang_up.cancel()
            self._hang_up = None


def patient_for(head_seconds: float) -> type[PatientProtocol]:
    """The protocol, for uvicorn's ``http``, with a patience of its own."""
    return type("PatientProtocol", (PatientProtocol,), {"head_seconds": head_seconds})
