"""What every request gets, whatever its route: an id, an answer even to a fault of ours, and one line in the log.

Pure ASGI: a middleware that wraps requests in objects of its own would hide the client's leaving.
"""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Internal
from service.http.context import RequestContext
from service.http.problems import problem_response
from service.telemetry import trace_context
from service.telemetry.metrics import Metrics

HEADER = "X-Request-ID"

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})

logger = logging.getLogger("adafocus.request")


class RequestScope:
    """Names each request, passes its trace on, answers for what nobody caught, and logs one line when it has ended."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event scope."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        record = _record(Headers(scope=scope))
        scope.setdefault("state", {}).update(request_id=record.request_id, record=record)
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(record.headers)
            await send(message)

        try:
            await self.app(scope, receive, send_named)
        except Exception:
            logger.exception("a request failed", extra={"fields": {"request_id": record.request_id}})
            if status:
                raise
            await problem_response(Internal(), record.request_id)(scope, receive, send_named)
        finally:
            _log(scope, record, status)
            self._metrics.http_answered(_route(scope), status, time.perf_counter() - record.started)


class HeadLikeGet:
    """Answers HEAD as GET would be answered, without the body: whoever watches a service often asks so."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event scope."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_no_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        as_get = {**scope, "method": "GET"}
        try:
            await self.app(as_get, receive, send_no_body)
        finally:
            if "route" in as_get:  # the log and the metrics name it
                scope["route"] = as_get["route"]


def _record(headers: Headers) -> RequestContext:
    record = RequestContext(_request_id(headers), time.perf_counter())
    record.headers[HEADER] = record.request_id
    trace = trace_context.parse(headers.get(trace_context.HEADER))
    if trace is not None:
        record.trace = trace
        record.headers[trace_context.HEADER] = trace.text
        record.fields |= {"trace_id": trace.trace_id, "parent_id": trace.parent_id}
    return record


def _request_id(headers: Headers) -> str:
    given = headers.get(HEADER, "")
    return given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex


def _route(scope: Scope) -> str | None:
    """The template of the route that answered, never the path that was asked for."""
    template: str | None = getattr(scope.get("route"), "path", None)
    return template


def _log(scope: Scope, record: RequestContext, status: int) -> None:
    fields = {
        "request_id": record.request_id,
        "method": scope["method"],
        "route": _route(scope),
        "status": status,
        "duration_ms": round((time.perf_counter() - record.started) * 1e3, 2),
        **record.fields,
    }
    logger.log(logging.DEBUG if scope["path"] in _QUIET else logging.INFO, "request", extra={"fields": fields})
