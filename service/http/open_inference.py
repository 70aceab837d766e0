"""The routes of the Open Inference Protocol, ``/v2``: health, metadata and inference."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from adafocus.bundle.manifest import Manifest
from adafocus.service.decode.upload import Spool, not_stored, open_spool
from adafocus.service.errors import (
    BadParameter,
    DeadlinePassed,
    Draining,
    Overloaded,
    Problem,
    RateLimited,
    TooLarge,
    Unauthorized,
    UnknownModel,
)
from adafocus.service.http.handler import Exchange, handle
from adafocus.service.http.openapi import operations
from adafocus.service.http.problems import protocol_response
from adafocus.service.http.state import server_state
from adafocus.service.reception import Body
from adafocus.service.schemas import tensors
from adafocus.service.schemas.classify import Classification
from adafocus.service.schemas.json_video import VideoInJson
from adafocus.service.schemas.open_inference import (
    EXTENSIONS,
    HEADER_LENGTH,
    MAX_HEADER_BYTES,
    NAME,
    Live,
    ModelMetadata,
    ModelReady,
    Ready,
    ServerMetadata,
)
from adafocus.service.schemas.parameters import Parameters, parse_parameters

MAX_JSON_BYTES = 1 << 26
"""A request in JSON is written to the disk twice; larger videos need the binary extension."""
MAX_JSON_AT_ONCE, MAX_JSON_OF_ONE_CALLER = 16, 4
CHUNK_BYTES = 1 << 20

_MODEL = "/v2/models/{name}"
_VERSION = "/v2/models/{name}/versions/{version}"


class OpenInference:
    """The routes of the protocol."""

    def __init__(self) -> None:
        self.router = APIRouter(tags=["Open Inference Protocol"])
        self._json_bodies = _JsonBodies()
        add = self.router.add_api_route
        known = operations.protocol_problems
        good = operations.good
        add(
            "/v2",
            self.server,
            summary="The server",
            response_model=ServerMetadata,
            responses=good(_server()) | known(Unauthorized, RateLimited),
        )
        add("/v2/health/live", self.live, summary="Liveness", response_model=Live, responses=good(Live(live=True)))
        add(
            "/v2/health/ready",
            self.ready,
            summary="Readiness",
            response_model=Ready,
            responses=good(Ready(ready=True)) | known(Draining),
        )
        for path, which in ((_MODEL, ""), (_VERSION, ", by version")):
            add(
                path,
                self.model,
                summary=f"The model{which}",
                response_model=ModelMetadata,
                responses=known(Unauthorized, UnknownModel, RateLimited),
            )
            add(
                f"{path}/ready",
                self.model_ready,
                summary=f"Readiness of the model{which}",
                response_model=ModelReady,
                responses=known(UnknownModel, Draining),
            )
            add(
                f"{path}/infer",
                self.infer,
                methods=["POST"],
                summary=f"Classify a video{which}",
                responses=operations.protocol_answers(),
                openapi_extra=operations.protocol_request(),
            )

    async def server(self, request: Request) -> Response:
        """Return the server's name, version and extensions of the protocol."""
        server_state(request).access.authenticate(request)
        return _json(_server())

    async def live(self) -> Response:
        """Return 200 as long as the process answers."""
        return _json(Live(live=True))

    async def ready(self, request: Request) -> Response:
        """Return 200 when the model is loaded and warmed and the service is not draining; 503 otherwise."""
        server_state(request).check_ready()
        return _json(Ready(ready=True))

    async def model(self, request: Request) -> Response:
        """Return the model's input and output tensors."""
        server_state(request).access.authenticate(request)
        return _json(ModelMetadata.of(_check_model(request)))

    async def model_ready(self, request: Request) -> Response:
        """Return 200 when the model can be used; 503 otherwise."""
        manifest, server = _check_model(request), server_state(request)
        server.version_of(manifest.name)
        if server.draining:
            raise Draining
        return _json(ModelReady(name=manifest.name, ready=True))

    async def infer(self, request: Request) -> Response:
        """Classify one video; the response holds the labels, the scores and the answer of `/classify`."""
        inference = _Inference(self._json_bodies)
        return handle(request, inference.work, inference)


class _Inference:
    """One request of ``/infer``: its work, and the form of its response.

    Args:
        json_bodies: limits how many requests without bytes after the JSON are in memory at once.
    """

    def __init__(self, json_bodies: _JsonBodies) -> None:
        self._json_bodies = json_bodies
        self._call: tensors.Call | None = None

    async def work(self, exchange: Exchange) -> Classification:
        """Read the request and classify its video."""
        name = _check_model(exchange.request).name
        manifest = exchange.use(exchange.server.version_of(name))
        started = time.perf_counter()
        length = _header_length(exchange.request)
        if length is None:
            async with self._json_bodies.read(exchange) as (call, video):
                return await self._classify(exchange, manifest, call, video, started)
        exchange.check_declared_size(beside_video=length + tensors.LENGTH_PREFIX_BYTES)
        call = tensors.parse_call(await exchange.body.readexactly(length), binary=True)
        tensors.check_prefix(await exchange.body.readexactly(tensors.LENGTH_PREFIX_BYTES), call)
        video = Body(exchange.body.last_chunks(call.video_bytes), None, call.video_bytes)
        return await self._classify(exchange, manifest, call, video, started)

    async def _classify(
        self, exchange: Exchange, manifest: Manifest, call: tensors.Call, video: Body, started: float
    ) -> Classification:
        self._call = call
        parameters = parse_parameters(call.parameters, manifest)
        return await exchange.classify(video, _less_time(parameters, time.perf_counter() - started))

    def result(self, result: Classification) -> Response:
        """The tensors that were asked for, as JSON or as bytes after it."""
        if self._call is None:
            raise RuntimeError("there is no result before the request has been read")
        body, head = tensors.answer(self._call, result)
        headers = {"Server-Timing": result.timing_ms.server_timing()}
        if head is None:
            return Response(body, media_type="application/json", headers=headers)
        return Response(body, media_type="application/octet-stream", headers={**headers, HEADER_LENGTH: str(head)})

    def problem(self, problem: Problem, request_id: str) -> Response:
        """The protocol's form of an error."""
        return protocol_response(problem)


