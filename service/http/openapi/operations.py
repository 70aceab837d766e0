"""The descriptions of requests and responses in ``/docs`` and ``/openapi.json``.

`service.http.openapi.document` adds what only the loaded bundle and the settings know.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from pydantic import BaseModel

from adafocus.service.errors import (
    CATALOGUE,
    OF_MODELS,
    PROBLEM_JSON,
    MethodNotAllowed,
    NotFound,
    Problem,
    RateLimited,
    Rejection,
    Unauthorized,
    UnsupportedEncoding,
)
from adafocus.service.http.openapi.examples import REQUEST_ID, SMALLEST_VIDEO, inference_in_bytes, inference_in_json
from adafocus.service.schemas.by_url import UrlRequest
from adafocus.service.schemas.classify import ProblemDocument
from adafocus.service.schemas.open_inference import HEADER_LENGTH, MAX_HEADER_BYTES, InferenceRequest, InferenceResponse
from adafocus.service.schemas.parameters import (
    DEFAULT_EVENT_THRESHOLD,
    DEFAULT_TOP_K,
    MAX_GFLOPS,
    MAX_MILLISECONDS,
    MAX_WINDOW_SECONDS,
    MIN_EVENT_THRESHOLD,
    MIN_WINDOW_SECONDS,
    MODEL,
    PARAMETERS,
)

ABOUT = (
    "Classifies videos with AdaFocusV2: the model looks at each sampled frame at low cost, looks closely at one patch "
    "of it, and stops as soon as it is confident. Every answer says what it cost. Errors are "
    '`application/problem+json` (RFC 9457) with a stable `code`, and `{"error": "…"}` under `/v2`. Unknown paths '
    "return 404 `not_found`, and other methods 405 `method_not_allowed`."
)
COMPONENT = "#/components/schemas/{model}"
"""The reference to the schema of a model; `service.http.openapi.document` adds the schemas."""

Json = dict[str, Any]

_PARAMETER_SCHEMAS: dict[str, Json] = {
    "exit": {"type": "string"},
    "top_k": {"type": "integer", "minimum": 1, "default": DEFAULT_TOP_K},
    "max_gflops": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_GFLOPS},
    "max_decode_ms": {"type": "number", "minimum": 1, "maximum": MAX_MILLISECONDS},
    "deadline_ms": {"type": "number", "minimum": 1, "maximum": MAX_MILLISECONDS},
    "trace": {"type": "boolean", "default": False},
    "stream": {"type": "boolean", "default": False},
    "frames": {"type": "boolean", "default": False},
    "window_s": {"type": "number", "minimum": MIN_WINDOW_SECONDS, "maximum": MAX_WINDOW_SECONDS},
    "stride_s": {"type": "number", "minimum": MIN_WINDOW_SECONDS, "maximum": MAX_WINDOW_SECONDS},
    "event_threshold": {
        "type": "number",
        "minimum": MIN_EVENT_THRESHOLD,
        "maximum": 1,
        "default": DEFAULT_EVENT_THRESHOLD,
    },
    "event_min_s": {"type": "number", "minimum": 0, "maximum": MAX_WINDOW_SECONDS, "default": 0},
    "strict": {"type": "boolean", "default": False},
}
_MODEL: Json = {
    "name": MODEL,
    "in": "query",
    "required": False,
    "description": "Name of the model. Default: the service's default model; `GET /models` lists all.",
    "schema": {"type": "string"},
}
_BYTES = {"type": "string", "format": "binary"}
_CLIP = {"schema": _BYTES, "example": SMALLEST_VIDEO.decode("ascii")}
_TEXT_HEADER = {"schema": {"type": "string"}}
_ALWAYS = {
    "X-Request-ID": {**_TEXT_HEADER, "description": "The id of the request, echoed or generated.", "required": True}
}
_QUOTA = {
    "RateLimit-Policy": {**_TEXT_HEADER, "description": "The rate limit of each caller, if there is one."},
    "RateLimit": {**_TEXT_HEADER, "description": "What is left of the rate limit."},
}
_TIMING = {"Server-Timing": {**_TEXT_HEADER, "description": "The stages of `timing_ms`."}}
_HEADER_LENGTH = {
    HEADER_LENGTH: {"schema": {"type": "integer"}, "description": "Length of the JSON if bytes follow it."}
}
_WAIT = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds.", "required": True}}
_TAKEN = {"Accept-Encoding": {**_TEXT_HEADER, "description": "`identity`, if the body was sent encoded."}}
_CHALLENGE = {"WWW-Authenticate": {**_TEXT_HEADER, "required": True}}


def classify_request() -> Json:
    """The request of ``POST /classify``: its parameters and both forms of its body."""
    return {
        "parameters": [
            _MODEL,
            *(
                {"name": name, "in": "query", "required": False, "description": text, "schema": schema}
                for name, text in PARAMETERS.items()
                for schema in (_PARAMETER_SCHEMAS[name],)
            ),
        ],
        "requestBody": {
            "required": True,
            "description": "A form with one file part named `video` (or `file`), or the video as the whole body, or "
            "JSON with the URL of a video.",
            "content": {
                "multipart/form-data": {
                    "schema": {"type": "object", "properties": {"video": _BYTES}, "required": ["video"]},
                    "example": {"video": _CLIP["example"]},
                    "encoding": {"video": {"contentType": "video/mp4, application/octet-stream"}},
                },
                "application/octet-stream": _CLIP,
                "video/mp4": _CLIP,
                "application/json": {
                    "schema": _schema_of(UrlRequest),
                    "example": {"url": "https://example.org/clip.mp4"},
                },
            },
        },
    }


def model_parameter() -> Json:
    """The query parameter that names a model."""
    return {"parameters": [_MODEL]}


def classify_answers() -> dict[int | str, Json]:
    """The responses of ``POST /classify``."""
    stream = {
        "schema": {
            "type": "object",
            "description": "One event: a `StepEvent`; with `window_s` a `SegmentAnswer` or an `EventAnswer`; and at "
            "the end a `Classification` or a `ProblemDocument`.",
            "properties": {
                "event": {"enum": ["step", "segment", "event", "result", "problem"]},
                "data": {"type": "string"},
            },
            "required": ["event", "data"],
        }
    }
    return {
        200: {
            "description": "The answer; with `stream=true`, a stream of events.",
            "headers": {**_ALWAYS, **_TIMING, **_QUOTA},
            "content": {"text/event-stream": stream},
        },
        **problems(NotFound, MethodNotAllowed, *OF_MODELS),
    }


def status(word: str) -> dict[int | str, Json]:
    """The successful response of a health route."""
    schema = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
    content = {"application/json": {"schema": schema, "example": {"status": word}}}
    return {200: {"description": "Alive, or ready.", "headers": _ALWAYS, "content": content}}


def good(body: BaseModel) -> dict[int | str, Json]:
    """The successful response of a route that always returns the same."""
    content = {"application/json": {"example": body.model_dump(mode="json")}}
    return {200: {"description": "The response.", "headers": _ALWAYS, "content": content}}


def metrics() -> dict[int | str, Json]:
    """The responses of ``GET /metrics``."""
    text = {"schema": {"type": "string"}, "example": 'adafocus_requests_total{outcome="ok"} 42.0\n'}
    content = {"text/plain": text, "application/openmetrics-text": text}
    return {
        200: {"description": "The metrics; docs/metrics.md lists them.", "headers": _ALWAYS, "content": content}
    } | only(Unauthorized, RateLimited)


def problems(*excluded: type[Problem]) -> dict[int | str, Json]:
    """One error response per status, listing its codes; for all problems except some."""
    return {status: _response(kinds) for status, kinds in _by_status(excluded=excluded)}


def only(*kinds: type[Problem]) -> dict[int | str, Json]:
    """The error responses of a route that has only these problems."""
    return problems(*(kind for kind in CATALOGUE if kind not in kinds))


def protocol_request() -> Json:
    """The request of ``POST /v2/models/{name}/infer``."""
    in_bytes, header_bytes = inference_in_bytes()
    return {
        "parameters": [
            {
                "name": HEADER_LENGTH,
                "in": "header",
                "required": False,
                "description": "Length of the JSON if bytes follow it in the body.",
                "schema": {"type": "integer", "minimum": 2, "maximum": MAX_HEADER_BYTES},
                "example": header_bytes,
            }
        ],
        "requestBody": {
            "required": True,
            "description": f"JSON with the video in base64. Or, with the header `{HEADER_LENGTH}`: JSON of that "
            "length, then the length of the video as four bytes, little-endian, then the video.",
            "content": {
                "application/json": {"schema": _schema_of(InferenceRequest), "example": inference_in_json()},
                "application/octet-stream": {"schema": _BYTES, "example": in_bytes},
            },
        },
    }


def protocol_answers() -> dict[int | str, Json]:
    """The responses of ``POST /v2/models/{name}/infer``."""
    content = {
        "application/json": {"schema": _schema_of(InferenceResponse)},
        "application/octet-stream": {"schema": _BYTES},
    }
    headers = {**_ALWAYS, **_TIMING, **_QUOTA, **_HEADER_LENGTH}
    answer = {"description": "The answer.", "headers": headers, "content": content}
    excluded = (NotFound, MethodNotAllowed, *OF_MODELS)
    return {200: answer, **protocol_problems(*(kind for kind in CATALOGUE if kind not in excluded))}


def protocol_problems(*kinds: type[Problem]) -> dict[int | str, Json]:
    """One error response per status in the form of the protocol, for these problems only."""
    excluded = tuple(kind for kind in CATALOGUE if kind not in kinds)
    return {status: _protocol_response(kinds) for status, kinds in _by_status(excluded=excluded)}


def elsewhere() -> dict[str, Json]:
    """The responses on unknown paths and to other methods."""
    return {kind.code: _response([kind]) for kind in (NotFound, MethodNotAllowed)}


def _by_status(excluded: tuple[type[Problem], ...]) -> list[tuple[int, list[type[Problem]]]]:
    kept = sorted((kind for kind in CATALOGUE if kind not in excluded), key=lambda kind: kind.status)
    return [(status, list(kinds)) for status, kinds in groupby(kept, key=lambda kind: kind.status)]


def _response(kinds: list[type[Problem]]) -> Json:
    schema = ProblemDocument.model_json_schema()
    schema["properties"]["code"]["enum"] = [kind.code for kind in kinds]
    schema["properties"]["status"]["const"] = kinds[0].status
    examples = {kind.code: {"summary": kind.title, "value": _example(kind).document(REQUEST_ID)} for kind in kinds}
    return {
        "description": _codes(kinds),
        "headers": _headers(kinds),
        "content": {PROBLEM_JSON: {"schema": schema, "examples": examples}},
    }


def _protocol_response(kinds: list[type[Problem]]) -> Json:
    schema = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    examples = {kind.code: {"summary": kind.title, "value": {"error": _example(kind).detail}} for kind in kinds}
    content = {"application/json": {"schema": schema, "examples": examples}}
    return {"description": _codes(kinds), "headers": _headers(kinds), "content": content}


def _codes(kinds: list[type[Problem]]) -> str:
    return "\n\n".join(f"`{kind.code}`: {_line(kind)}" for kind in kinds)


def _line(kind: type[Problem]) -> str:
    return (kind.__doc__ or kind.title).splitlines()[0]


def _headers(kinds: list[type[Problem]]) -> Json:
    wait = _WAIT if all(issubclass(kind, Rejection) for kind in kinds) else {}
    challenge = _CHALLENGE if kinds == [Unauthorized] else {}
    taken = _TAKEN if UnsupportedEncoding in kinds else {}
    return {**_ALWAYS, **wait, **challenge, **taken}


def _example(kind: type[Problem]) -> Problem:
    return kind() if kind is Unauthorized else kind(_line(kind))


def _schema_of(model: type[BaseModel]) -> Json:
    return {"$ref": COMPONENT.format(model=model.__name__)}
