"""The lifecycle of a classification request, the same for ``/classify``, its event stream and ``/v2``.

`handle` checks the key and the rate limit, runs the route's ``work`` while it watches for the client to disconnect,
turns exceptions into problems, and counts, logs and traces the request exactly once. The routes supply what differs:
``work`` reads the request and classifies; a `Renderer` puts the result, or the problem, into a response.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from adafocus.bundle.manifest import Manifest
from adafocus.service.errors import (
    MACHINE_ERRORS,
    Internal,
    Outcome,
    Problem,
    TooLarge,
    Unavailable,
    UnsupportedEncoding,
)
from adafocus.service.http.body import BODY_HAS_ARRIVED, ON_DISCONNECT, BodyReader, ClientDisconnected
from adafocus.service.http.context import RequestContext, context_of
from adafocus.service.http.early_response import MIN_DISCARD_BYTES, send_response
from adafocus.service.http.head import head_of
from adafocus.service.http.state import ServerState, server_state
from adafocus.service.models.version import LoadedVersion
from adafocus.service.progress import Observer
from adafocus.service.reception import Video
from adafocus.service.schemas.classify import Classification
from adafocus.service.schemas.parameters import Parameters
from adafocus.service.segments import SegmentObserver
from adafocus.service.telemetry.timeline import UNTIMED, Timeline
from adafocus.service.telemetry.tracing import RequestSpan, Untraced
from adafocus.service.windows import classify_video

CLIENT_CLOSED_REQUEST = 499
"""The status in the log of a request whose client disconnected before the response; it is never sent."""

Result = TypeVar("Result")

logger = logging.getLogger("adafocus.handler")


class Renderer(Protocol):
    """Builds the response from the outcome of a request."""

    def result(self, result: Classification) -> Response:
        """The response to a request that was answered."""

    def problem(self, problem: Problem, request_id: str) -> Response:
        """The response to a request that was not."""


@dataclass(slots=True)
class Exchange:
    """One request in progress, as its ``work`` sees it.

    Attributes:
        request: its head.
        body: its body.
        server: what it may use.
        context: what the log will say about it.
        send: the ASGI server's, for ``work`` that sends before it has a result.
        timeline: where its time went.
        caller: whose it is, once it has been admitted.
        version: of the model that it runs on, once that is known; it is not closed before the request ends.
    """

    request: Request
    body: BodyReader
    server: ServerState
    context: RequestContext
    send: Send
    timeline: Timeline = UNTIMED
    caller: str = ""
    version: LoadedVersion | None = None

    def use(self, version: LoadedVersion) -> Manifest:
        """Have the request run on this version, even if another one takes its place; returns its manifest."""
        if self.version is not None:
            raise RuntimeError("a request runs on one version of one model")
        self.version = version
        manifest = version.take().manifest
        self.context.fields["model"] = manifest.name
        return manifest

    def check_declared_size(self, beside_video: int = 0) -> None:
        """Reject a body by its Content-Length, before it is read.

        Args:
            beside_video: bytes of the body that are not the video's.

        Raises:
            TooLarge: it is larger than the settings allow.
        """
        declared, limit = self.body.declared_bytes, self.server.settings.max_upload_bytes + beside_video
        if declared is not None and declared > limit:
            raise TooLarge(f"the body has {declared} bytes; the limit is {limit}")

    async def classify(
        self,
        video: Video,
        parameters: Parameters,
        observer: Observer | None = None,
        segment_observer: SegmentObserver | None = None,
    ) -> Classification:
        """Classify a video on the version that was given to `use`.

        Raises:
            Problem: there is no answer.
            ClientDisconnected: the client closed the connection during the upload.
        """
        if self.version is None:
            raise RuntimeError("it is not known which model the request runs on")
        runtime = self.version.runtime
        request_id = self.context.request_id
        return await classify_video(
            runtime,
            video,
            parameters,
            request_id,
            observer,
            self.timeline,
            self.caller,
            segment_observer,
            self.server.second,
        )


Work = Callable[[Exchange], Awaitable[Classification]]
"""Reads a request and classifies its video; raises `Problem` where there is no answer."""


def handle(request: Request, work: Work, renderer: Renderer) -> Response:
    """Handle a classification request. The work is done when the returned response is sent."""
    return _Handling(request, work, renderer)


class _Handling(Response):
    """Does the work of a request once the ASGI server's ``send`` is known."""

    def __init__(self, request: Request, work: Work, renderer: Renderer) -> None:
        self.background = None  # of the rest of a response nothing is known yet
        self._request = request
        self._work = work
        self._renderer = renderer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Do the work and send its response."""
        server = server_state(self._request)
        has_arrived = (scope.get("extensions") or {}).get(BODY_HAS_ARRIVED, _unknown)
        body = BodyReader(receive, head_of(scope), server.upload_limits, has_arrived=has_arrived)
        exchange = Exchange(self._request, body, server, context_of(scope["state"]), send)
        response = await _respond(exchange, self._work, self._renderer)
        if response is not None:
            if "code" in exchange.context.fields:
                caller = exchange.caller or server.access.address(scope)
                await server.pace_problem(caller, refused=exchange.context.fields["outcome"] == "rejected")
            most = max(server.settings.max_upload_bytes, MIN_DISCARD_BYTES)
            await send_response(response, body, most, scope, send)


def _unknown() -> bool:
    """Stand for a server that does not tell whether it has the whole body."""
    return False


async def _respond(exchange: Exchange, work: Work, renderer: Renderer) -> Response | None:
    """Run ``work`` and record once how the request ended; returns None if the client has disconnected."""
    context, server = exchange.context, exchange.server
    span = server.tracer.begin(f"{exchange.request.method} {exchange.request.scope['route'].path}", context.trace)
    if not isinstance(span, Untraced):
        exchange.timeline = Timeline()
    if span.trace_id is not None:
        context.fields["trace_id"] = span.trace_id
    outcome: Outcome = "cancelled"
    try:
        exchange.caller = server.access.admit(exchange.request)
        _check_encoding(exchange.request)
        result = await _unless_client_disconnects(
            work(exchange), exchange.body, exchange.request.scope.get("extensions") or {}
        )
        response = renderer.result(result)
        context.fields |= {"gflops": result.compute.gflops, "step": result.exit.step, "reason": result.exit.reason}
        outcome = "ok"
        return response
    except ClientDisconnected:
        context.status = context.status or CLIENT_CLOSED_REQUEST
        return None
    except Exception as error:  # noqa: BLE001 - the only place where exceptions become responses
        problem = _problem_of(error, context.request_id)
        context.fields["code"] = problem.code
        server.metrics.problem_answered(problem.code)
        outcome = problem.outcome
        return renderer.problem(problem, context.request_id)
    finally:
        exchange.body.close()
        if exchange.version is not None:
            exchange.version.give_back()
        _record(exchange, outcome, span)


def _record(exchange: Exchange, outcome: Outcome, span: RequestSpan) -> None:
    """Count, log and trace a request that has ended. `RequestScope` writes the line of the log."""
    context = exchange.context
    context.fields["outcome"] = outcome
    metrics = exchange.server.metrics
    if exchange.version is not None:
        metrics.model_request_finished(exchange.version.runtime.manifest.name, outcome)
    metrics.request_finished(
        outcome,
        time.perf_counter() - context.started,
        uploaded_bytes=exchange.body.received_bytes,
        exemplar={"request_id": context.request_id} | ({"trace_id": span.trace_id} if span.trace_id else {}),
    )
    if isinstance(span, Untraced):
        return
    attributes = {name: value for name, value in context.fields.items() if isinstance(value, str | int | float)}
    span.end(exchange.timeline, {"request_id": context.request_id, **attributes}, failed=outcome == "error")


async def _unless_client_disconnects(
    work: Awaitable[Result], body: BodyReader, extensions: Mapping[str, object]
) -> Result:
    """Await ``work``; cancel it if the client disconnects after its upload.

    During the upload, the code that reads the body notices a disconnect.

    Raises:
        ClientDisconnected: the client is gone, and the work has cleaned up.
    """
    watch = _DisconnectWatch(body, extensions)
    try:
        return await work
    except asyncio.CancelledError:
        if watch.has_cancelled and watch.request_task.uncancel() == 0:  # only the watch has cancelled it
            raise ClientDisconnected from None
        raise
    finally:
        watch.stop()


class _DisconnectWatch:
    """Cancels the current task when the client disconnects after its upload."""

    def __init__(self, body: BodyReader, extensions: Mapping[str, object]) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request is handled in a task")
        self.request_task = task
        self.has_cancelled = False
        self._body = body
        self._watching: asyncio.Task[None] | None = None
        tell = extensions.get(ON_DISCONNECT)
        self._tell = tell if callable(tell) else None
        self._told = False
        if body.complete:
            self._start()
        else:
            body.on_complete = self._start

    def stop(self) -> None:
        self._body.on_complete = None
        if self._watching is not None:
            self._watching.cancel()
        if self._told and self._tell is not None:
            self._tell(None)

    def _start(self) -> None:
        if self._tell is not None:
            self._told = True
            self._tell(self._cancel)
            return
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        await self._body.wait_for_disconnect()
        self._cancel()

    def _cancel(self) -> None:
        self.has_cancelled = self.request_task.cancel()


def _check_encoding(request: Request) -> None:
    """Reject an encoded body: decompressing makes a large upload of a small one, and videos hardly shrink.

    Raises:
        UnsupportedEncoding: the body has a Content-Encoding other than identity.
    """
    given = ",".join(head_of(request.scope).all(b"content-encoding"))
    if given and {coding.strip().lower() for coding in given.split(",")} - {"", "identity"}:
        raise UnsupportedEncoding(f"Content-Encoding is {given[:40]!r}; only identity is supported")


def _problem_of(error: Exception, request_id: str) -> Problem:
    """Return the problem that the client is sent for an exception. Details of an internal error go to the log only."""
    problem = error if isinstance(error, Problem) else Internal()
    if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
        problem = Unavailable()
    if isinstance(problem, Unavailable):
        cause = error if isinstance(error, OSError) else error.__cause__
        logger.error("the machine has failed a request: %s", cause, extra={"fields": {"request_id": request_id}})
    if isinstance(problem, Internal):
        logger.error("internal error", exc_info=error, extra={"fields": {"request_id": request_id}})
    return problem
