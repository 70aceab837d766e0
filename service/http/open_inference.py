"""The Open Inference Protocol (``/v2``): health, metadata and inference in words that many clients know."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from bundle.manifest import Manifest
from service.classify import Body
from service.errors import BadParameter, DeadlinePassed, Draining, NotFound, Overloaded, TooLarge, Unauthorized
from service.http.body import Answer, ClientLeft
from service.http.framing import Pieces, pieces_of
from service.http.handler import Visit
from service.http.openapi import operations as described
from service.http.problems import protocol_response
from service.http.state import server_state
from service.schemas import tensors
from service.schemas.classify import Classification, Parameters, parse_parameters
from service.schemas.open_inference import (
    EXTENSIONS,
    HEADER_LENGTH,
    MOST_HEADER_BYTES,
    NAME,
    Live,
    ModelMetadata,
    ModelReady,
    Ready,
    ServerMetadata,
)

MOST_JSON_BYTES = 1 << 26
"""A request all of JSON is held in memory, several times over; larger videos come by the binary extension."""
MOST_JSON_AT_ONCE = 4

_MODEL = "/v2/models/{name}"
_VERSION = "/v2/models/{name}/versions/{version}"


class OpenInference:
    """The routes of the protocol. Holds how many requests all of JSON are in memory."""

    def __init__(self) -> None:
        self.router = APIRouter(tags=["Open Inference Protocol"])
        self._in_memory = 0
        add = self.router.add_api_route
        known = described.protocol_problems
        good = described.good
        add(
            "/v2",
            self.server,
            summary="The server",
            response_model=ServerMetadata,
            responses=good(_server()) | known(Unauthorized),
        )
        add("/v2/health/live", self.live, summary="Alive?", response_model=Live, responses=good(Live(live=True)))
        add(
            "/v2/health/ready",
            self.ready,
            summary="Ready?",
            response_model=Ready,
            responses=good(Ready(ready=True)) | known(Draining),
        )
        for path, which in ((_MODEL, ""), (_VERSION, ", of a version")):
            add(
                path,
                self.model,
                summary=f"The model{which}",
                response_model=ModelMetadata,
                responses=known(Unauthorized, NotFound),
            )
            add(
                f"{path}/ready",
                self.model_ready,
                summary=f"Is the model ready{which}?",
                response_model=ModelReady,
                responses=known(NotFound, Draining),
            )
            add(
                f"{path}/infer",
                self.infer,
                methods=["POST"],
                summary=f"Classify a video{which}",
                responses=described.protocol_answers(),
                openapi_extra=described.protocol_request(),
            )

    async def server(self, request: Request) -> Response:
        """What the server is."""
        server_state(request).access.check(request)
        return _json(_server())

    async def live(self) -> Response:
        """200 as long as the process answers."""
        return _json(Live(live=True))

    async def ready(self, request: Request) -> Response:
        """200 when loaded, warmed and not draining."""
        _check_ready(request)
        return _json(Ready(ready=True))

    async def model(self, request: Request) -> Response:
        """The tensors of the model."""
        server_state(request).access.check(request)
        manifest = _check_model(request)
        return _json(ModelMetadata.of(manifest))

    async def model_ready(self, request: Request) -> Response:
        """200 when the model answers."""
        manifest = _check_model(request)
        _check_ready(request)
        return _json(ModelReady(name=manifest.name, ready=True))

    async def infer(self, request: Request) -> Response:
        """One video in, labels, scores and the whole answer out."""
        visit = Visit(request, server_state(request))
        try:
            visit.enter()
            _check_model(request)
            call, result = await visit.upload.unless_client_leaves(self._inferred(request, visit))
            visit.answered(result)
            response = _answer(call, result)
        except ClientLeft:
            visit.end()
            response = Response(status_code=499)
        except Exception as error:  # noqa: BLE001 - the last seam before the client; what is no Problem is logged
            response = protocol_response(visit.failed(error))
        except BaseException:
            visit.end()
            raise
        return Answer(response, visit.upload)

    async def _inferred(self, request: Request, visit: Visit) -> tuple[tensors.Call, Classification]:
        started = time.perf_counter()
        pieces = Pieces(visit.upload.chunks(), visit.service.settings.upload_timeout_seconds)
        length = _header_length(request)
        if length is None:
            call, body = await self._all_of_json(pieces, visit)
        else:
            visit.refuse_what_is_too_large(beside=length + tensors.LENGTH_PREFIX_BYTES)
            call = tensors.parse_call(await pieces.take(length), binary=True)
            tensors.check_prefix(await pieces.take(tensors.LENGTH_PREFIX_BYTES), call)
            body = Body(pieces.rest(call.video_bytes), None, call.video_bytes)
        ask = parse_parameters(call.asked, visit.service.bundle.manifest)
        return call, await visit.classified(body, _due(ask, time.perf_counter() - started))

    async def _all_of_json(self, pieces: Pieces, visit: Visit) -> tuple[tensors.Call, Body]:
        most = min(MOST_JSON_BYTES, visit.service.settings.max_upload_bytes // 3 * 4 + MOST_HEADER_BYTES)
        too_large = f"a request all of JSON may have {most} bytes; the binary extension and /classify take more"
        if visit.upload.declared is not None and visit.upload.declared > most:
            raise TooLarge(too_large)
        if self._in_memory >= MOST_JSON_AT_ONCE:
            raise Overloaded(f"{MOST_JSON_AT_ONCE} requests all of JSON are being read; the binary extension has room")
        self._in_memory += 1
        try:
            text = await pieces.all(most, too_large)
            call = await asyncio.to_thread(tensors.parse_call, text, binary=False)
        finally:
            self._in_memory -= 1
        video = call.video or b""
        return replace(call, video=None), Body(pieces_of(video), None, len(video))


def _due(ask: Parameters, spent_seconds: float) -> Parameters:
    """A deadline counts from the first byte; part of it may have passed while the request's head was read."""
    if ask.deadline_ms is None:
        return ask
    left = ask.deadline_ms - spent_seconds * 1e3
    if left <= 0:
        raise DeadlinePassed
    return replace(ask, deadline_ms=left)


