"""Videos by URL through the whole service: only what the decoder asks for is fetched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from adafocus.service.schemas.classify import Classification
from tests.e2e.tiny import write_parts
from tests.media.clips import make_clip
from tests.media.damage import moov_first
from tests.service.server import Running, make_settings, serving
from tests.service.sources.servers import Request, Server, files, head, serving_http

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAX_BYTES = 3_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    settings = make_settings(
        tmp_path_factory.mktemp("bundles"),
        url_hosts=("127.0.0.1:*",),
        url_private=True,
        max_upload_bytes=MAX_BYTES,
        upload_timeout_seconds=4,  # of a connection that pauses while a clip is made, too
    )
    async with serving(settings) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with running.client() as client:
        yield client


@pytest.fixture(scope="module")
def large() -> bytes:
    """A clip of noise, whose header comes first, of some hundred kB for each second."""
    options = {"g": "10", "bf": "0", "preset": "ultrafast", "qp": "12"}
    return moov_first(make_clip(200, size=(320, 240), **options))


async def by_url(client: httpx.AsyncClient, url: str, **params: Any) -> httpx.Response:
    return await client.post("/classify", json={"url": url}, params=params)


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in answer.items() if name not in ("id", "timing_ms")}
    kept["compute"] = {
        name: it
        for name, it in answer["compute"].items()
        if name not in ("bytes_fetched", "frames_decoded", "decode_cpu_ms")
    }
    kept["video"] = {name: it for name, it in answer["video"].items() if name != "bytes"}
    return kept


@pytest.mark.parametrize("container", ["mp4", "moov first", "matroska", "mpegts", "avi"])
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("point", ["full", "fast"])
async def test_it_is_the_answer_of_the_upload(
    client: httpx.AsyncClient, container: str, ranges: bool, point: str
) -> None:
    first = container == "moov first"
    video = make_clip(60, container="mp4" if first else container, g="10", bf="0", preset="ultrafast")
    video = moov_first(video) if first else video
    uploaded = await client.post("/classify", content=video, params={"exit": point, "trace": "true"})
    async with serving_http(files({"/clip": video}, ranges=ranges)) as server:
        response = await by_url(client, server.url("/clip"), exit=point, trace="true")
    assert response.status_code == 200, response.text
    answer = response.json()
    Classification.model_validate(answer)
    assert without_times(answer) == without_times(uploaded.json())
    assert answer["video"]["bytes"] == len(video)
    assert 0 < answer["compute"]["bytes_fetched"] <= len(video)
    assert "bytes" not in uploaded.json()["video"]


async def test_an_early_exit_saves_network(client: httpx.AsyncClient, large: bytes, running: Running) -> None:
    before = running.metric("adafocus_fetched_bytes_total")
    async with serving_http(files({"/clip": large})) as server:
        answer = (await by_url(client, server.url("/clip"), exit="fast")).json()
    fetched = answer["compute"]["bytes_fetched"]
    assert fetched < len(large) / 2
    assert answer["compute"]["frames_used"] == 1
    assert running.metric("adafocus_fetched_bytes_total") == before + fetched
    asked = [request.range for request in server.requests]
    assert all(span is not None for span in asked)


async def test_windows_of_a_url(client: httpx.AsyncClient, tmp_path: Path) -> None:
    video = write_parts(tmp_path / "parts.mp4", [("dark", 6.0), ("bright", 4.0)]).read_bytes()
    async with serving_http(files({"/clip": video})) as server:
        answer = (await by_url(client, server.url("/clip"), window_s=2, exit="full")).json()
    assert [(it["label"], it["start_s"], it["end_s"]) for it in answer["events"]] == [("dark", 0, 6), ("bright", 6, 10)]
    assert answer["video"]["bytes"] == len(video)
    assert 0 < answer["compute"]["bytes_fetched"] <= len(video)
    assert "bytes_fetched" not in answer["segments"][0]["compute"]


async def test_steps_of_a_url_are_streamed(client: httpx.AsyncClient, large: bytes) -> None:
    async with serving_http(files({"/clip": large})) as server:
        response = await by_url(client, server.url("/clip"), stream="true", exit="full")
    assert response.text.count("event: step") == 4
    assert response.text.count("event: result") == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"url": "http://example.org/clip.mp4"}, 400, "url_not_allowed"),
        ({"url": "file:///etc/passwd"}, 400, "url_not_allowed"),
        ({"url": "s3://bucket/clip.mp4"}, 400, "url_not_allowed"),
        ({"url": ""}, 400, "bad_parameter"),
        ({"url": 5}, 400, "bad_parameter"),
        ({"url": "http://127.0.0.1:1/", "headers": {}}, 400, "bad_parameter"),
        ({}, 400, "bad_parameter"),
        ([], 400, "bad_parameter"),
        ({"url": "http://127.0.0.1:1/"}, 424, "source_unavailable"),
    ],
)
async def test_what_is_refused(client: httpx.AsyncClient, body: object, status: int, code: str) -> None:
    response = await client.post("/classify", json=body)
    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_a_body_that_is_not_json_is_refused(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    for body in (b"", b"not json", b'{"url": "' + b"a" * 70_000):
        response = await client.post("/classify", content=body, headers=headers)
        assert response.status_code in (400, 413)


async def problem_of(client: httpx.AsyncClient, server: Server) -> tuple[int, str]:
    response = await by_url(client, server.url("/clip"))
    return response.status_code, response.json()["code"]


async def test_what_the_server_does_wrong_is_a_424(client: httpx.AsyncClient, large: bytes) -> None:
    async def gone_later(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.range and request.range[0]:
            writer.write(head(404, 0))
        else:
            await files({"/clip": large})(request, writer)

    async def silent_later(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.range and request.range[0]:
            await asyncio.Event().wait()
        await files({"/clip": large})(request, writer)

    async def changed_later(request: Request, writer: asyncio.StreamWriter) -> None:
        version = '"2"' if request.range and request.range[0] else '"1"'
        await files({"/clip": large}, etag=version)(request, writer)

    for handle in (gone_later, silent_later, changed_later, files({})):
        async with serving_http(handle) as server:
            assert await problem_of(client, server) == (424, "source_unavailable")


async def test_no_more_is_fetched_than_an_upload_may_have(client: httpx.AsyncClient) -> None:
    """A transport stream has no index, so all of it is read."""
    part = make_clip(100, size=(320, 240), container="mpegts", preset="ultrafast", qp="4")
    video = part * (MAX_BYTES // len(part) + 1)
    for ranges in (True, False):
        async with serving_http(files({"/clip": video}, ranges=ranges)) as server:
            assert await problem_of(client, server) == (413, "too_large")


async def test_an_empty_file_and_one_that_is_no_video(client: httpx.AsyncClient) -> None:
    for content, expected in ((b"", (400, "empty_body")), (b"text " * 5000, (415, "unsupported_media"))):
        async with serving_http(files({"/clip": content}, ranges=False)) as server:
            assert await problem_of(client, server) == expected


async def test_urls_are_off_until_hosts_are_named(tmp_path: Path) -> None:
    async with serving(make_settings(tmp_path)) as running, running.client() as client:
        response = await by_url(client, "https://example.org/clip.mp4")
        assert (response.status_code, response.json()["code"]) == (400, "url_not_allowed")


async def test_private_addresses_are_refused_unless_the_setting_permits_them(tmp_path: Path, large: bytes) -> None:
    async with serving(make_settings(tmp_path, url_hosts=("*", "*:*"))) as running, running.client() as client:
        async with serving_http(files({"/clip": large})) as server:
            for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
                response = await by_url(client, server.url("/clip", host))
                assert response.status_code in (400, 424)
                assert response.json()["code"] in ("url_not_allowed", "source_unavailable")
        assert server.requests == []


async def test_nothing_is_left_when_the_client_leaves(running: Running, large: bytes) -> None:
    arrived = asyncio.Event()

    async def waits(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.range and not request.range[0]:
            await files({"/clip": large})(request, writer)
            return
        arrived.set()
        await writer.wait_closed()

    async with serving_http(waits) as server:
        body = json.dumps({"url": server.url("/clip")}).encode()
        _, writer = await running.connect()
        writer.write(
            b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await asyncio.wait_for(arrived.wait(), 10)
        writer.close()
        assert running.service.runtime is not None
        admission = running.service.runtime.engine.admission
        await running.until(lambda: admission.places_taken == 0)
