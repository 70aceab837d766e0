"""The errors that a request can be answered with.

    Problem
    ├── EmptyBody              400 empty_body
    ├── NoVideoPart            400 no_video_part
    ├── BadParameter           400 bad_parameter
    ├── UrlNotAllowed          400 url_not_allowed
    ├── Unauthorized           401 unauthorized
    ├── NotPermitted           403 not_permitted
    ├── NotFound               404 not_found
    ├── UnknownModel           404 unknown_model
    ├── MethodNotAllowed       405 method_not_allowed
    ├── UploadTimeout          408 upload_timeout
    ├── BadBundle              409 bad_bundle
    ├── TooLarge               413 too_large
    ├── UnsupportedMedia       415 unsupported_media
    ├── UnsupportedEncoding    415 unsupported_encoding (Accept-Encoding)
    ├── Undecodable            422 undecodable
    ├── NoVideoStream          422 no_video_stream
    ├── TooManyPixels          422 too_many_pixels
    ├── TooLong                422 too_long
    ├── SourceUnavailable      424 source_unavailable
    ├── RateLimited            429 rate_limited (Retry-After)
    ├── Internal               500 internal
    ├── Overloaded             503 overloaded   (Retry-After)
    ├── Unavailable            503 unavailable  (Retry-After)
    ├── Draining               503 draining     (Retry-After; also while starting)
    └── DeadlinePassed         504 deadline

The packages below HTTP raise these directly. Errors of the package `video` are mapped by their ``code`` in one place,
`problem_from_video_error`. Any other exception becomes `Internal`, and its details stay in the log.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol, cast

Outcome = Literal["ok", "client_error", "rejected", "cancelled", "deadline", "error"]
"""How a request ended, as the metrics and the log call it."""

PROBLEM_JSON = "application/problem+json"
"""The media type of an error response (RFC 9457)."""

TYPE_PREFIX = "urn:adafocus:problem:"
"""A problem's ``type`` is this prefix and its code: a stable name, not a URL to fetch."""


class Problem(Exception):  # noqa: N818 - RFC 9457's word for it
    """A request that is answered with an error. The base class of all problems.

    Args:
        detail: one sentence for the caller: what was wrong, the value, and what is allowed. Names no files and no
            internals.
        headers: sent with the error response.
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
        """The RFC 9457 document of this problem for the request with that id."""
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
    """The request is wrong; the same request will fail again."""

    outcome = "client_error"


class EmptyBody(ClientProblem):
    """The body, or the form's video part, has no bytes."""

    status, code, title = 400, "empty_body", "The body is empty"


class NoVideoPart(ClientProblem):
    """The multipart body has no part named ``video`` or ``file``, or cannot be parsed."""

    status, code, title = 400, "no_video_part", "The form has no video"


class BadParameter(ClientProblem):
    """A parameter is unknown, repeated or out of range."""

    status, code, title = 400, "bad_parameter", "Invalid parameter"


class UrlNotAllowed(ClientProblem):
    """The scheme or the host of the URL, or an address that the host resolves to, is not permitted."""

    status, code, title = 400, "url_not_allowed", "The URL is not allowed"


class Unauthorized(ClientProblem):
    """An API key is required, and none or a wrong one was sent."""

    status, code, title = 401, "unauthorized", "An API key is required"

    def __init__(
        self, detail: str = "no valid API key was sent; send one as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
    ) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer realm="adafocus"'})


class NotPermitted(ClientProblem):
    """The settings do not permit it to anybody."""

    status, code, title = 403, "not_permitted", "Not permitted"


class NotFound(ClientProblem):
    """The path does not exist."""

    status, code, title = 404, "not_found", "Not found"


class UnknownModel(ClientProblem):
    """No model of that name or version is served."""

    status, code, title = 404, "unknown_model", "Unknown model"


class BadBundle(ClientProblem):
    """The bundle of a model cannot be loaded; a version that was loaded before goes on."""

    status, code, title = 409, "bad_bundle", "The bundle cannot be loaded"


