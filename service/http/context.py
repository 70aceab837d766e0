"""The facts about one request, from its first byte to its line in the log."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field

from adafocus.service.telemetry.trace_context import TraceParent


@dataclass(slots=True)
class RequestContext:
    """The log fields of one request, and the headers of every response to it.

    Attributes:
        request_id: echoed or made.
        started: ``time.perf_counter()`` when the request's head had arrived.
        trace: the caller's, if it sent one.
        status: of the response; 0 until it starts, and 499 if the client disconnected before.
        fields: further members of the line in the log.
        headers: of the response.
    """

    request_id: str
    started: float
    trace: TraceParent | None = None
    status: int = 0
    fields: dict[str, object] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """``headers`` as an ASGI message has them."""
        return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()]


def context_of(state: MutableMapping[str, object]) -> RequestContext:
    """The context of the request whose scope has this state.

    Raises:
        TypeError: the request did not pass through `service.http.middleware.RequestScope`.
    """
    context = state["context"]
    if not isinstance(context, RequestContext):
        raise TypeError("the request did not pass through RequestScope")
    return context
