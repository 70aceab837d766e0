"""What ``/docs`` and ``/openapi.json`` say of the routes that read their own request."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from service.errors import CATALOGUE, PROBLEM_JSON, Problem
from service.schemas import DEFAULT_TOP_K, PARAMETERS, ProblemDocument

ABOUT = (
    "Classifies videos with AdaFocusV2: it glances at each sampled frame, looks closely at one patch of it, and stops "
    "as soon as it is sure. Every answer says what it cost. Errors are `application/problem+json` (RFC 9457); "
    "`code` is stable."
)

Json = dict[str, Any]

_PARAMETER_SCHEMAS: dict[str, Json] = {
    "exit": {"type": "string"},
    "top_k": {"type": "integer", "minimum": 1, "default": DEFAULT_TOP_K},
    "max_gflops": {"type": "number", "exclusiveMinimum": 0},
    "deadline_ms": {"type": "number", "minimum": 1},
    "trace": {"type": "boolean", "default": False},
    "stream": {"type": "boolean", "default": False},
    "frames": {"type": "boolean", "default": False},
}


def classify_request() -> Json:
    """The request of ``POST /classify``: its parameters and both forms of its body."""
    video = {"type": "string", "format": "binary"}
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "description": text, "schema": _PARAMETER_SCHEMAS[name]}
            for name, text in PARAMETERS.items()
        ],
        "requestBody": {
            "required": True,
            "description": "one file part named `video` (or `file`), or the bytes of the video as the whole body",
            "content": {
                "multipart/form-data": {"schema": {"type": "object", "properties": {"video": video}}},
                "application/octet-stream": {"schema": video},
                "video/*": {"schema": video},
            },
        },
    }


def problems(*but_not: type[Problem]) -> dict[int | str, Json]:
    """One response per status of the catalogue, listing its codes."""
    kept = sorted((kind for kind in CATALOGUE if kind not in but_not), key=lambda kind: kind.status)
    return {status: _response(list(kinds)) for status, kinds in groupby(kept, key=lambda kind: kind.status)}


def only(*kinds: type[Problem]) -> dict[int | str, Json]:
    """The responses of a route that has few problems."""
    return problems(*(kind for kind in CATALOGUE if kind not in kinds))


def _response(kinds: list[type[Problem]]) -> Json:
    lines = [f"`{kind.code}`: {(kind.__doc__ or kind.title).splitlines()[0]}" for kind in kinds]
    schema = ProblemDocument.model_json_schema()
    schema["properties"]["code"]["enum"] = [kind.code for kind in kinds]
    return {"description": "\n\n".join(lines), "content": {PROBLEM_JSON: {"schema": schema}}}
