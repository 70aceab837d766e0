"""Every way a request can fail, drawn once.

    Problem
    ├── EmptyBody              400 empty_body
    ├── NoVideoPart            400 no_video_part
    ├── BadParameter           400 bad_parameter
    ├── Unauthorized           401 unauthorized
    ├── NotFound               404 not_found
    ├── MethodNotAllowed       405 method_not_allowed
    ├── UploadTimeout          408 upload_timeout
    ├── TooLarge               413 too_large
    ├── UnsupportedMedia       415 unsupported_media
    ├── UnsupportedEncoding    415 unsupported_encoding (Accept-Encoding)
    ├── Undecodable            422 undecodable
    ├── NoVideoStream          422 no_video_stream
    ├── TooManyPixels          422 too_many_pixels
    ├── TooLong                422 too_long
    ├── RateLimited            429 rate_limited (Retry-After)
    ├── Internal               500 internal
    ├── Overloaded             503 overloaded   (Retry-After)
    ├── Draining               503 draining     (Retry-After; also while starting)
    └── DeadlinePassed         504 deadline

Runtime below HTTP raise these directly. Errors of the video room are mapped by their ``code`` at one seam,
`problem_from_video_error`. What is not a `Problem` is a fault of ours and leaves as `Internal`, with nothing inside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol, cast

Outcome = Literal["ok", "client_error", "rejected", "cancelled", "deadline", "error"]
"""How a request ended, as the metrics and the log name it."""

PROBLEM_JSON = "application/problem+json"
"""Media type of an error answer (RFC 9457)."""

TYPE_PREFIX = "urn:adafocus:problem:"
"""A problem's ``type`` is this prefix and its code: a stable name, not a page to fetch."""


