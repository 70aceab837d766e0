"""Where the service stands between its start and its end, and what is open meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.requests import Request

from bundle.store import Bundle
from service.errors import Draining
from service.http.auth import AccessControl
from service.runtime import Runtime
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracer, Untraced


@dataclass(slots=True)
class ServerState:
    """One service: what it knows from the start, and its runtime while they are open.

    It is *ready* from the moment the rooms are open, loaded and warmed, until it begins to drain. While it drains it
    still answers, so that those who have not yet seen it unready lose nothing.
    """

    settings: Settings
    bundle: Bundle
    metrics: Metrics
    access: AccessControl
    tracer: Tracer = field(default_factory=Untraced)
    runtime: Runtime | None = None
    draining: bool = False

    @property
    def ready(self) -> bool:
        """Whether new work should be sent here."""
        return self.runtime is not None and self.runtime.engine.alive and not self.draining

    def opened_runtime(self) -> Runtime:
        """The runtime that a request goes through.

        Raises:
            Draining: they are not open yet, or no longer.
        """
        if self.runtime is None:
            raise Draining("the model is being loaded, or the service is shutting down")
        return self.runtime

    def begin_drain(self) -> None:
        """Become unready, and go on answering."""
        self.draining = True

    def stop_admitting(self) -> None:
        """Turn new requests away; those that hold a place are answered."""
        self.draining = True
        if self.runtime is not None:
            self.runtime.engine.admission.draining = True


def server_state(request: Request) -> ServerState:
    """The service that a request came to.

    Raises:
        TypeError: the application was not made by `service.app.create_app`.
    """
    service = request.app.state.service
    if not isinstance(service, ServerState):
        raise TypeError("the application was not made by create_app")
    return service
