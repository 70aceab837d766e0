"""Creates the application: everything is wired here, and nothing happens at import."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TypedDict

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from adafocus.bundle.store import BundleError, load_bundle
from adafocus.service.http import page, problems, repository, routes
from adafocus.service.http.auth import AccessControl
from adafocus.service.http.direct import Application, DirectRoutes
from adafocus.service.http.gate import Gate
from adafocus.service.http.middleware import HeadLikeGet, RequestScope
from adafocus.service.http.open_inference import OpenInference
from adafocus.service.http.openapi import document as openapi
from adafocus.service.http.openapi.operations import ABOUT
from adafocus.service.http.shared_accounts import SharedAccounts
from adafocus.service.http.state import ServerState
from adafocus.service.models.folders import default_of, folders_of
from adafocus.service.models.registry import Models, served_as
from adafocus.service.models.second import SecondModel
from adafocus.service.resources import open_resources
from adafocus.service.runtime import MakeRunner, SharedEngine, make_runner, open_model
from adafocus.service.settings import Settings
from adafocus.service.sources.dialer import client_context
from adafocus.service.telemetry.metrics import Metrics
from adafocus.service.telemetry.series import SeriesMemory
from adafocus.service.telemetry.tracing import make_tracer

READY_SECONDS = 0.25
"""How old the news of a front's readiness may be."""

logger = logging.getLogger("adafocus.app")


def log_failure(error: Exception) -> None:
    """Log why the service will never be ready."""
    logger.error("the service cannot start: %s", error, exc_info=error)


@dataclass(frozen=True, slots=True)
class Front:
    """What one of several processes of a service shares with the others.

    Attributes:
        number: of this process, from 0.
        engine: that all use.
        series: what all have counted.
        accounts: of all callers.
    """

    number: int
    engine: SharedEngine
    series: SeriesMemory
    accounts: SharedAccounts


def create_app(
    settings: Settings,
    *,
    front: Front | None = None,
    runner: MakeRunner = make_runner,
    on_failure: Callable[[Exception], None] = log_failure,
    on_ready: Callable[[], None] = lambda: None,
) -> FastAPI:
    """Create the application that serves one bundle, or several. ``app.state.service`` is its `ServerState`.

    The bundles are verified here. The models are loaded and the decoders are started while the application already
    answers; ``/readyz`` returns 503 until that is done.

    Args:
        settings: of the service.
        front: what is shared if this process is one of several; None: it is the only one.
        runner: makes the runner for a bundle; tests pass their own.
        on_failure: called with the exception if the model cannot be loaded or the service stops.
        on_ready: called when everything is loaded and warmed, just before requests are accepted.

    Raises:
        BundleError: the bundle cannot be read or does not match its manifest.
        KeyFileError: the key file cannot be used.
        TracingError: traces are configured, but the extra that sends them is not installed.
    """
    service = _state(settings, front)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        stop = asyncio.Event()
        serving = asyncio.create_task(_serve(service, runner, front, on_failure, on_ready, stop))
        telling = None if front is None else asyncio.create_task(_tell_the_other_fronts(service))
        try:
            yield
        finally:
            service.stop_admitting()
            stop.set()
            if telling is not None:
                telling.cancel()
            if service.admission is None:  # still loading, and not needed any more
                serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
            await asyncio.to_thread(service.tracer.close)

    app = Application(
        title="adafocus", description=ABOUT, version=_version(), lifespan=lifespan, docs_url=None, redoc_url=None
    )
    crossing = partial(CORSMiddleware, **_cross_origin(settings.cors_origins)) if settings.cors_origins else None
    app.state.service = service
    way: ASGIApp
    direct = way = DirectRoutes(app.router, [routes.classify_route()])
    app.add_middleware(HeadLikeGet)
    if crossing is not None:
        app.add_middleware(crossing)
        way = crossing(way)
    app.add_middleware(RequestScope, metrics=service.metrics)
    app.take_around(direct, RequestScope(way, service.metrics))
    app.gate = Gate(app.admitted, service, crossing)
    problems.install(app)
    app.include_router(routes.router)
    app.include_router(repository.router)
    app.include_router(OpenInference().router)
    app.include_router(page.router_for(page.Page.load(settings.samples)))
    openapi.install(app, service.models, settings)
    return app


