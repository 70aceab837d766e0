"""What every request gets: an id, an answer to faults, a line in the log, and RFC 9457 for the framework's errors."""

import json
import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from adafocus.service.errors import TooLong
from adafocus.service.http import problems
from adafocus.service.http.context import context_of
from adafocus.service.http.middleware import HeadLikeGet, RequestScope
from adafocus.service.telemetry.logs import JsonLines
from adafocus.service.telemetry.metrics import Metrics


def make_app() -> FastAPI:
    app = FastAPI()
    app.add_middleware(HeadLikeGet)
    app.add_middleware(RequestScope, metrics=Metrics(steps=1))
    problems.install(app)

    @app.get("/fine/{name}")
    async def fine(request: Request, name: str) -> Response:
        context_of(request.scope["state"]).fields["gflops"] = 1.5
        return Response(name)

    @app.get("/fault")
    async def fault() -> Response:
        raise RuntimeError("/etc/shadow")

    @app.get("/torn")
    async def torn() -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("torn")

        return StreamingResponse(body())

    @app.get("/problem")
    async def problem() -> Response:
        raise TooLong("too long by far")

    @app.get("/typed")
    async def typed(number: int) -> Response:
        return Response(str(number))

    return app


@pytest.mark.parametrize(("path", "status"), [("/fine/it", 200), ("/nothing", 404), ("/problem", 422)])
async def test_head_is_get_without_the_body(client: httpx.AsyncClient, path: str, status: int) -> None:
    answer, get = await client.head(path), await client.get(path)
    assert (answer.status_code, answer.content) == (status, b"")
    assert answer.headers["content-length"] == get.headers["content-length"]
    assert answer.headers["x-request-id"]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(make_app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_an_id_is_made_and_a_sane_one_is_echoed(client: httpx.AsyncClient) -> None:
    first, second = [(await client.get("/fine/a")).headers["x-request-id"] for _ in range(2)]
    assert first != second
    assert (await client.get("/fine/a", headers={"X-Request-ID": "a-1.b:2_C"})).headers["x-request-id"] == "a-1.b:2_C"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, 'a"b', "<script>"])
async def test_an_id_that_is_not_sane_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    made = (await client.get("/fine/a", headers={"X-Request-ID": given})).headers["x-request-id"]
    assert made != given
    assert len(made) == 32


async def test_a_fault_of_ours_says_the_id_and_nothing_inside(client: httpx.AsyncClient) -> None:
    answer = await client.get("/fault", headers={"X-Request-ID": "q1"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == "q1"
    assert answer.json()["code"] == "internal"
    assert answer.json()["instance"].endswith("q1")
    assert "shadow" not in answer.text


async def test_a_fault_after_the_answer_began_ends_the_connection() -> None:
    transport = httpx.ASGITransport(make_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        with pytest.raises(RuntimeError):
            await client.get("/torn")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/problem", 422, "too_long"),
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/fault", 405, "method_not_allowed"),
        ("GET", "/typed?number=x", 400, "bad_parameter"),
    ],
)
async def test_every_error_is_a_problem_document(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["code"], answer.json()["status"]) == (status, code, status)
    assert answer.headers["content-type"] == "application/problem+json"
    if status == 405:
        assert answer.headers["allow"] == "GET, HEAD"


async def test_one_line_per_request(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="adafocus.request"):
        await client.get("/fine/secret-name", headers={"X-Request-ID": "q2"})
    (record,) = caplog.records
    line = json.loads(JsonLines().format(record))
    assert {
        "request_id": "q2",
        "method": "GET",
        "route": "/fine/{name}",
        "status": 200,
        "gflops": 1.5,
    }.items() <= line.items()
    assert line["message"] == "request"
    assert line["duration_ms"] >= 0
    assert "secret-name" not in json.dumps(line)


def test_a_log_line_with_an_exception_is_still_one_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("adafocus.x", logging.ERROR, __file__, 1, "it %s", ("broke",), info)
    text = JsonLines().format(record)
    assert "\n" not in text
    assert json.loads(text)["message"] == "it broke"
    assert "two\nlines" in json.loads(text)["exception"]
