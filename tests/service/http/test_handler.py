"""The lifecycle of a request: one function, with works and renderers that the tests supply."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adafocus.bundle.store import load_bundle
from adafocus.service.errors import Overloaded, Problem
from adafocus.service.http.auth import AccessControl
from adafocus.service.http.context import RequestContext
from adafocus.service.http.handler import Exchange, handle
from adafocus.service.http.openapi import examples
from adafocus.service.http.state import ServerState
from adafocus.service.schemas.classify import Classification
from adafocus.service.telemetry.metrics import Metrics
from adafocus.service.telemetry.timeline import Timeline
from tests.service.server import make_models, make_settings

from .clients import DISCONNECT, Client, part


class Tracer:
    """Counts the spans that begin and end."""

    trace_id = "a" * 32

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[tuple[dict[str, Any], bool]] = []

    def begin(self, name: str, parent: object) -> "Tracer":
        self.begun.append(name)
        return self

    def end(self, timeline: Timeline, attributes: Any, *, failed: bool) -> None:
        self.ended.append((dict(attributes), failed))

    def close(self) -> None:
        pass


class Plain:
    """Renders as text."""

    def result(self, result: Classification) -> Response:
        return Response(result.exit.reason)

    def problem(self, problem: Problem, request_id: str) -> Response:
        return Response(problem.code, status_code=problem.status)


class Server:
    """A server state without a runtime, and one request to it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.tracer = Tracer()
        given = make_settings(folder, **settings)
        self.bundle = load_bundle(given.bundle)
        self.metrics = Metrics(self.bundle.manifest.steps)
        self.state = ServerState(
            given, make_models(given, self.metrics), self.metrics, AccessControl(given), self.tracer
        )
        self.answer = examples.classification(self.bundle.manifest)
        self.context = RequestContext("request-1", started=0.0)

    async def handle(
        self, client: Client, work: Callable[[Exchange], Awaitable[Classification]], renderer: Any = None
    ) -> None:
        scope = {
            "type": "http",
            "method": "POST",
            "headers": [(name.encode(), value.encode()) for name, value in client.headers.items()],
            "state": {"context": self.context},
            "route": Route("/classify", lambda _: Response()),
            "app": SimpleNamespace(state=SimpleNamespace(service=self.state)),
            "client": ("127.0.0.1", 1),
        }
        await handle(Request(scope, client.receive), work, renderer or Plain())(scope, client.receive, client.send)

    def counted(self) -> dict[str, float]:
        text = self.metrics.render("")[0].decode()
        found = [line.split('outcome="')[1].split('"} ') for line in text.splitlines() if 'total{outcome="' in line]
        return {outcome: float(value) for outcome, value in found if float(value)}


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def whole(client: Client) -> tuple[int, bytes]:
    start, *bodies = client.received
    return start["status"], b"".join(message["body"] for message in bodies)


async def test_a_result_is_rendered_and_recorded_once_before_it_is_sent(server: Server) -> None:
    seen: list[dict[str, float]] = []

    class Sending(Client):
        async def send(self, message: Any) -> None:
            seen.append(server.counted())
            await super().send(message)

    async def work(exchange: Exchange) -> Classification:
        assert await exchange.body.read(10, "") == b"ab"
        return server.answer

    client = Sending([part(b"ab", more=False)])
    await server.handle(client, work)
    assert whole(client) == (200, b"confident")
    assert seen[0] == server.counted() == {"ok": 1}
    assert server.context.fields["outcome"] == "ok"
    assert server.context.fields["step"] == server.answer.exit.step
    assert server.tracer.begun == ["POST /classify"]
    ((attributes, failed),) = server.tracer.ended
    assert (attributes["request_id"], attributes["reason"], failed) == ("request-1", "confident", False)


@pytest.mark.parametrize(
    ("error", "code", "status", "outcome"),
    [(Overloaded(), "overloaded", 503, "rejected"), (RuntimeError("/etc/shadow"), "internal", 500, "error")],
)
async def test_an_exception_becomes_a_problem_and_is_recorded_once(
    server: Server, error: Exception, code: str, status: int, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(exchange: Exchange) -> Classification:
        raise error

    client = Client([part(b"ab", more=False)])
    await server.handle(client, work)
    assert whole(client) == (status, code.encode())
    assert server.counted() == {outcome: 1}
    assert server.context.fields["code"] == code
    assert [failed for _, failed in server.tracer.ended] == [outcome == "error"]
    assert ("/etc/shadow" in caplog.text) is (code == "internal")


async def test_a_renderer_that_fails_is_an_internal_error_and_not_an_answer(server: Server) -> None:
    class Broken(Plain):
        def result(self, result: Classification) -> Response:
            raise LookupError

    async def work(exchange: Exchange) -> Classification:
        return server.answer

    client = Client([part(b"", more=False)])
    await server.handle(client, work, Broken())
    assert whole(client) == (500, b"internal")
    assert server.counted() == {"error": 1}


@pytest.mark.parametrize(
    ("headers", "code"),
    [({}, b"unauthorized"), ({"x-api-key": "k", "content-encoding": "br"}, b"unsupported_encoding")],
)
async def test_what_is_not_admitted_does_no_work_and_reads_nothing(
    tmp_path: Path, headers: dict[str, str], code: bytes
) -> None:
    async def work(exchange: Exchange) -> Classification:
        pytest.fail("the work ran")

    server = Server(tmp_path, api_keys="k")
    client = Client(headers={"content-length": "5", "expect": "100-continue", **headers})
    await server.handle(client, work)
    assert whole(client)[1] == code
    assert client.asked == 0
    assert server.counted() == {"client_error": 1}


async def test_a_client_that_disconnects_after_its_upload_ends_the_work(server: Server) -> None:
    cleaned_up = False

    async def work(exchange: Exchange) -> Classification:
        nonlocal cleaned_up
        await exchange.body.read(10, "")
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up = True
        raise AssertionError

    client = Client([part(b"ab", more=False), DISCONNECT])
    await server.handle(client, work)
    assert cleaned_up
    assert client.received == []
    assert server.context.status == 499
    assert server.counted() == {"cancelled": 1}
    assert len(server.tracer.ended) == 1
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_a_client_that_disconnects_during_its_upload(server: Server) -> None:
    async def work(exchange: Exchange) -> Classification:
        await exchange.body.read(10, "")
        raise AssertionError

    client = Client([part(b"ab"), DISCONNECT])
    await server.handle(client, work)
    assert client.received == []
    assert server.counted() == {"cancelled": 1}


async def test_a_request_without_a_body_is_watched_from_the_start(server: Server) -> None:
    async def work(exchange: Exchange) -> Classification:
        await asyncio.Event().wait()
        raise AssertionError

    await server.handle(Client([DISCONNECT], headers={}), work)
    assert server.counted() == {"cancelled": 1}


async def test_a_server_that_stops_cancels_the_work_and_records_it(server: Server) -> None:
    started = asyncio.Event()

    async def work(exchange: Exchange) -> Classification:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    handling = asyncio.create_task(server.handle(Client(), work))
    await started.wait()
    handling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling
    assert server.counted() == {"cancelled": 1}
    assert len(server.tracer.ended) == 1


async def test_a_refusal_starts_no_task(server: Server) -> None:
    """A refused request costs no more than its response: disconnects are not watched while its body is unread."""
    before = asyncio.all_tasks()
    during: set[Any] = set()

    async def work(exchange: Exchange) -> Classification:
        during.update(asyncio.all_tasks() - before)
        raise Overloaded

    await server.handle(Client(headers={"content-length": "5", "expect": "100-continue"}), work)
    assert during == set()
