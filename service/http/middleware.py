"""Middleware for every route: a request id, a response to uncaught exceptions, and one line in the log.

Pure ASGI: a middleware that wraps requests in its own objects would hide that a client disconnects.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from urllib.parse import urlsplit, urlunsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adafocus.service.errors import Internal
from adafocus.service.http.context import RequestContext
from adafocus.service.http.head import Head, head_of
from adafocus.service.http.problems import problem_response
from adafocus.service.telemetry import trace_context
from adafocus.service.telemetry.logs import log_fields
from adafocus.service.telemetry.metrics import Metrics

HEADER = "X-Request-ID"
_HEADER = HEADER.lower().encode()
_TRACE_HEADER = trace_context.HEADER.encode()

_VALID_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})

logger = logging.getLogger("adafocus.request")


class RequestScope:
    """Gives each request an id, echoes its trace, answers uncaught exceptions with 500, and logs one line."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event scope."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        context = _new_context(head_of(scope))
        state = scope["state"]
        state["request_id"], state["context"] = context.request_id, context

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                _make_location_relative(message)
                message["headers"] = [*message.get("headers", ()), *context.raw_headers()]
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except Exception:
            logger.exception("unhandled exception", extra={"fields": {"request_id": context.request_id}})
            if context.status:
                raise
            await problem_response(Internal(), context.request_id)(scope, receive, send_with_headers)
        finally:
            _log(scope, context)
            self._metrics.http_answered(_route(scope), context.status, time.perf_counter() - context.started)


class HeadLikeGet:
    """Answers HEAD like GET without the body; monitoring tools often send it."""

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


def _make_location_relative(message: Message) -> None:
    """Redirect within this service by path: the framework would copy the Host header, which anybody can set."""
    if 300 <= message["status"] < 400:
        message["headers"] = [
            (name, _without_host(value) if name.lower() == b"location" else value) for name, value in message["headers"]
        ]


def _without_host(location: bytes) -> bytes:
    parts = urlsplit(location.decode("latin-1"))
    return urlunsplit(("", "", parts.path or "/", parts.query, parts.fragment)).encode("latin-1")


def _new_context(head: Head) -> RequestContext:
    context = RequestContext(request_id_of(head), time.perf_counter())
    context.headers[HEADER] = context.request_id
    trace = trace_context.parse(head.get(_TRACE_HEADER))
    if trace is not None:
        context.trace = trace
        context.headers[trace_context.HEADER] = trace.text
        context.fields |= {"trace_id": trace.trace_id, "parent_id": trace.parent_id}
    return context


def request_id_of(head: Head) -> str:
    """The id of the request with this head: echoed or made."""
    given = head.get(_HEADER)
    return given if given and _VALID_ID.fullmatch(given) else secrets.token_hex(16)


def _route(scope: Scope) -> str | None:
    """The template of the route that matched, never the requested path."""
    template: str | None = getattr(scope.get("route"), "path", None)
    return template


def _log(scope: Scope, context: RequestContext) -> None:
    fields = {
        "request_id": context.request_id,
        "method": scope["method"],
        "route": _route(scope),
        "status": context.status,
        "duration_ms": round((time.perf_counter() - context.started) * 1e3, 2),
        **context.fields,
    }
    log_fields(logger, logging.DEBUG if scope["path"] in _QUIET_PATHS else logging.INFO, "request", fields)
