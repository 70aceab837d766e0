"""The state of the service from start to exit: what it serves with, whether it is ready, and how it drains."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from adafocus.bundle.store import Bundle
from adafocus.service.errors import Draining
from adafocus.service.http.auth import AccessControl
from adafocus.service.runtime import Runtime
from adafocus.service.settings import Settings
from adafocus.service.telemetry.metrics import Metrics
from adafocus.service.telemetry.tracing import Tracer, Untraced

logger = logging.getLogger("adafocus.state")


@dataclass(slots=True)
class ServerState:
    """What the routes share.

    The service is *starting* until ``runtime`` is set, then *ready*. On SIGTERM it is *draining*: it reports that it is
    not ready and keeps answering for a grace period, so that load balancers that have not noticed yet lose nothing.
    After that it rejects new requests and answers those that it has accepted.
    """

    settings: Settings
    bundle: Bundle
    metrics: Metrics
    access: AccessControl
    tracer: Tracer = field(default_factory=Untraced)
    runtime: Runtime | None = None
    draining: bool = False
    rejecting: bool = False

    @property
    def ready(self) -> bool:
        """Whether new requests should be sent here."""
        return self.runtime is not None and self.runtime.engine.alive and not self.draining

    def check_ready(self) -> None:
        """Check that new requests should be sent here.

        Raises:
            Draining: the service is starting or draining.
        """
        if not self.ready:
            raise Draining

    def require_runtime(self) -> Runtime:
        """The runtime for a new request.

        Raises:
            Draining: the service is starting, or has drained.
        """
        if self.runtime is None or self.rejecting:
            raise Draining
        return self.runtime

    def drain(self, loop: asyncio.AbstractEventLoop, on_drained: Callable[[], None]) -> None:
        """Start to drain: report unready now, reject new requests after the grace period, then call ``on_drained``.

        May be called from a signal handler.
        """
        self.begin_drain()
        logger.info("draining", extra={"fields": {"grace_seconds": self.settings.drain_grace_seconds}})

        def end_grace_period() -> None:
            self.stop_admitting()
            logger.info("rejecting new requests")
            on_drained()

        loop.call_soon_threadsafe(loop.call_later, self.settings.drain_grace_seconds, end_grace_period)

    def begin_drain(self) -> None:
        """Report that the service is not ready, and keep answering."""
        self.draining = True

    def stop_admitting(self) -> None:
        """Reject new requests; those that have been accepted are answered."""
        self.draining = self.rejecting = True


def server_state(request: Request) -> ServerState:
    """The state of the service that received a request.

    Raises:
        TypeError: the application was not made by `service.app.create_app`.
    """
    service = request.app.state.service
    if not isinstance(service, ServerState):
        raise TypeError("the application was not made by create_app")
    return service
