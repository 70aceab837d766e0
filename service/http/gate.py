"""Refuses classification requests that cannot be served now, before a route, a task or a line of the log is made.

A refusal that costs as much as an answer makes an overload worse: the service then spends its one event loop on saying
no. Here it costs a look at the queue, a response that is put together from prepared pieces, and a few counters; the log
gets one line a second for all of them.

Keys and rate limits are looked at first. A caller that is refused very often gets its refusals later (`pace`).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from adafocus.service.errors import PROBLEM_JSON, Draining, Problem
from adafocus.service.http.body import BodyReader
from adafocus.service.http.early_response import KEEP_ALIVE_BYTES, send_response
from adafocus.service.http.head import head_of
from adafocus.service.http.middleware import HEADER, request_id_of
from adafocus.service.http.problems import problem_json, protocol_json
from adafocus.service.http.slow_clients import UploadLimits
from adafocus.service.http.state import ServerState
from adafocus.service.telemetry import trace_context

LOG_INTERVAL_SECONDS = 1.0
MOST_LINGERING = 64
"""Refused uploads whose rest is being thrown away; beyond that the connection is closed at once."""

_CLASSIFY, _INFER, _VERSION = "/classify", "/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"

_TRACE = trace_context.HEADER.encode()

logger = logging.getLogger("adafocus.gate")


def classification_route(method: str, path: str) -> str | None:
    """The template of the route if a request asks for a classification; None otherwise."""
    if path == _CLASSIFY:
        return _CLASSIFY if method in ("POST", "PUT") else None
    if method != "POST" or not path.startswith("/v2/models/") or not path.endswith("/infer"):
        return None
    parts = path.split("/")
    if len(parts) == 5:
        return _INFER
    return _VERSION if len(parts) == 7 and parts[4] == "versions" else None


class Gate:
    """Stands before the whole application; what it does not refuse, the application handles.

    Args:
        app: the application.
        server: knows whether there is room.
        crossing: puts a refusal into the headers that cross-origin callers need; None if there are none.
        clock: in seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        server: ServerState,
        crossing: Callable[[ASGIApp], ASGIApp] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.app = app
        self._server = server
        self._clock = clock
        self._refuse: ASGIApp = self._answer if crossing is None else crossing(self._answer)
        self._log = RefusalLog(clock)
        self._lingering = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event scope."""
        if scope["type"] == "http":
            route = classification_route(scope["method"], scope["path"])
            refusal = None if route is None else self._refusal(scope)
            if refusal is not None:
                problem, caller = refusal
                scope.setdefault("state", {}).update(refusal=problem, route=route)
                await self._server.pace_problem(caller, refused=True)
                await self._refuse(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[Problem, str] | None:
        """Why a request is refused, and whose it is; None if it is not refused."""
        admission, access = self._server.admission, self._server.access
        if admission is None or self._server.rejecting:
            return Draining(), access.address(scope)
        try:
            caller = access.look(scope)
        except Problem as problem:
            return problem, access.address(scope)
        overloaded = admission.refusal(caller)
        return None if overloaded is None else (overloaded, caller)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = self._clock()
        problem: Problem = scope["state"]["refusal"]
        route: str = scope["state"]["route"]
        headers = scope["headers"]
        request_id = request_id_of(head_of(scope))
        text = problem_json(problem, request_id) if route == _CLASSIFY else protocol_json(problem)
        body = text.encode()
        fields = [
            (b"content-type", PROBLEM_JSON.encode() if route == _CLASSIFY else b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (HEADER.lower().encode(), request_id.encode()),
            *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
            *(field for field in headers if field[0] == _TRACE and trace_context.parse(field[1].decode("latin-1"))),
        ]
        self._record(problem, route, began)
        if _rest_is_small(headers):
            await send({"type": "http.response.start", "status": problem.status, "headers": fields})
            await send({"type": "http.response.body", "body": body})
            return
        await self._answer_during_upload(problem.status, fields, body, scope, receive, send)

    async def _answer_during_upload(
        self, status: int, fields: list[tuple[bytes, bytes]], body: bytes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a client that may go on to send for long, and throw away what it sends."""
        response = Response(body, status)
        response.raw_headers = fields
        most = self._server.settings.max_upload_bytes if self._lingering < MOST_LINGERING else 0
        limits = UploadLimits(self._server.settings.upload_timeout_seconds)
        self._lingering += 1
        try:
            await send_response(response, BodyReader(receive, head_of(scope), limits), most, scope, send)
        finally:
            self._lingering -= 1

    def _record(self, problem: Problem, route: str, began: float) -> None:
        metrics = self._server.metrics
        seconds = self._clock() - began
        metrics.problem_answered(problem.code)
        metrics.request_finished(problem.outcome, seconds)
        metrics.http_answered(route, problem.status, seconds)
        self._log.refused(problem.code)


def _rest_is_small(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether what the client still sends is read and thrown away by the server, after a whole response."""
    length = 0
    for name, value in headers:
        if name == b"content-length":
            length = int(value) if value.isdigit() and len(value) < 18 else KEEP_ALIVE_BYTES + 1
        elif name in (b"transfer-encoding", b"expect"):
            return False
    return length <= KEEP_ALIVE_BYTES


class RefusalLog:
    """Writes at most one line a second about refusals, with how many there were of each code.

    Args:
        clock: in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._counts: Counter[str] = Counter()
        self._since = -float("inf")

    def refused(self, code: str) -> None:
        """Count a refusal, and write what has been counted if a second has passed."""
        self._counts[code] += 1
        now = self._clock()
        if now - self._since >= LOG_INTERVAL_SECONDS:
            counts, self._counts = self._counts, Counter()
            self._since = now
            logger.warning("requests were refused", extra={"fields": {"refused": dict(counts)}})