class MethodNotAllowed(ClientProblem):
    """The path exists, but not with this method."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"


class UploadTimeout(ClientProblem):
    """The upload stalled or is too slow."""

    status, code, title = 408, "upload_timeout", "The upload is too slow"


class TooLarge(ClientProblem):
    """The body is larger than ``max_upload_bytes``."""

    status, code, title = 413, "too_large", "The upload is too large"


class UnsupportedMedia(ClientProblem):
    """The body is not a video, or its container or codec is not on the list of supported ones."""

    status, code, title = 415, "unsupported_media", "Not a supported video"


class UnsupportedEncoding(ClientProblem):
    """The body has a ``Content-Encoding`` other than identity."""

    status, code, title = 415, "unsupported_encoding", "The body is encoded"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Accept-Encoding": "identity"})


class Undecodable(ClientProblem):
    """The video has a supported format, but no frame of it can be decoded."""

    status, code, title = 422, "undecodable", "The video cannot be decoded"


class NoVideoStream(ClientProblem):
    """The container is supported but has no video stream."""

    status, code, title = 422, "no_video_stream", "No video stream"


class TooManyPixels(ClientProblem):
    """The frames are larger than ``max_pixels``."""

    status, code, title = 422, "too_many_pixels", "The frames are too large"


class TooLong(ClientProblem):
    """The video lasts longer than ``max_video_seconds``."""

    status, code, title = 422, "too_long", "The video is too long"


class SourceUnavailable(ClientProblem):
    """The URL could not be read: refused, not found, too slow, or changed while it was read."""

    status, code, title = 424, "source_unavailable", "The URL cannot be read"


class Internal(Problem):
    """A fault of the service. The caller learns the request id and nothing internal."""

    def __init__(
        self, detail: str = "the service failed to handle this request; please report it with the request id"
    ) -> None:
        super().__init__(detail)


class Rejection(Problem):
    """The request is valid but not accepted now; the response says when to try again."""

    status: ClassVar[int] = 503
    outcome: ClassVar[Outcome] = "rejected"

    def __init__(self, detail: str, *, retry_after: float = 1.0) -> None:
        super().__init__(detail, headers={"Retry-After": str(max(1, math.ceil(retry_after)))})


class RateLimited(Rejection):
    """The caller has sent more requests than the limit allows. Counted as a client error, not as a rejection."""

    status, code, title, outcome = 429, "rate_limited", "Too many requests", "client_error"


class Overloaded(Rejection):
    """The queue is full, or there is no space for the upload."""

    code, title = "overloaded", "Overloaded"

    def __init__(self, detail: str = "all slots and queue places are taken", *, retry_after: float = 1.0) -> None:
        super().__init__(detail, retry_after=retry_after)


class Unavailable(Rejection):
    """The machine fails the service: no descriptors, no memory, no disk. An error, though not one of the request."""

    code, title, outcome = "unavailable", "Temporarily unavailable", "error"

    def __init__(self, detail: str = "this machine has no resources left for the request", *, retry_after: float = 5.0):
        super().__init__(detail, retry_after=retry_after)


MACHINE_ERRORS = frozenset(
    {
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN),  # descriptors, memory, processes
        *(errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO),  # the folder for uploads
    }
)
"""Errors of the system that say something about the machine and nothing about the request."""


class Draining(Rejection):
    """The service is starting or shutting down."""

    code, title = "draining", "Not ready"

    def __init__(
        self,
        detail: str = "the model is still being loaded, or the service is shutting down",
        *,
        retry_after: float = 5.0,
    ) -> None:
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
    UrlNotAllowed,
    Unauthorized,
    NotPermitted,
    NotFound,
    UnknownModel,
    MethodNotAllowed,
    UploadTimeout,
    BadBundle,
    TooLarge,
    UnsupportedMedia,
    UnsupportedEncoding,
    Undecodable,
    NoVideoStream,
    TooManyPixels,
    TooLong,
    SourceUnavailable,
    RateLimited,
    Internal,
    Overloaded,
    Unavailable,
    Draining,
    DeadlinePassed,
)
"""Every concrete problem. The API description and the labels of a metric are made from it."""

OF_MODELS: tuple[type[Problem], ...] = (NotPermitted, BadBundle)
"""Those of the routes that load and unload models: no classification is answered with them."""

_OF_A_VIDEO: dict[str, type[Problem]] = {
    problem.code: problem for problem in (UnsupportedMedia, NoVideoStream, Undecodable, TooManyPixels, TooLong)
}


class CodedError(Protocol):
    """An error with a code, such as `video.errors.VideoError`."""

    @property
    def code(self) -> str:
        """A code of `video.errors`."""


def problem_from_code(code: str, detail: str) -> Problem:
    """The problem for a code of `video.errors`, as a decode worker reports it; `Internal` for any other code."""
    kind = _OF_A_VIDEO.get(code)
    return Internal() if kind is None else kind(detail)


def problem_from_video_error(error: CodedError) -> Problem:
    """The problem for a `video.errors.VideoError`, with the same text.

    Raise it ``from`` the error.
    """
    return problem_from_code(error.code, str(cast("Exception", error)))
