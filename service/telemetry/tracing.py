"""The interface for distributed traces, one for each classification.

OpenTelemetry is an extra: `service.telemetry.otel` is loaded by name, and only if traces are configured.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Protocol

from adafocus.service.settings import Settings
from adafocus.service.telemetry.timeline import Timeline
from adafocus.service.telemetry.trace_context import TraceParent

Attributes = Mapping[str, str | int | float | bool]


class TracingError(RuntimeError):
    """Traces are configured but cannot be sent; the text says what to do."""


class RequestSpan(Protocol):
    """The trace of one request while it runs."""

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits; None if the request is not traced."""

    def end(self, timeline: Timeline, attributes: Attributes, *, failed: bool) -> None:
        """End the span, with the stages as child spans; ``failed`` if the service is at fault."""


class Tracer(Protocol):
    """Makes a span for each request."""

    def begin(self, name: str, parent: TraceParent | None) -> RequestSpan:
        """Start the span of a request, within its caller's trace if there is one."""

    def close(self) -> None:
        """Send what is left and stop. Blocks for a short time."""


class Untraced:
    """A tracer, and a span, that does nothing."""

    trace_id: str | None = None

    def begin(self, name: str, parent: TraceParent | None) -> RequestSpan:
        """Return a span that does nothing."""
        return self

    def end(self, timeline: Timeline, attributes: Attributes, *, failed: bool) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def make_tracer(settings: Settings) -> Tracer:
    """Make the tracer that the settings configure.

    Raises:
        TracingError: the extra that it needs is not installed.
    """
    if settings.otlp_endpoint is None:
        return Untraced()
    try:
        module = importlib.import_module("adafocus.service.telemetry.otel")
    except ModuleNotFoundError as error:
        raise TracingError(
            f"traces need the package {error.name!r}, which is not installed; install the extra `otel`, or unset "
            "otlp_endpoint"
        ) from error
    tracer: Tracer = module.sending_to(settings.otlp_endpoint)
    return tracer