def _state(settings: Settings, front: Front | None) -> ServerState:
    folders = folders_of(settings)
    default = default_of(settings, folders)
    bundles = [served_as(load_bundle(folder), name) for name, folder in folders.items()]
    steps = max(bundle.manifest.steps for bundle in bundles)
    if front is None:
        metrics, access = Metrics(steps), AccessControl(settings)
    else:
        metrics = Metrics(steps, front.series, front.number)
        access = AccessControl(settings, accounts=front.accounts)
    # A single bundle keeps its name, whatever the manifest of a later version says.
    find = (lambda: folders) if settings.bundles is None else partial(folders_of, settings)
    models = Models(bundles, default, find, metrics)
    return ServerState(
        settings, models, metrics, access, make_tracer(settings), second=_second(settings, models, metrics)
    )


def _second(settings: Settings, models: Models, metrics: Metrics) -> SecondModel | None:
    """The model that a share of the videos goes to as well.

    Raises:
        BundleError: there is no model of that name.
    """
    if settings.shadow_model is None:
        return None
    name, share = settings.shadow_model
    names = [model.manifest.name for model in models]
    if name not in names:
        raise BundleError(f"shadow names the model {name!r}; there are {', '.join(names)}")
    return SecondModel(models, name, share, metrics)


class _CrossOrigin(TypedDict):
    """Arguments of the middleware that answers browsers on other origins."""

    allow_origins: Sequence[str]
    allow_methods: Sequence[str]
    allow_headers: Sequence[str]
    expose_headers: Sequence[str]


def _cross_origin(origins: Sequence[str]) -> _CrossOrigin:
    return _CrossOrigin(
        allow_origins=origins,
        allow_methods=("GET", "POST", "PUT"),
        allow_headers=(
            "Authorization",
            "X-API-Key",
            "X-Request-ID",
            "traceparent",
            "tracestate",
            "Inference-Header-Content-Length",
        ),
        expose_headers=(
            *("X-Request-ID", "Server-Timing", "Retry-After", "RateLimit", "RateLimit-Policy", "traceparent"),
            "Inference-Header-Content-Length",
        ),
    )


async def _tell_the_other_fronts(service: ServerState) -> None:
    """Keep it up to date whether this front is ready, for whichever front is asked for the metrics."""
    while True:
        service.metrics.ready(service.ready)
        await asyncio.sleep(READY_SECONDS)


async def _serve(
    service: ServerState,
    runner: MakeRunner,
    front: Front | None,
    on_failure: Callable[[Exception], None],
    on_ready: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    """Open all models and what they share, and keep them open until ``stop`` is set."""
    began = time.perf_counter()
    settings, models, metrics = service.settings, service.models, service.metrics
    shared = None if front is None else front.engine
    bundles = [model.bundle for model in models]
    try:
        if settings.url_hosts:  # so that no request waits until the authorities are read
            await asyncio.to_thread(client_context)
        async with (
            open_resources(bundles, settings, metrics, shared) as resources,
            models.serving(partial(open_model, resources=resources, make=runner, shared=shared)),
        ):
            await resources.decoders_started
            on_ready()
            service.admission = resources.admission
            metrics.model_pid = service.model_pid
            fields: dict[str, object] = {"models": [model.manifest.name for model in models]}
            if service.runtime is not None:
                running = service.runtime.engine.runner
                fields |= {"backend": running.backend, "precision": running.precision}
            fields["load_seconds"] = round(time.perf_counter() - began, 2)
            logger.info("ready", extra={"fields": fields})
            async with _watching(service):
                await stop.wait()
            if service.second is not None:
                await service.second.close()
            await resources.decoder.close()  # before the engines, so that videos in flight fail as they should
    except Exception as error:  # noqa: BLE001 - the caller must learn of any error
        on_failure(error)
    finally:
        service.admission = None


@contextlib.asynccontextmanager
async def _watching(service: ServerState) -> AsyncIterator[None]:
    """Look for new versions of the models during the block, if the settings say so."""
    seconds = service.settings.bundles_poll_seconds
    if service.settings.bundles is None or not seconds:
        yield
        return
    task = asyncio.create_task(service.models.watch(seconds))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _version() -> str:
    try:
        return version("adafocus")
    except PackageNotFoundError:
        return "0"
