"""The routes of the service's own API: ``/classify``, health and metrics."""

from __future__ import annotations

from functools import partial
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse, PlainTextResponse, Response

from adafocus.service.errors import Draining, Problem
from adafocus.service.http.handler import Exchange, handle
from adafocus.service.http.head import head_of
from adafocus.service.http.openapi import operations
from adafocus.service.http.problems import problem_response
from adafocus.service.http.sse import EventStream
from adafocus.service.http.state import server_state
from adafocus.service.reception import Body, Video
from adafocus.service.schemas.by_url import MAX_REQUEST_BYTES, parse_url_request
from adafocus.service.schemas.classify import Classification
from adafocus.service.schemas.parameters import Parameters
from adafocus.service.sources.http_source import HttpSource
from adafocus.service.sources.policy import UrlPolicy

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
    if _wants_stream(request.scope["query_string"]):
        stream = EventStream()
        return handle(request, partial(_classify_in_steps, stream), stream)
    return handle(request, _classify, _JsonRenderer())


def classify_route() -> APIRoute:
    """The route of `classify_video`, which needs nothing of FastAPI but its place in the description."""
    return next(route for route in router.routes if isinstance(route, APIRoute) and route.path == "/classify")


def _wants_stream(query: bytes) -> bool:
    return (
        b"stream" in query and dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)).get("stream") == "true"
    )


async def _classify(exchange: Exchange) -> Classification:
    parameters, video = await _read_head(exchange)
    return await exchange.classify(video, parameters)


async def _classify_in_steps(stream: EventStream, exchange: Exchange) -> Classification:
    parameters, video = await _read_head(exchange)
    if parameters.windows is not None:
        return await stream.send_segments(exchange, partial(exchange.classify, video, parameters, None))
    return await stream.send_steps(exchange, partial(exchange.classify, video, parameters), frames=parameters.frames)


async def _read_head(exchange: Exchange) -> tuple[Parameters, Video]:
    """The parameters, and the video whose bytes have not been read yet.

    Raises:
        BadParameter: a parameter is unknown, repeated or out of range, or a JSON body is not ``{"url": "…"}``.
        Draining: the model is not ready.
        UnknownModel: there is no such model.
        UrlNotAllowed: the video is given by a URL that is not permitted.
        TooLarge: the body declares more bytes than the settings allow.
    """
    scope = exchange.request.scope
    version, parameters = exchange.server.parameters(scope["query_string"])
    exchange.use(version)
    exchange.check_declared_size()
    content_type = head_of(scope).get(b"content-type")
    kind = content_type.split(";", 1)[0].strip().lower()
    if kind == "application/json":
        return parameters, await _by_url(exchange)
    declared = exchange.body.declared_bytes
    # The length of a raw body tells the decoder where the file will end.
    expected = None if kind.startswith("multipart/") else declared
    body = exchange.body
    return parameters, Body(body.chunks(), content_type or None, expected, declared, has_arrived=body.has_arrived())


async def _by_url(exchange: Exchange) -> Video:
    """The video that a JSON body names."""
    body = await exchange.body.read(
        MAX_REQUEST_BYTES, f"a body with the URL of a video must have at most {MAX_REQUEST_BYTES} bytes"
    )
    settings = exchange.server.settings
    policy = UrlPolicy(settings.url_hosts, settings.url_private)
    return HttpSource(parse_url_request(body).url, policy, stall_seconds=settings.upload_timeout_seconds)


class _JsonRenderer:
    """Renders for ``/classify`` without ``stream``."""

    def result(self, result: Classification) -> Response:
        return JsonAnswer(result.json_bytes(), result.timing_ms.server_timing())

    def problem(self, problem: Problem, request_id: str) -> Response:
        return problem_response(problem, request_id)


class JsonAnswer(Response):
    """An answer in JSON, whose few headers are put together here: the framework takes longer for them."""

    def __init__(self, body: bytes, server_timing: str) -> None:
        self.status_code = 200
        self.body = body
        self.background = None
        self.raw_headers = [
            (b"content-length", str(len(body)).encode()),
            (b"content-type", b"application/json"),
            (b"server-timing", server_timing.encode()),
        ]


@router.get("/healthz", summary="Liveness", responses=operations.status("alive"))
async def healthz() -> Response:
    """Return 200 as long as the process answers."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz", summary="Readiness", responses=operations.status("ready") | operations.only(Draining))
async def readyz(request: Request) -> Response:
    """Return 200 when all models are loaded and warmed and the service is not draining; 503 otherwise."""
    server_state(request).check_ready()
    return JSONResponse({"status": "ready"})


@router.get("/metrics", summary="Metrics", response_class=PlainTextResponse, responses=operations.metrics())
async def metrics(request: Request) -> Response:
    """Return the metrics as Prometheus text, or as OpenMetrics when the Accept header names it."""
    server = server_state(request)
    if server.settings.metrics_need_key:
        server.access.authenticate(request)
    server.metrics.ready(server.ready and server.machine_works())
    if server.admission is not None:
        server.metrics.queue_limit(server.admission.queue_limit)
    for model in server.models:
        server.metrics.model_ready(model.manifest.name, model.alive)
    text, media_type = server.metrics.render(request.headers.get("accept", ""))
    return Response(text, headers={"content-type": media_type})
