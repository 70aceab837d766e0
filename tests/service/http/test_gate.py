"""Refusals before the application: what they say, what they cost in lines of the log, and what they let pass."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from adafocus.service.engine.admission import Admission, Place
from adafocus.service.engine.queue_limits import QueueLimits
from adafocus.service.http import pace as pace_module
from adafocus.service.http.auth import AccessControl
from adafocus.service.http.gate import Gate, RefusalLog, classification_route
from adafocus.service.http.pace import ALONE, REFUSALS, TICK_SECONDS, AnswerPace
from adafocus.service.http.state import ServerState
from adafocus.service.telemetry.metrics import Metrics
from tests.service.engine.factory import Recorder
from tests.service.http.clients import Client, part
from tests.service.server import make_models, make_settings


class Behind:
    """A gate in a house without room, or with it."""

    def __init__(self, folder: Path, *, room: bool = False, crossing: Any = None, **settings: Any) -> None:
        given = make_settings(folder, **settings)
        self.metrics = Metrics(4)
        self.server = ServerState(given, make_models(given, self.metrics), self.metrics, AccessControl(given))
        limits = QueueLimits(uploads_per_caller=9 if room else 0)
        self.admission = Admission(4, 4, Recorder(), lambda: 0.0, limits=limits)
        self.server.admission = self.admission
        self.passed: list[str] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            self.passed.append(scope["path"])

        self.gate = Gate(application, self.server, crossing)

    async def send(self, client: Client, method: str = "POST", path: str = "/classify") -> tuple[int, Any, bytes]:
        headers = [(name.encode(), value.encode()) for name, value in client.headers.items()]
        scope = {"type": "http", "method": method, "path": path, "headers": headers, "client": ("192.0.2.1", 1)}
        await self.gate(scope, client.receive, client.send)
        if not client.received:
            return 0, {}, b""
        start, *rest = client.received
        fields = {name.decode(): value.decode() for name, value in start["headers"]}
        return start["status"], fields, b"".join(message["body"] for message in rest)

    def count(self, name: str) -> float:
        lines = [line for line in self.metrics.render("")[0].decode().splitlines() if line.startswith(name + " ")]
        return float(lines[0].rpartition(" ")[2])


def small(**headers: str) -> Client:
    return Client(headers={"content-length": "100", **headers})


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("POST", "/classify", "/classify"),
        ("PUT", "/classify", "/classify"),
        ("GET", "/classify", None),
        ("POST", "/classify/", None),
        ("POST", "/v2/models/any/infer", "/v2/models/{name}/infer"),
        ("POST", "/v2/models/any/versions/1/infer", "/v2/models/{name}/versions/{version}/infer"),
        ("POST", "/v2/models/any/other/1/infer", None),
        ("GET", "/v2/models/any/infer", None),
        ("GET", "/readyz", None),
    ],
)
async def test_only_classifications_are_refused(tmp_path: Path, method: str, path: str, route: str | None) -> None:
    assert classification_route(method, path) == route
    behind = Behind(tmp_path)
    status, _, _ = await behind.send(small(), method, path)
    assert (status, behind.passed) == ((503, []) if route else (0, [path]))


async def test_a_refusal_is_a_whole_problem_that_is_counted(tmp_path: Path) -> None:
    behind = Behind(tmp_path)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    status, headers, body = await behind.send(small(**{"x-request-id": "mine", "traceparent": trace}))
    problem = json.loads(body)
    assert (status, problem["code"], problem["status"]) == (503, "overloaded", 503)
    assert problem["instance"] == "urn:adafocus:request:mine"
    assert headers["x-request-id"] == "mine"
    assert headers["traceparent"] == trace
    assert headers["retry-after"] == "1"
    assert headers["content-type"] == "application/problem+json"
    assert int(headers["content-length"]) == len(body)
    assert "connection" not in headers
    assert behind.count('adafocus_requests_total{outcome="rejected"}') == 1
    assert behind.count('adafocus_rejections_total{code="overloaded"}') == 1
    assert behind.count('adafocus_http_requests_total{route="/classify",status="5xx"}') == 1
    assert behind.count("adafocus_request_duration_seconds_count") == 1


async def test_v2_refuses_in_the_form_of_its_protocol(tmp_path: Path) -> None:
    _, headers, body = await Behind(tmp_path).send(small(), path="/v2/models/tiny/infer")
    assert list(json.loads(body)) == ["error"]
    assert headers["content-type"] == "application/json"


async def test_a_service_that_starts_or_has_drained_says_so(tmp_path: Path) -> None:
    behind = Behind(tmp_path, room=True)
    behind.server.stop_admitting()
    assert json.loads((await behind.send(small()))[2])["code"] == "draining"
    behind = Behind(tmp_path, room=True)
    behind.server.admission = None
    assert json.loads((await behind.send(small()))[2])["code"] == "draining"


async def test_with_room_the_application_handles_the_request(tmp_path: Path) -> None:
    behind = Behind(tmp_path, room=True)
    await behind.send(small())
    assert behind.passed == ["/classify"]


@pytest.mark.parametrize("headers", [{"transfer-encoding": "chunked"}, {"content-length": str(1 << 24)}])
async def test_the_rest_of_a_long_upload_is_thrown_away(tmp_path: Path, headers: dict[str, str]) -> None:
    client = Client([part(b"a" * 10), part(b"b", more=False)], headers=headers)
    status, fields, body = await Behind(tmp_path).send(client)
    assert (status, fields["connection"]) == (503, "close")
    assert json.loads(body)["code"] == "overloaded"
    assert client.asked == 2


async def test_a_client_that_waits_for_continue_is_not_asked_for_its_body(tmp_path: Path) -> None:
    client = small(expect="100-continue")
    status, fields, _ = await Behind(tmp_path).send(client)
    assert (status, fields["connection"], client.asked) == (503, "close", 0)


async def test_a_page_of_another_origin_can_read_the_refusal(tmp_path: Path) -> None:
    def crossing(app: ASGIApp) -> ASGIApp:
        return CORSMiddleware(app, allow_origins=["https://example.org"], expose_headers=["Retry-After"])

    status, headers, _ = await Behind(tmp_path, crossing=crossing).send(small(origin="https://example.org"))
    assert (status, headers["access-control-allow-origin"]) == (503, "https://example.org")


async def test_callers_are_told_apart_by_their_key(tmp_path: Path) -> None:
    behind = Behind(tmp_path, room=True, api_keys="one,two")
    seen: list[str] = []
    behind.server.admission = cast("Admission", SimpleNamespace(refusal=seen.append))
    for headers in ({"x-api-key": "one"}, {"authorization": "Bearer two"}):
        assert (await behind.send(small(**headers)))[0] == 0
    assert len(set(seen)) == 2


def test_the_log_gets_one_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    log = RefusalLog(lambda: now)
    with caplog.at_level(logging.WARNING):
        for _ in range(500):
            log.refused("overloaded")
        now += 1.0
        log.refused("draining")
    counted = [cast("Any", record).fields["refused"] for record in caplog.records]
    assert counted == [{"overloaded": 1}, {"overloaded": 499, "draining": 1}]


@pytest.mark.parametrize("headers", [{"x-api-key": "wrong"}, {}])
async def test_without_a_valid_key_nothing_behind_the_gate_is_reached(tmp_path: Path, headers: dict[str, str]) -> None:
    behind = Behind(tmp_path, room=True, api_keys="one")
    status, fields, body = await behind.send(small(**headers))
    assert (status, json.loads(body)["code"], behind.passed) == (401, "unauthorized", [])
    assert fields["www-authenticate"].startswith("Bearer")
    assert behind.count('adafocus_requests_total{outcome="client_error"}') == 1


async def test_a_caller_that_has_used_its_quota_up_is_told_at_the_gate(tmp_path: Path) -> None:
    behind = Behind(tmp_path, room=True, rate_limit_per_minute=1)
    assert behind.server.access._limit is not None
    behind.server.access._limit.take("192.0.2.1")
    status, fields, body = await behind.send(small())
    assert (status, json.loads(body)["code"], behind.passed) == (429, "rate_limited", [])
    assert fields["ratelimit"].startswith('"default";r=0')
    assert int(fields["retry-after"]) >= 1


async def test_refusals_of_a_flood_wait_and_others_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(pace_module.asyncio, "sleep", sleep)
    behind = Behind(tmp_path)
    behind.server.pace = AnswerPace(lambda: 100.0)
    at_once = int(ALONE.burst_seconds * ALONE.per_second)
    for _ in range(2 * at_once):
        assert (await behind.send(small()))[0] == 503
    assert len(slept) == pytest.approx(at_once, abs=1)


async def test_refusals_wait_sooner_while_others_are_active(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(pace_module.asyncio, "sleep", sleep)
    behind = Behind(tmp_path)
    behind.server.pace = AnswerPace(lambda: 100.0)
    async with behind.admission.slot(None, Place("somebody else")):
        for _ in range(int(ALONE.burst_seconds * ALONE.per_second)):
            assert (await behind.send(small()))[0] == 503
    assert slept
    assert max(slept) <= REFUSALS.longest_delay_seconds + TICK_SECONDS
