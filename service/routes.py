"""HTTP words only: what comes in as a request, what goes out as an answer. The work is `service.classify`'s."""

from __future__ import annotations

import html
import logging
import time

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from service import api_description as described
from service.body import Answer, ClientLeft, Upload
from service.classify import Body, classify
from service.errors import Draining, Internal, MethodNotAllowed, NotFound, Outcome, Problem, TooLarge, Unauthorized
from service.lifecycle import Service
from service.middleware import Record, record_of
from service.problems import problem_response
from service.schemas import Classification, TimingAnswer, parse_parameters

CLIENT_CLOSED_REQUEST = 499
"""Never sent, as nobody is there to read it; it marks the line in the log."""

logger = logging.getLogger("adafocus.routes")
router = APIRouter()


@router.put("/classify", include_in_schema=False)  # what `curl -T` sends
@router.post(
    "/classify",
    summary="Classify a video",
    response_model=Classification,
    responses=described.problems(NotFound, MethodNotAllowed),
    openapi_extra=described.classify_request(),
)
async def classify_video(request: Request) -> Response:
    """Send the video as a form (`curl -F video=@clip.mp4`) or as it is (`curl --data-binary @clip.mp4`)."""
    service = _service(request)
    record = record_of(request.scope["state"])
    upload = Upload(request.receive, request.headers, linger_bytes=service.settings.max_upload_bytes)
    outcome: Outcome = "cancelled"
    try:
        answer = await _classified(request, service, upload, record)
        outcome = "ok"
        response = _answered(answer)
        record.fields |= {"gflops": answer.compute.gflops, "step": answer.exit.step, "reason": answer.exit.reason}
    except ClientLeft:
        response = Response(status_code=CLIENT_CLOSED_REQUEST)
    except Exception as error:  # noqa: BLE001 - the last seam before the client; what is no Problem is logged
        problem = _problem_of(error, record)
        outcome = problem.outcome
        response = _refused(problem, service, record)
    finally:
        record.fields["outcome"] = outcome
        service.metrics.request_finished(outcome, time.perf_counter() - record.started)
    return Answer(response, upload)


@router.get("/model", summary="What is being served", responses=described.only(Unauthorized))
async def model(request: Request) -> Response:
    """The manifest of the bundle: labels, operating points, FLOPs."""
    service = _service(request)
    _authorise(request, service)
    return Response(service.bundle.manifest.model_dump_json(), media_type="application/json")


@router.get("/healthz", summary="Alive?")
async def healthz() -> Response:
    """200 as long as the process answers."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz", summary="Ready?", responses=described.only(Draining))
async def readyz(request: Request) -> Response:
    """200 when loaded, warmed and not draining."""
    if not _service(request).ready:
        raise Draining("the model is being loaded, or the service is shutting down")
    return JSONResponse({"status": "ready"})


@router.get("/metrics", summary="Metrics")
async def metrics(request: Request) -> Response:
    """Prometheus text; OpenMetrics when the Accept header names it."""
    text, media_type = _service(request).metrics.render(request.headers.get("accept", ""))
    return Response(text, headers={"content-type": media_type})


@router.get("/", include_in_schema=False)
async def front(request: Request) -> Response:
    """What this is, and where to read on."""
    manifest = _service(request).bundle.manifest
    return HTMLResponse(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>adafocus</title>'
        f"<h1>adafocus</h1><p>Classifies videos with <b>{html.escape(manifest.name)}</b> "
        f"{html.escape(manifest.version)}: {len(manifest.labels)} classes, {manifest.steps} steps.</p>"
        "<pre>curl -F video=@clip.mp4 localhost:8000/classify</pre>"
        '<p><a href="/docs">the API</a> · <a href="/model">the model</a> · <a href="/metrics">metrics</a></p></html>'
    )


async def _classified(request: Request, service: Service, upload: Upload, record: Record) -> Classification:
    """Refuse what can be refused before a byte is read, then go down the straight line."""
    _authorise(request, service)
    ask = parse_parameters(request.query_params.multi_items(), service.bundle.manifest)
    most = service.settings.max_upload_bytes
    if upload.declared is not None and upload.declared > most:
        raise TooLarge(f"{upload.declared} bytes were announced; at most {most} are permitted")
    body = Body(upload.chunks(), request.headers.get("content-type"))
    return await upload.unless_client_leaves(classify(service.opened_rooms(), body, ask, record.request_id))


def _answered(answer: Classification) -> Response:
    return Response(
        answer.to_json(), media_type="application/json", headers={"Server-Timing": _server_timing(answer.timing_ms)}
    )


def _problem_of(error: Exception, record: Record) -> Problem:
    """What an error means to the client. A fault of ours is told to the log, and only to the log."""
    problem = error if isinstance(error, Problem) else Internal()
    if isinstance(problem, Internal):
        logger.error("a fault of ours", exc_info=error, extra={"fields": {"request_id": record.request_id}})
    return problem


def _refused(problem: Problem, service: Service, record: Record) -> Response:
    service.metrics.problem_answered(problem.code)
    record.fields["code"] = problem.code
    return problem_response(problem, record.request_id)


def _server_timing(timing: TimingAnswer) -> str:
    stages: dict[str, float] = timing.model_dump()
    return ", ".join(f"{stage};dur={milliseconds:g}" for stage, milliseconds in stages.items())


def _authorise(request: Request, service: Service) -> None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    key = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key")
    if not service.settings.opens(key):
        raise Unauthorized


def _service(request: Request) -> Service:
    service = request.app.state.service
    if not isinstance(service, Service):
        raise TypeError("the application was not made by create_app")
    return service
