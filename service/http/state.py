"""The state of the service from start to exit: what it serves with, whether it is ready, and how it drains."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl
from weakref import ref

from starlette.requests import Request

from adafocus.service.decode.upload import open_spool
from adafocus.service.engine.admission import Admission
from adafocus.service.errors import Draining, Problem, Unavailable
from adafocus.service.http.auth import AccessControl
from adafocus.service.http.pace import ALONE, ERRORS, REFUSALS, AnswerPace
from adafocus.service.http.slow_clients import UploadLimits
from adafocus.service.models.registry import Models
from adafocus.service.models.second import SecondModel
from adafocus.service.models.version import LoadedVersion
from adafocus.service.runtime import Runtime
from adafocus.service.schemas.parameters import MODEL, PARAMETERS, Parameters, model_and_rest, parse_parameters
from adafocus.service.settings import Settings
from adafocus.service.telemetry.metrics import Metrics
from adafocus.service.telemetry.tracing import Tracer, Untraced

MAX_KNOWN_QUERIES = 256
"""Query strings whose parameters are remembered; clients seldom use more than a few."""

logger = logging.getLogger("adafocus.state")


@dataclass(slots=True)
class ServerState:
    """The state that all routes share.

    The service is *starting* until ``admission`` is set, then *ready*. On SIGTERM it is *draining*: it reports that it
    is not ready and keeps answering for a grace period, so that load balancers that have not noticed yet lose nothing.
    After that it rejects new requests and answers those that it has accepted.
    """

    settings: Settings
    models: Models
    metrics: Metrics
    access: AccessControl
    tracer: Tracer = field(default_factory=Untraced)
    admission: Admission | None = None
    second: SecondModel | None = None
    draining: bool = False
    rejecting: bool = False
    pace: AnswerPace = field(default_factory=AnswerPace)
    upload_limits: UploadLimits = field(init=False)
    _known_queries: dict[bytes, tuple[str | None, ref[LoadedVersion], Parameters]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = self.settings
        self.upload_limits = UploadLimits(
            settings.upload_timeout_seconds, settings.min_upload_bytes_per_second, self.pressure
        )

    @property
    def runtime(self) -> Runtime | None:
        """The runtime of the default model; None while it is not loaded."""
        version = self.models.of(None).version
        return None if self.admission is None or version is None else version.runtime

    @property
    def ready(self) -> bool:
        """True if new requests should be sent here."""
        return self.admission is not None and self.models.ready and not self.draining

    def machine_works(self) -> bool:
        """Whether an upload could be stored now: there are descriptors, and a folder to write to."""
        try:
            open_spool().close()
        except Problem:
            return False
        return True

    def check_ready(self) -> None:
        """Check that new requests should be sent here.

        Raises:
            Draining: the service is starting or draining.
            Unavailable: the machine fails it.
        """
        if not self.ready:
            raise Draining
        if not self.machine_works():
            raise Unavailable

    def version_of(self, model: str | None) -> LoadedVersion:
        """The version of a model that answers a new request; the default model's for None.

        Raises:
            Draining: the service is starting, or has drained, or the model's engine is being started again.
            UnknownModel: there is no such model, or it has been unloaded.
        """
        if self.admission is None or self.rejecting:
            raise Draining
        return self.models.version_of(model)

    def model_pid(self) -> int | None:
        """The process that runs the default model; None if it is not loaded."""
        runtime = self.runtime
        return None if runtime is None else runtime.engine.pid

    def pressure(self) -> float:
        """How close the service is to refusing requests: 0 to 1."""
        return 0.0 if self.admission is None else self.admission.pressure

    async def pace_problem(self, caller: str, *, refused: bool) -> None:
        """Have a caller wait for a problem if it gets very many of them.

        Args:
            caller: who gets it.
            refused: whether the request was refused for want of room, which costs less than one that was read.
        """
        if self.admission is not None and self.admission.others_are_active(caller):
            await self.pace.wait(caller, REFUSALS if refused else ERRORS)
        elif refused:
            await self.pace.wait(caller, ALONE)

    def parameters(self, query: bytes) -> tuple[LoadedVersion, Parameters]:
        """The version that a classification runs on, and its parameters, from a query string.

        Raises:
            BadParameter: a parameter is unknown, repeated or out of range.
            Draining: the model is not ready.
            UnknownModel: there is no such model.
        """
        known = self._known_queries.get(query)
        if known is not None:
            version = self.version_of(known[0])
            if version is known[1]():
                return version, known[2]
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        model, rest = model_and_rest(pairs)
        version = self.version_of(model)
        parameters = parse_parameters(rest, version.runtime.manifest, (MODEL, *PARAMETERS))
        if len(self._known_queries) >= MAX_KNOWN_QUERIES:
            self._known_queries.clear()
        self._known_queries[query] = model, ref(version), parameters  # does not keep an old version in memory
        return version, parameters

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