class Problem(Exception):  # noqa: N818 - RFC 9457's word for it
    """A request that gets no answer, and why.

    Args:
        detail: one sentence for the caller: the value that was wrong and what is permitted. No file names, no
            inside information.
        headers: sent with the error answer.
        extra: further members of the problem document.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    outcome: ClassVar[Outcome] = "error"

    def __init__(
        self, detail: str, *, headers: Mapping[str, str] | None = None, extra: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers: dict[str, str] = dict(headers or {})
        self.extra: dict[str, object] = dict(extra or {})

    def document(self, request_id: str) -> dict[str, object]:
        """The RFC 9457 document of this problem as it met the named request."""
        return {
            "type": TYPE_PREFIX + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": f"urn:adafocus:request:{request_id}",
            "code": self.code,
            **self.extra,
        }


class ClientProblem(Problem):
    """The request is at fault; the same request will fail again."""

    outcome = "client_error"


class EmptyBody(ClientProblem):
    """The body held no bytes."""

    status, code, title = 400, "empty_body", "The body is empty"


class NoVideoPart(ClientProblem):
    """A multipart body without a part named ``video`` or ``file``, or one that cannot be parsed."""

    status, code, title = 400, "no_video_part", "The form holds no video"


class BadParameter(ClientProblem):
    """A query parameter that is unknown, repeated or out of range."""

    status, code, title = 400, "bad_parameter", "A parameter is not acceptable"


class Unauthorized(ClientProblem):
    """A key is configured, and none or a wrong one was sent."""

    status, code, title = 401, "unauthorized", "An API key is needed"

    def __init__(self, detail: str = "send a valid key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'") -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer realm="adafocus"'})


class NotFound(ClientProblem):
    """No such route."""

    status, code, title = 404, "not_found", "There is nothing here"


class MethodNotAllowed(ClientProblem):
    """The route exists, the method does not."""

    status, code, title = 405, "method_not_allowed", "The method is not allowed here"


class UploadTimeout(ClientProblem):
    """The upload stalled."""

    status, code, title = 408, "upload_timeout", "The upload stalled"


class TooLarge(ClientProblem):
    """The body is larger than ``max_upload_bytes``."""

    status, code, title = 413, "too_large", "The upload is too large"


class UnsupportedMedia(ClientProblem):
    """Not a video, or a container or codec that is not on the list."""

    status, code, title = 415, "unsupported_media", "Not a supported video"


class UnsupportedEncoding(ClientProblem):
    """The body was sent with a ``Content-Encoding``; it is taken as it is only."""

    status, code, title = 415, "unsupported_encoding", "The body is encoded"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Accept-Encoding": "identity"})


class Undecodable(ClientProblem):
    """A video of a supported kind of which not one frame can be had."""

    status, code, title = 422, "undecodable", "The video cannot be decoded"


class NoVideoStream(ClientProblem):
    """A supported container without a video stream."""

    status, code, title = 422, "no_video_stream", "There is no video stream"


class TooManyPixels(ClientProblem):
    """Frames larger than ``max_pixels``."""

    status, code, title = 422, "too_many_pixels", "The frames are too large"


class TooLong(ClientProblem):
    """The video lasts longer than ``max_video_seconds``."""

    status, code, title = 422, "too_long", "The video is too long"


class Internal(Problem):
    """A fault of ours: the caller learns the request id and nothing inside."""

    def __init__(self, detail: str = "a fault on our side; quote the request id when reporting it") -> None:
        super().__init__(detail)


class Rejection(Problem):
    """A sound request that is not taken now; the answer says when to try again."""

    status: ClassVar[int] = 503
    outcome: ClassVar[Outcome] = "rejected"

    def __init__(self, detail: str, *, retry_after: float = 1.0) -> None:
        super().__init__(detail, headers={"Retry-After": str(max(1, math.ceil(retry_after)))})


class RateLimited(Rejection):
    """The caller comes more often than is permitted: its own doing, and nothing that an error budget should pay for."""

    status, code, title, outcome = 429, "rate_limited", "Too many requests", "client_error"


class Overloaded(Rejection):
    """The queue is full."""

    code, title = "overloaded", "Too busy"

    def __init__(self, detail: str = "the queue is full", *, retry_after: float = 1.0) -> None:
        super().__init__(detail, retry_after=retry_after)


class Draining(Rejection):
    """Starting up or shutting down."""

    code, title = "draining", "Not ready"

    def __init__(self, detail: str = "the service is starting or shutting down", *, retry_after: float = 5.0) -> None:
        super().__init__(detail, retry_after=retry_after)


class DeadlinePassed(Problem):
    """The deadline passed before the first step finished."""

    status, code, title, outcome = 504, "deadline", "The deadline passed", "deadline"

    def __init__(self, detail: str = "the deadline passed before the first step finished") -> None:
        super().__init__(detail)


CATALOGUE: tuple[type[Problem], ...] = (
    EmptyBody,
    NoVideoPart,
    BadParameter,
    Unauthorized,
    NotFound,
    MethodNotAllowed,
    UploadTimeout,
    TooLarge,
    UnsupportedMedia,
    UnsupportedEncoding,
    Undecodable,
    NoVideoStream,
    TooManyPixels,
    TooLong,
    RateLimited,
    Internal,
    Overloaded,
    Draining,
    DeadlinePassed,
)
"""Every concrete problem: the API description and the metric's label set are made from it."""

_OF_A_VIDEO: dict[str, type[Problem]] = {
    problem.code: problem for problem in (UnsupportedMedia, NoVideoStream, Undecodable, TooManyPixels, TooLong)
}


class CodedError(Protocol):
    """What `problem_from_video_error` needs of an error: `video.errors.VideoError` has it."""

    @property
    def code(self) -> str:
        """One of the video room's codes."""


def problem_from_code(code: str, detail: str) -> Problem:
    """The problem for a code of the video room (as a decode worker reports it); `Internal` for any other code."""
    kind = _OF_A_VIDEO.get(code)
    return Internal() if kind is None else kind(detail)


def problem_from_video_error(error: CodedError) -> Problem:
    """The problem that a `video.errors.VideoError` means to a caller; its text is passed on.

    Raise it ``from`` the error.
    """
    return problem_from_code(error.code, str(cast("Exception", error)))
