"""Turns problems, and the framework's own exceptions, into error responses (RFC 9457)."""

from __future__ import annotations

import json

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from adafocus.service.errors import PROBLEM_JSON, BadParameter, Internal, MethodNotAllowed, NotFound, Problem


def problem_response(problem: Problem, request_id: str) -> Response:
    """The error response for a problem."""
    return Response(
        problem_json(problem, request_id),
        status_code=problem.status,
        headers=problem.headers,
        media_type=PROBLEM_JSON,
    )


def protocol_response(problem: Problem) -> Response:
    """The error response in the form of the Open Inference Protocol."""
    return Response(
        protocol_json(problem), status_code=problem.status, headers=problem.headers, media_type="application/json"
    )


def protocol_json(problem: Problem) -> str:
    """The error in the form of the Open Inference Protocol, as JSON."""
    return json.dumps({"error": problem.detail}, ensure_ascii=False)


def problem_json(problem: Problem, request_id: str) -> str:
    """The problem document as JSON on one line."""
    return json.dumps(problem.document(request_id), ensure_ascii=False)


def install(app: FastAPI) -> None:
    """Answer every exception, the framework's included, with a problem document, or in the form of ``/v2``."""
    app.add_exception_handler(Problem, _answer)
    app.add_exception_handler(HTTPException, _answer)
    app.add_exception_handler(RequestValidationError, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    problem = _problem_of(error)
    if request.url.path == "/v2" or request.url.path.startswith("/v2/"):
        return protocol_response(problem)
    return problem_response(problem, str(request.state.request_id))


def _problem_of(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return BadParameter(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")
    if isinstance(error, HTTPException) and error.status_code == NotFound.status:
        return NotFound("this path does not exist; /docs lists those that do")
    if isinstance(error, HTTPException) and error.status_code == MethodNotAllowed.status:
        named = {name.strip() for name in (error.headers or {}).get("Allow", "").split(",")}
        allowed = ", ".join(sorted(named | {"HEAD"} if "GET" in named else named))
        return MethodNotAllowed(f"this path accepts {allowed} only", headers={"Allow": allowed})
    return Internal()