class _JsonBodies:
    """Reads requests whose video is in the JSON, and limits how many of them are being read."""

    def __init__(self) -> None:
        self._reading: Counter[str] = Counter()

    @asynccontextmanager
    async def read(self, exchange: Exchange) -> AsyncIterator[tuple[tensors.Call, Body]]:
        """The request without its video, and the video, which lies on the disk for the block.

        Raises:
            TooLarge: the body is larger than a request in JSON may be.
            Overloaded: too many such requests are being read, or there is no space.
            BadParameter: the JSON is not a request.
        """
        limit = min(MAX_JSON_BYTES, exchange.server.settings.max_upload_bytes // 3 * 4 + MAX_HEADER_BYTES)
        too_large = f"a request in JSON may have {limit} bytes; send larger videos as binary data, or to /classify"
        if exchange.body.declared_bytes is not None and exchange.body.declared_bytes > limit:
            raise TooLarge(too_large)
        with self._place(exchange.caller), open_spool() as spool:
            call = await _separate(exchange.body.chunks(), spool, limit, too_large)
            video = call.video
            chunks = _stored_chunks(spool) if video is None else _one_chunk(video)
            yield replace(call, video=None), Body(chunks, None, spool.size if video is None else len(video))

    @contextmanager
    def _place(self, caller: str) -> Iterator[None]:
        if self._reading.total() >= MAX_JSON_AT_ONCE or self._reading[caller] >= MAX_JSON_OF_ONE_CALLER:
            raise Overloaded(
                f"{MAX_JSON_AT_ONCE} requests in JSON are in progress, or {MAX_JSON_OF_ONE_CALLER} of this caller, the "
                "most allowed at once; binary data has no such limit"
            )
        self._reading[caller] += 1
        try:
            yield
        finally:
            self._reading[caller] -= 1
            self._reading += Counter()  # forgets who has none


async def _separate(chunks: AsyncIterator[bytes], spool: Spool, limit: int, too_large: str) -> tensors.Call:
    """Read a request; its video goes into the spool unless it is short."""
    taken = VideoInJson(spool.write)
    received = 0
    try:
        async for chunk in chunks:
            received += len(chunk)
            if received > limit:
                raise TooLarge(too_large)
            taken.feed(chunk)
    except OSError as error:
        raise not_stored(error) from error
    return tensors.parse_call(taken.finish(), binary=False, video_bytes=spool.size if taken.found else None)


async def _stored_chunks(spool: Spool) -> AsyncIterator[bytes]:
    for start in range(0, spool.size, CHUNK_BYTES):
        yield os.pread(spool.fd, CHUNK_BYTES, start)
        await asyncio.sleep(0)  # others' turn: the next chunk is there at once


async def _one_chunk(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _less_time(parameters: Parameters, spent_seconds: float) -> Parameters:
    """The parameters with the time that has passed taken off the deadline, which counts from the first byte.

    Raises:
        DeadlinePassed: no time is left.
    """
    if parameters.deadline_ms is None:
        return parameters
    left = parameters.deadline_ms - spent_seconds * 1e3
    if left <= 0:
        raise DeadlinePassed
    return replace(parameters, deadline_ms=left)


def _header_length(request: Request) -> int | None:
    given = request.headers.get(HEADER_LENGTH)
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) < 9 and 2 <= int(given) <= MAX_HEADER_BYTES):
        raise BadParameter(f"{HEADER_LENGTH} must be a whole number from 2 to {MAX_HEADER_BYTES}, got {given[:40]!r}")
    return int(given)


def _check_model(request: Request) -> Manifest:
    """The manifest of the model that the path names.

    Raises:
        UnknownModel: there is no such model, or it has another version.
    """
    manifest = server_state(request).models.of(request.path_params["name"]).manifest
    wanted = request.path_params.get("version", manifest.version)
    if wanted != manifest.version:
        raise UnknownModel(
            f"there is no version {wanted[:40]!r} of {manifest.name}; this service has version {manifest.version}"
        )
    return manifest


def _server() -> ServerMetadata:
    return ServerMetadata(name=NAME, version=_version(), extensions=EXTENSIONS)


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), media_type="application/json")


def _version() -> str:
    try:
        return version("adafocus")
    except PackageNotFoundError:
        return "0"
