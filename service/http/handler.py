"""One classification that somebody asked for, from its first byte to how it ended, whatever the protocol.

The routes differ in how they say things; what they say is counted and logged here, once for each request.
"""

from __future__ import annotations

import logging
import time

from starlette.requests import Request

from service.classify import Body, classify
from service.errors import Internal, Outcome, Problem, TooLarge, UnsupportedEncoding
from service.http.body import Pace, Upload
from service.http.context import RequestContext, context_of
from service.http.state import ServerState
from service.progress import Observer
from service.schemas.classify import Classification, Parameters
from service.telemetry.timeline import Timeline

logger = logging.getLogger("adafocus.visit")


class Visit:
    """A classification on its way. It has ended once one of `answered`, `failed` and `end` was called."""

    def __init__(self, request: Request, service: ServerState) -> None:
        self.service = service
        self._request = request
        limits = service.settings
        self.upload = Upload(
            request.receive,
            request.headers,
            linger_bytes=limits.max_upload_bytes,
            pace=Pace(limits.min_upload_bytes_per_second, limits.upload_timeout_seconds),
        )
        self._record: RequestContext = context_of(request.scope["state"])
        self._ended = False
        self._timeline = Timeline()
        self._span = service.tracer.begin(f"{request.method} {request.scope['route'].path}", self._record.trace)
        if self._span.trace_id is not None:
            self._record.fields["trace_id"] = self._span.trace_id

    @property
    def id(self) -> str:
        """The request's id."""
        return self._record.request_id

    def body(self, content_type: str | None) -> Body:
        """The request's body; a raw one of announced length lets the decoder know where the file will end."""
        is_form = (content_type or "").strip().lower().startswith("multipart/")
        return Body(self.upload.chunks(), content_type, None if is_form else self.upload.declared)

    def enter(self) -> None:
        """Refuse whoever may not come in, and a body that is sent encoded, before a byte of it is read.

        Raises:
            Unauthorized: none or a wrong key was sent.
            RateLimited: the caller has spent what a minute allows.
            UnsupportedEncoding: decompressing would make a large upload of a small one, and videos hardly shrink.
        """
        self.service.access.enter(self._request)
        given = ",".join(self._request.headers.getlist("content-encoding"))
        if {coding.strip().lower() for coding in given.split(",")} - {"", "identity"}:
            raise UnsupportedEncoding(f"Content-Encoding is {given[:40]!r}; the body is taken as it is, without one")

    def refuse_what_is_too_large(self, beside: int = 0) -> None:
        """Say no to a body by the size that it announces, before it is read.

        Args:
            beside: bytes of the body that are not the video's.

        Raises:
            TooLarge: it announces more than is permitted.
        """
        declared, most = self.upload.declared, self.service.settings.max_upload_bytes + beside
        if declared is not None and declared > most:
            raise TooLarge(f"{declared} bytes were announced; at most {most} are permitted")

    async def classified(self, body: Body, ask: Parameters, observer: Observer | None = None) -> Classification:
        """Go down the straight line.

        Raises:
            Problem: there is no answer.
            ClientLeft: nobody waits for one any more.
        """
        return await classify(self.service.opened_runtime(), body, ask, self.id, observer, self._timeline)

    def answered(self, answer: Classification) -> None:
        """It ended well."""
        cost, left = answer.compute, answer.exit
        self._record.fields |= {"gflops": cost.gflops, "step": left.step, "reason": left.reason}
        self.end("ok")

    def failed(self, error: Exception) -> Problem:
        """It ended without an answer; returns what the client is told.

        A fault of ours is told to the log, and only to the log.
        """
        problem = error if isinstance(error, Problem) else Internal()
        if isinstance(problem, Internal):
            logger.error("a fault of ours", exc_info=error, extra={"fields": {"request_id": self.id}})
        self._record.fields["code"] = problem.code
        self.service.metrics.problem_answered(problem.code)
        self.end(problem.outcome)
        return problem

    def end(self, outcome: Outcome = "cancelled") -> None:
        """It ended; the first word counts. Without one, the client has left or the service is closing."""
        if self._ended:
            return
        self._ended = True
        self._record.fields["outcome"] = outcome
        self.service.metrics.request_finished(
            outcome,
            time.perf_counter() - self._record.started,
            uploaded_bytes=self.upload.received,
            exemplar=self._exemplar(),
        )
        told = {name: value for name, value in self._record.fields.items() if isinstance(value, str | int | float)}
        self._span.end(self._timeline, {"request_id": self.id, **told}, failed=outcome == "error")

    def _exemplar(self) -> dict[str, str]:
        """What leads from a measurement to this request; both ids together stay below what OpenMetrics permits."""
        trace_id = self._span.trace_id
        return {"request_id": self.id} | ({"trace_id": trace_id} if trace_id else {})
