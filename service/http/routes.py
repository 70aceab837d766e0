"""HTTP words only: what comes in as a request, what goes out as an answer. The work is `service.classify`'s."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from bundle.manifest import Manifest
from service.errors import Draining, Unauthorized
from service.http.body import Answer, ClientLeft
from service.http.handler import Visit
from service.http.openapi import operations as described
from service.http.problems import problem_response
from service.http.sse import EventStream
from service.http.state import server_state
from service.schemas.classify import Classification, Parameters, parse_parameters

CLIENT_CLOSED_REQUEST = 499
"""Never sent, as nobody is there to read it; it marks the line in the log."""

router = APIRouter()


@router.api_route(
    "/classify",
    methods=["POST", "PUT"],  # curl -T sends PUT
    summary="Classify a video",
    response_model=Classification,
    responses=described.classify_answers(),
    openapi_extra=described.classify_request(),
)
async def classify_video(request: Request) -> Response:
    """Send the video as a form (`curl -F video=@clip.mp4`) or as it is (`curl --data-binary @clip.mp4`)."""
    visit = Visit(request, server_state(request))
    try:
        ask = _asked(request, visit)
        body = visit.body(request.headers.get("content-type"))
        if ask.stream:
            return EventStream(visit, body, ask)
        answer = await visit.upload.unless_client_leaves(visit.classified(body, ask))
        visit.answered(answer)
        response = _answered(answer)
    except ClientLeft:
        visit.end()
        response = Response(status_code=CLIENT_CLOSED_REQUEST)
    except Exception as error:  # noqa: BLE001 - the last seam before the client; what is no Problem is logged
        response = problem_response(visit.failed(error), visit.id)
    except BaseException:
        visit.end()
        raise
    return Answer(response, visit.upload)


@router.get("/model", summary="What is being served", response_model=Manifest, responses=described.only(Unauthorized))
async def model(request: Request) -> Response:
    """The manifest of the bundle: labels, operating points, FLOPs."""
    service = server_state(request)
    service.access.check(request)
    return Response(service.bundle.manifest.model_dump_json(), media_type="application/json")


@router.get("/healthz", summary="Alive?", responses=described.status("alive"))
async def healthz() -> Response:
    """200 as long as the process answers."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz", summary="Ready?", responses=described.status("ready") | described.only(Draining))
async def readyz(request: Request) -> Response:
    """200 when loaded, warmed and not draining."""
    if not server_state(request).ready:
        raise Draining("the model is being loaded, or the service is shutting down")
    return JSONResponse({"status": "ready"})


@router.get("/metrics", summary="Metrics", response_class=PlainTextResponse, responses=described.metrics())
async def metrics(request: Request) -> Response:
    """Prometheus text; OpenMetrics when the Accept header names it."""
    service = server_state(request)
    if service.settings.metrics_need_key:
        service.access.check(request)
    service.metrics.ready(service.ready)
    text, media_type = service.metrics.render(request.headers.get("accept", ""))
    return Response(text, headers={"content-type": media_type})


def _asked(request: Request, visit: Visit) -> Parameters:
    """Refuse what can be refused before a byte is read."""
    visit.enter()
    ask = parse_parameters(request.query_params.multi_items(), visit.service.bundle.manifest)
    visit.refuse_what_is_too_large()
    return ask


def _answered(answer: Classification) -> Response:
    return Response(
        answer.to_json(), media_type="application/json", headers={"Server-Timing": answer.timing_ms.server_timing()}
    )
