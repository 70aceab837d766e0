"""Distributed traces, one for each classification: what the service says of it, and to whom.

OpenTelemetry is an extra: `service.telemetry.otel` is loaded by name, and only if somebody is to receive traces.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Protocol

from service.settings import Settings
from service.telemetry.timeline import Timeline
from service.telemetry.trace_context import TraceParent

Attributes = Mapping[str, str | int | float | bool]


class TracingError(RuntimeError):
    """Traces were asked for and cannot be sent; the text says what would help."""


class RequestSpan(Protocol):
    """The trace of one request while it runs."""

    @property
    def trace_id(self) -> str | None:
        """Of 32 hexadecimal digits; None if nobody is told."""

    def end(self, timeline: Timeline, attributes: Attributes, *, failed: bool) -> None:
        """Tell of it: its stages as spans of their own, its attributes, whether it failed through a fault of ours."""


class Tracer(Protocol):
    """Who is told."""

    def begin(self, name: str, parent: TraceParent | None) -> RequestSpan:
        """A request begins; within its caller's trace if it has one."""

    def close(self) -> None:
        """Send what is left, and stop. Blocks, but not for long."""


class Untraced:
    """Nobody is told: a tracer and a request's span in one."""

    trace_id: str | None = None

    def begin(self, name: str, parent: TraceParent | None) -> RequestSpan:
        """Nothing begins."""
        return self

    def end(self, timeline: Timeline, attributes: Attributes, *, failed: bool) -> None:
        """Nobody is told."""

    def close(self) -> None:
        """Nothing is left."""


def make_tracer(settings: Settings) -> Tracer:
    """The tracer that the settings ask for.

    Raises:
        TracingError: the extra that it needs is not installed.
    """
    if settings.otlp_endpoint is None:
        return Untraced()
    try:
        module = importlib.import_module("service.telemetry.otel")
    except ModuleNotFoundError as error:
        raise TracingError(
            f"traces need the package {error.name!r}; install the extra `otel`, or unset otlp_endpoint"
        ) from error
    tracer: Tracer = module.sending_to(settings.otlp_endpoint)
    return tracer
