"""The application of `adafocus watch`: the cameras as JSON and as a page, metrics and health."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import JSONResponse, Response

from adafocus.service.http import page, problems
from adafocus.service.http.auth import AccessControl
from adafocus.service.http.middleware import HeadLikeGet, RequestScope
from adafocus.service.schemas.cameras import CamerasReport
from adafocus.service.settings import Settings
from adafocus.service.telemetry.metrics import Metrics

FRONT = "cameras.html"


def create_cameras_app(settings: Settings, metrics: Metrics, report: Callable[[], CamerasReport]) -> FastAPI:
    """Create the application. It needs a key for ``/cameras`` if keys are configured, as the service does.

    Args:
        settings: with the keys.
        metrics: of the command, those of cameras included.
        report: tells of all cameras now.

    Raises:
        KeyFileError: the key file cannot be used.
    """
    access = AccessControl(settings)
    router = APIRouter()

    @router.get("/cameras", summary="The cameras now", response_model=CamerasReport)
    async def cameras(request: Request) -> Response:
        """Return what is known of each camera, in the order of the file."""
        access.authenticate(request)
        headers = {"Cache-Control": "no-store"}
        return Response(report().model_dump_json(), media_type="application/json", headers=headers)

    @router.get("/healthz", summary="Liveness")
    async def healthz() -> Response:
        """Return 200 as long as the process answers. Whether cameras are up is told by ``/cameras`` and metrics."""
        return JSONResponse({"status": "alive"})

    @router.get("/metrics", summary="Metrics")
    async def scraped(request: Request) -> Response:
        """Return the metrics as Prometheus text, or as OpenMetrics when the Accept header names it."""
        if settings.metrics_need_key:
            access.authenticate(request)
        text, media_type = metrics.render(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": media_type})

    app = FastAPI(title="adafocus watch", docs_url=None, redoc_url=None)
    app.add_middleware(HeadLikeGet)
    app.add_middleware(RequestScope, metrics=metrics)
    problems.install(app)
    app.include_router(router)
    app.include_router(page.assets_router(page.Page.load(None), FRONT))
    return app
