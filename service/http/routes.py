"""The routes of the service's own API: ``/classify``, ``/model``, health and metrics."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse, PlainTextResponse, Response

from adafocus.bundle.manifest import Manifest
from adafocus.service.classify import Body
from adafocus.service.errors import Draining, Problem, Unauthorized
from adafocus.service.http.handler import Exchange, handle
from adafocus.service.http.openapi import operations
from adafocus.service.http.problems import problem_response
from adafocus.service.http.sse import EventStream
from adafocus.service.http.state import server_state
from adafocus.service.schemas.classify import Classification, Parameters, parse_parameters

router = APIRouter()


@router.api_route(
    "/classify",
    methods=["POST", "PUT"],  # curl -T sends PUT
    summary="Classify a video",
    response_model=Classification,
    responses=operations.classify_answers(),
    openapi_extra=operations.classify_request(),
)
async def classify_video(request: Request) -> Response:
    """Send the video as a form (`curl -F video=@clip.mp4`) or as the whole body (`curl --data-binary @clip.mp4`)."""
    if request.query_params.get("stream") == "true":
        stream = EventStream()
        return handle(request, partial(_classify_in_steps, stream), stream)
    return handle(request, _classify, _JsonRenderer())


def classify_route() -> APIRoute:
    """The route of `classify_video`, which needs nothing of FastAPI but its place in the description."""
    return next(route for route in router.routes if isinstance(route, APIRoute) and route.path == "/classify")


async def _classify(exchange: Exchange) -> Classification:
    parameters, video = _read_head(exchange)
    return await exchange.classify(video, parameters)


async def _classify_in_steps(stream: EventStream, exchange: Exchange) -> Classification:
    parameters, video = _read_head(exchange)
    return await stream.send_steps(exchange, partial(exchange.classify, video, parameters), frames=parameters.frames)


def _read_head(exchange: Exchange) -> tuple[Parameters, Body]:
    """The parameters, and the video whose bytes have not been read yet.

    Raises:
        BadParameter: a parameter is unknown, repeated or out of range.
        TooLarge: the body declares more bytes than the settings allow.
    """
    parameters = parse_parameters(exchange.request.query_params.multi_items(), exchange.server.bundle.manifest)
    exchange.check_declared_size()
    content_type = exchange.request.headers.get("content-type")
    is_form = content_type is not None and content_type.strip().lower().startswith("multipart/")
    # The length of a raw body tells the decoder where the file will end.
    return parameters, Body(exchange.body.chunks(), content_type, None if is_form else exchange.body.declared_bytes)


class _JsonRenderer:
    """Renders for ``/classify`` without ``stream``."""

    def result(self, result: Classification) -> Response:
        headers = {"Server-Timing": result.timing_ms.server_timing()}
        return Response(result.to_json(), media_type="application/json", headers=headers)

    def problem(self, problem: Problem, request_id: str) -> Response:
        return problem_response(problem, request_id)


@router.get("/model", summary="The model", response_model=Manifest, responses=operations.only(Unauthorized))
async def model(request: Request) -> Response:
    """Return the manifest of the bundle: labels, operating points, FLOPs."""
    server = server_state(request)
    server.access.authenticate(request)
    return Response(server.bundle.manifest.model_dump_json(), media_type="application/json")


@router.get("/healthz", summary="Liveness", responses=operations.status("alive"))
async def healthz() -> Response:
    """Return 200 as long as the process answers."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz", summary="Readiness", responses=operations.status("ready") | operations.only(Draining))
async def readyz(request: Request) -> Response:
    """Return 200 when the model is loaded and warmed and the service is not draining; 503 otherwise."""
    server_state(request).check_ready()
    return JSONResponse({"status": "ready"})


@router.get("/metrics", summary="Metrics", response_class=PlainTextResponse, responses=operations.metrics())
async def metrics(request: Request) -> Response:
    """Return the metrics as Prometheus text, or as OpenMetrics when the Accept header names it."""
    server = server_state(request)
    if server.settings.metrics_need_key:
        server.access.authenticate(request)
    server.metrics.ready(server.ready)
    text, media_type = server.metrics.render(request.headers.get("accept", ""))
    return Response(text, headers={"content-type": media_type})
