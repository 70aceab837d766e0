"""What is remembered of one request from its first byte to its line in the log."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field

from service.telemetry.trace_context import TraceParent


@dataclass(slots=True)
class RequestContext:
    """What the log will say of one request; routes add to ``fields``, and to the ``headers`` of any answer to it.

    ``trace`` is the caller's, if it sent one.
    """

    request_id: str
    started: float
    trace: TraceParent | None = None
    fields: dict[str, object] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


def context_of(state: MutableMapping[str, object]) -> RequestContext:
    """The record of the request whose scope's state this is."""
    record = state["record"]
    if not isinstance(record, RequestContext):
        raise TypeError("the request did not come through RequestScope")
    return record