def _header_length(request: Request) -> int | None:
    given = request.headers.get(HEADER_LENGTH)
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) < 9 and 2 <= int(given) <= MOST_HEADER_BYTES):
        raise BadParameter(f"{HEADER_LENGTH} is a whole number from 2 to {MOST_HEADER_BYTES}")
    return int(given)


def _check_model(request: Request) -> Manifest:
    """The model that the path names.

    Raises:
        NotFound: there is no such model, or not in that version.
    """
    manifest = server_state(request).bundle.manifest
    name, wanted = request.path_params["name"], request.path_params.get("version", manifest.version)
    if (name, wanted) != (manifest.name, manifest.version):
        raise NotFound(f"there is no such model; there is {manifest.name} version {manifest.version}")
    return manifest


def _check_ready(request: Request) -> None:
    if not server_state(request).ready:
        raise Draining("the model is being loaded, or the service is shutting down")


def _server() -> ServerMetadata:
    return ServerMetadata(name=NAME, version=_version(), extensions=EXTENSIONS)


def _json(word: BaseModel) -> Response:
    return Response(word.model_dump_json(), media_type="application/json")


def _answer(call: tensors.Call, result: Classification) -> Response:
    body, head = tensors.answer(call, result)
    headers = {"Server-Timing": result.timing_ms.server_timing()}
    if head is None:
        return Response(body, media_type="application/json", headers=headers)
    return Response(body, media_type="application/octet-stream", headers={**headers, HEADER_LENGTH: str(head)})


def _version() -> str:
    try:
        return version("adafocus")
    except PackageNotFoundError:
        return "0"
