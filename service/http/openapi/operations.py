"""What ``/docs`` and ``/openapi.json`` say of the routes that read their own request.

Routes name what they answer; `service.http.openapi.document` adds what only the loaded bundle and the settings know.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from pydantic import BaseModel

from service.errors import (
    CATALOGUE,
    PROBLEM_JSON,
    MethodNotAllowed,
    NotFound,
    Problem,
    Rejection,
    Unauthorized,
    UnsupportedEncoding,
)
from service.http.openapi.examples import REQUEST_ID, SMALLEST_VIDEO, inference_in_bytes, inference_in_json
from service.schemas.classify import DEFAULT_TOP_K, MAX_DEADLINE_MS, MAX_GFLOPS, PARAMETERS, ProblemDocument
from service.schemas.open_inference import HEADER_LENGTH, MOST_HEADER_BYTES, InferenceRequest, InferenceResponse

ABOUT = (
    "Classifies videos with AdaFocusV2: it glances at each sampled frame, looks closely at one patch of it, and stops "
    "as soon as it is sure. Every answer says what it cost. Errors are `application/problem+json` (RFC 9457), and "
    '`{"error": "…"}` under `/v2`; `code` is stable. Paths that are not here are answered 404 `not_found`, and other '
    "methods 405 `method_not_allowed`."
)
COMPONENT = "#/components/schemas/{model}"
"""Where `service.http.openapi.document` puts the schema of a model."""

Json = dict[str, Any]

_PARAMETER_SCHEMAS: dict[str, Json] = {
    "exit": {"type": "string"},
    "top_k": {"type": "integer", "minimum": 1, "default": DEFAULT_TOP_K},
    "max_gflops": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_GFLOPS},
    "deadline_ms": {"type": "number", "minimum": 1, "maximum": MAX_DEADLINE_MS},
    "trace": {"type": "boolean", "default": False},
    "stream": {"type": "boolean", "default": False},
    "frames": {"type": "boolean", "default": False},
}
_BYTES = {"type": "string", "format": "binary"}
_CLIP = {"schema": _BYTES, "example": SMALLEST_VIDEO.decode("ascii")}
_TEXT_HEADER = {"schema": {"type": "string"}}
_ALWAYS = {"X-Request-ID": {**_TEXT_HEADER, "description": "the request's id, echoed or made", "required": True}}
_QUOTA = {
    "RateLimit-Policy": {**_TEXT_HEADER, "description": "the quota of each caller, where there is one"},
    "RateLimit": {**_TEXT_HEADER, "description": "what is left of it"},
}
_TIMING = {"Server-Timing": {**_TEXT_HEADER, "description": "the stages of `timing_ms`"}}
_HEADER_LENGTH = {
    HEADER_LENGTH: {"schema": {"type": "integer"}, "description": "length of the JSON, where bytes follow it"}
}
_WAIT = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "seconds", "required": True}}
_TAKEN = {"Accept-Encoding": {**_TEXT_HEADER, "description": "`identity`, where the body was sent encoded"}}
_CHALLENGE = {"WWW-Authenticate": {**_TEXT_HEADER, "required": True}}


def classify_request() -> Json:
    """The request of ``POST /classify``: its parameters and both forms of its body."""
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "description": text, "schema": _PARAMETER_SCHEMAS[name]}
            for name, text in PARAMETERS.items()
        ],
        "requestBody": {
            "required": True,
            "description": "one file part named `video` (or `file`), or the bytes of the video as the whole body",
            "content": {
                "multipart/form-data": {
                    "schema": {"type": "object", "properties": {"video": _BYTES}, "required": ["video"]},
                    "example": {"video": _CLIP["example"]},
                    "encoding": {"video": {"contentType": "video/mp4, application/octet-stream"}},
                },
                "application/octet-stream": _CLIP,
                "video/mp4": _CLIP,
            },
        },
    }


def classify_answers() -> dict[int | str, Json]:
    """The responses of ``POST /classify``."""
    stream = {
        "schema": {
            "type": "object",
            "description": "one event: a `StepEvent`, at the end a `Classification` or a `ProblemDocument`",
            "properties": {"event": {"enum": ["step", "result", "problem"]}, "data": {"type": "string"}},
            "required": ["event", "data"],
        }
    }
    return {
        200: {
            "description": "The answer; with `stream=true` told step by step.",
            "headers": {**_ALWAYS, **_TIMING, **_QUOTA},
            "content": {"text/event-stream": stream},
        },
        **problems(NotFound, MethodNotAllowed),
    }


def status(word: str) -> dict[int | str, Json]:
    """The good answer of a health route."""
    schema = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
    content = {"application/json": {"schema": schema, "example": {"status": word}}}
    return {200: {"description": "Yes.", "headers": _ALWAYS, "content": content}}


def good(word: BaseModel) -> dict[int | str, Json]:
    """The good answer of a route that always gives the same."""
    content = {"application/json": {"example": word.model_dump(mode="json")}}
    return {200: {"description": "The answer.", "headers": _ALWAYS, "content": content}}


def metrics() -> dict[int | str, Json]:
    """The responses of ``GET /metrics``."""
    text = {"schema": {"type": "string"}, "example": 'adafocus_requests_total{outcome="ok"} 42.0\n'}
    content = {"text/plain": text, "application/openmetrics-text": text}
    return {200: {"description": "docs/metrics.md lists them.", "headers": _ALWAYS, "content": content}} | only(
        Unauthorized
    )


def problems(*but_not: type[Problem]) -> dict[int | str, Json]:
    """One response per status of the catalogue, listing its codes."""
    return {status: _response(kinds) for status, kinds in _by_status(but_not=but_not)}


def only(*kinds: type[Problem]) -> dict[int | str, Json]:
    """The responses of a route that has few problems."""
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
                "description": "where the body is JSON and bytes after it: the length of the JSON",
                "schema": {"type": "integer", "minimum": 2, "maximum": MOST_HEADER_BYTES},
                "example": header_bytes,
            }
        ],
        "requestBody": {
            "required": True,
            "description": f"JSON with the video in base64; or, with the header `{HEADER_LENGTH}`, JSON "
            "of that length and after it the video behind its length as four bytes, little-endian",
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
    return {200: answer, **protocol_problems(*(kind for kind in CATALOGUE if kind is not MethodNotAllowed))}


def protocol_problems(*kinds: type[Problem]) -> dict[int | str, Json]:
    """Problems in the words of the protocol."""
    but_not = tuple(kind for kind in CATALOGUE if kind not in kinds)
    return {status: _protocol_response(kinds) for status, kinds in _by_status(but_not=but_not)}


def elsewhere() -> dict[str, Json]:
    """What is answered where there is nothing to describe: on paths that are not there, and to other methods."""
    return {kind.code: _response([kind]) for kind in (NotFound, MethodNotAllowed)}


def _by_status(but_not: tuple[type[Problem], ...]) -> list[tuple[int, list[type[Problem]]]]:
    kept = sorted((kind for kind in CATALOGUE if kind not in but_not), key=lambda kind: kind.status)
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
