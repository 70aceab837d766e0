"""The composition root: everything is wired here and nowhere else, and nothing happens at import."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from bundle.store import load_bundle
from service.http import page, problems, routes
from service.http.auth import AccessControl
from service.http.middleware import HeadLikeGet, RequestScope
from service.http.open_inference import OpenInference
from service.http.openapi import document as openapi
from service.http.openapi.operations import ABOUT
from service.http.state import ServerState
from service.runtime import MakeRunner, make_runner, open_runtime
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import make_tracer

logger = logging.getLogger("adafocus.app")


def log_failure(error: Exception) -> None:
    """Say in the log why the service will never be ready."""
    logger.error("the service cannot start: %s", error, exc_info=error)


def create_app(
    settings: Settings,
    *,
    runner: MakeRunner = make_runner,
    on_failure: Callable[[Exception], None] = log_failure,
    on_ready: Callable[[], None] = lambda: None,
) -> FastAPI:
    """Make the application that serves one bundle; ``app.state.service`` says where it stands.

    The bundle is verified here. The model is loaded and the decoders are started while the application already
    answers, with ``/readyz`` saying 503 until it is done.

    Args:
        settings: of the service.
        runner: makes the runner for a bundle; tests pass another.
        on_failure: told why the model could not be loaded, or why the service stopped.
        on_ready: told when all is loaded and warmed, just before requests are let in.

    Raises:
        BundleError: the bundle cannot be read or is not what its manifest says.
        KeyFileError: the file of API keys cannot be used.
        TracingError: traces are asked for, and the extra that sends them is not installed.
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
            if service.runtime is None:  # still loading: nobody waits for it any more
                serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
            await asyncio.to_thread(service.tracer.close)

    app = FastAPI(
        title="adafocus", description=ABOUT, version=_version(), lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.service = service
    app.add_middleware(HeadLikeGet)
    if settings.cors_origins:
        _let_pages_of_others_in(app, settings.cors_origins)
    app.add_middleware(RequestScope, metrics=service.metrics)
    problems.install(app)
    app.include_router(routes.router)
    app.include_router(OpenInference().router)
    app.include_router(page.router_for(page.Page.load(settings.samples)))
    openapi.install(app, bundle.manifest, settings)
    return app


def _let_pages_of_others_in(app: FastAPI, origins: Sequence[str]) -> None:
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
    """Keep the rooms open until told to stop."""
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
    except Exception as error:  # noqa: BLE001 - whatever it is, somebody must be told that this never becomes ready
        on_failure(error)
    finally:
        service.runtime = None


def _version() -> str:
    try:
        return version("adafocus")
    except PackageNotFoundError:
        return "0"
