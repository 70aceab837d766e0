"""Keys, quotas, other origins and traces, over a real connection."""

import logging
from pathlib import Path

import httpx
import pytest

from adafocus.service.telemetry import trace_context
from tests.e2e.tiny import write_clip
from tests.service.server import make_settings, serving

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("clips") / "grey.mp4").read_bytes()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_a_key_is_asked_for_where_something_is_computed_or_told(tmp_path: Path, clip: bytes) -> None:
    keys = tmp_path / "keys"
    keys.write_text("from-file\n")
    settings = make_settings(tmp_path, api_keys="sesame", api_keys_file=keys, metrics_need_key=True)
    async with serving(settings) as running, running.client() as client:
        for path in ("/", "/docs", "/samples", "/healthz", "/readyz", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        for path in ("/model", "/metrics"):
            refused = await client.get(path)
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
            assert refused.headers["www-authenticate"].startswith("Bearer")
            assert (await client.get(path, headers=bearer("from-file"))).status_code == 200
        for headers in ({}, bearer("wrong"), {"X-API-Key": "wrong"}, {"Authorization": "Basic sesame"}):
            assert (await client.post("/classify", content=clip, headers=headers)).status_code == 401
        for headers in (bearer("sesame"), {"X-API-Key": "from-file"}):
            assert (await client.post("/classify", content=clip, headers=headers)).status_code == 200


async def test_the_log_names_the_key_without_telling_it(
    tmp_path: Path, clip: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "adafocus.request"):
        async with serving(make_settings(tmp_path, api_keys="sesame")) as running, running.client() as client:
            await client.post("/classify", content=clip, headers=bearer("sesame"))
    (fields,) = [record.fields for record in caplog.records if record.name == "adafocus.request"]  # type: ignore[attr-defined]
    assert len(fields["key"]) == 12
    assert "sesame" not in str(fields)


async def test_a_quota_for_each_key_is_told_with_every_answer(tmp_path: Path, clip: bytes) -> None:
    settings = make_settings(tmp_path, api_keys="one,two", rate_limit_per_minute=2)
    async with serving(settings) as running, running.client() as client:

        async def ask(key: str) -> httpx.Response:
            return await client.post("/classify", content=clip, headers=bearer(key))

        first, second, third = [await ask("one") for _ in range(3)]
        assert [first.status_code, second.status_code, third.status_code] == [200, 200, 429]
        assert first.headers["ratelimit-policy"] == '"default";q=2;w=60'
        assert first.headers["ratelimit"] == '"default";r=1;t=30'
        assert third.headers["ratelimit"].startswith('"default";r=0;t=')
        assert third.json()["code"] == "rate_limited"
        assert 1 <= int(third.headers["retry-after"]) <= 30
        assert (await ask("two")).status_code == 200
        assert (await client.get("/model", headers=bearer("one"))).status_code == 200
        assert "ratelimit" not in (await client.get("/healthz")).headers
        assert running.metric("adafocus_rejections_total", code="rate_limited") == 1
        assert running.metric("adafocus_requests_total", outcome="client_error") == 1, "no error budget pays for it"
        assert running.metric("adafocus_requests_total", outcome="rejected") == 0


async def test_without_a_limit_nothing_is_said_of_one(tmp_path: Path, clip: bytes) -> None:
    async with serving(make_settings(tmp_path)) as running, running.client() as client:
        assert "ratelimit" not in (await client.post("/classify", content=clip)).headers


async def test_pages_of_other_origins_are_not_let_in_unless_configured(tmp_path: Path, clip: bytes) -> None:
    here, there = "https://example.org", "https://elsewhere.net"
    preflight = {"Origin": here, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    async with serving(make_settings(tmp_path)) as running, running.client() as client:
        answer = await client.post("/classify", content=clip, headers={"Origin": here})
        assert not any(name.startswith("access-control") for name in answer.headers)
        assert (await client.options("/classify", headers=preflight)).status_code == 405
    async with serving(make_settings(tmp_path, cors_origins=here)) as running, running.client() as client:
        allowed = await client.options("/classify", headers=preflight)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == here
        assert "x-request-id" in allowed.headers
        answer = await client.post("/classify", content=clip, headers={"Origin": here})
        assert answer.headers["access-control-allow-origin"] == here
        assert "server-timing" in answer.headers["access-control-expose-headers"].lower()
        answer = await client.post("/classify", content=clip, headers={"Origin": there})
        assert "access-control-allow-origin" not in answer.headers


async def test_the_trace_is_passed_on_and_written_down(
    tmp_path: Path, clip: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "adafocus.request"):
        async with serving(make_settings(tmp_path)) as running, running.client() as client:
            answer = await client.post("/classify", content=clip, headers={"traceparent": TRACE})
            assert answer.headers["traceparent"] == TRACE
            assert "traceparent" not in (await client.get("/model", headers={"traceparent": "00-what"})).headers
    first, _ = [record.fields for record in caplog.records if record.name == "adafocus.request"]  # type: ignore[attr-defined]
    assert (first["trace_id"], first["parent_id"]) == (TRACE.split("-")[1], TRACE.split("-")[2])


@pytest.mark.parametrize(
    ("header", "sound"),
    [
        (TRACE, True),
        (TRACE.replace("00-", "cc-", 1) + "-what-the-future-will-be-like", True),
        (TRACE + "-more", False),
        (TRACE.replace("00-", "ff-", 1), False),
        (TRACE.upper(), False),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", False),
        (f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01", False),
        (TRACE + "\n", False),
        ("", False),
        (None, False),
    ],
)
def test_what_is_not_well_formed_is_ignored(header: str | None, sound: bool) -> None:
    assert (trace_context.parse(header) is not None) is sound


async def test_guessing_keys_is_slowed_and_locks_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adafocus.service.http.auth.WRONG_KEYS_PER_MINUTE", 3)
    async with serving(make_settings(tmp_path, api_keys="known,fresh")) as running, running.client() as client:

        async def ask(key: str) -> int:
            return (await client.get("/model", headers=bearer(key))).status_code

        assert await ask("known") == 200
        assert {(await client.get("/model")).status_code for _ in range(5)} == {401}  # no key is no guess
        assert [await ask(f"guess {number}") for number in range(5)] == [401, 401, 401, 429, 429]
        assert await ask("fresh") == 429  # a guess that is right is not told from one that is wrong
        assert await ask("known") == 200
