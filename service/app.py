"""Creates the application: everything is wired here, and nothing happens at import."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from adafocus.bundle.store import load_bundle
from adafocus.service.http import page, problems, routes
from adafocus.service.http.auth import AccessControl
from adafocus.service.http.direct import DirectRoutes
from adafocus.service.http.middleware import HeadLikeGet, RequestScope
from adafocus.service.http.open_inference import OpenInference
from adafocus.service.http.openapi import document as openapi
from adafocus.service.http.openapi.operations import ABOUT
from adafocus.service.http.state import ServerState
from adafocus.service.runtime import MakeRunner, make_runner, open_runtime
from adafocus.service.settings import Settings
from adafocus.service.telemetry.metrics import Metrics
from adafocus.service.telemetry.tracing import make_tracer

logger = logging.getLogger("adafocus.app")


def log_failure(error: Exception) -> None:
    """Log why the service will never be ready."""
    logger.error("the service cannot start: %s", error, exc_info=error)


def create_app(
    settings: Settings,
    *,
    runner: MakeRunner = make_runner,
    on_failure: Callable[[Exception], None] = log_failure,
    on_ready: Callable[[], None] = lambda: None,
) -> FastAPI:
    """Create the application that serves one bundle. ``app.state.service`` is its `ServerState`.

    The bundle is verified here. The model is loaded and the decoders are started while the application already
    answers; ``/readyz`` returns 503 until that is done.

    Args:
        settings: of the service.
        runner: makes the runner for a bundle; tests pass their own.
        on_failure: called with the exception if the model cannot be loaded or the service stops.
        on_ready: called when everything is loaded and warmed, just before requests are accepted.

    Raises:
        BundleError: the bundle cannot be read or does not match its manifest.
        KeyFileError: the key file cannot be used.
        TracingError: traces are configured, but the extra that sends them is not installed.
    """
    bundle = load_bundle(settings.bundle)
    service = ServerState(
        settings, bundle, Metrics(bundle.manifest.steps), AccessControl(settings), make_tracer(settings)
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        stop = asyncio.Event()
        serving = asyncio.create_task(_serve(service, runner, on_failure, on_ready, stop))
        try:
            yield
        finally:
            service.stop_admitting()
            stop.set()
            if service.runtime is None:  # still loading, and not needed any more
                serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
            await asyncio.to_thread(service.tracer.close)

    app = FastAPI(
        title="adafocus", description=ABOUT, version=_version(), lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.service = service
    app.add_middleware(DirectRoutes, routes=[routes.classify_route()])
    app.add_middleware(HeadLikeGet)
    if settings.cors_origins:
        _allow_cross_origin(app, settings.cors_origins)
    app.add_middleware(RequestScope, metrics=service.metrics)
    problems.install(app)
    app.include_router(routes.router)
    app.include_router(OpenInference().router)
    app.include_router(page.router_for(page.Page.load(settings.samples)))
    openapi.install(app, bundle.manifest, settings)
    return app


def _allow_cross_origin(app: FastAPI, origins: Sequence[str]) -> None:
    app.add_middleware(
        CORSMiddleware,
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


async def _serve(
    service: ServerState,
    runner: MakeRunner,
    on_failure: Callable[[Exception], None],
    on_ready: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    """Open the runtime and keep it open until ``stop`` is set."""
    began = time.perf_counter()
    try:
        async with open_runtime(service.bundle, service.settings, service.metrics, runner) as runtime:
            on_ready()
            service.runtime = runtime
            running = runtime.engine.runner
            fields: dict[str, object] = {"backend": running.backend, "precision": running.precision}
            fields["load_seconds"] = round(time.perf_counter() - began, 2)
            logger.info("ready", extra={"fields": fields})
            await stop.wait()
    except Exception as error:  # noqa: BLE001 - the caller must learn of any error
        on_failure(error)
    finally:
        service.runtime = None


def _version() -> str:
    try:
        return version("adafocus")
    except PackageNotFoundError:
        return "0"
