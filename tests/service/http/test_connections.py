"""Clients that are rejected early, wait for 100 Continue, disconnect, or meet a full service, over real sockets."""

import asyncio
import json
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from adafocus.bundle.store import Bundle
from adafocus.service.engine.admission import Admission
from adafocus.service.engine.runners.base import Runner, RunnerError
from adafocus.service.engine.runners.fake import FakeRunner
from adafocus.service.settings import Settings
from tests.e2e.tiny import write_clip
from tests.service.server import Running, make_settings, serving

LIMIT = 200_000
KEY = {"Authorization": "Bearer sesame"}


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("clips") / "grey.mp4").read_bytes()


def gated(gate: threading.Event) -> Callable[[Bundle, Settings], Runner]:
    """A runner whose every batch waits for the gate."""
    return lambda bundle, _: FakeRunner(len(bundle.manifest.labels), gate=gate)


def admission_of(running: Running) -> Admission:
    assert running.service.admission is not None
    return running.service.admission


@asynccontextmanager
async def gated_server(folder: Path, **changes: object) -> AsyncIterator[tuple[Running, threading.Event]]:
    gate = threading.Event()
    async with serving(make_settings(folder, **changes), gated(gate)) as running:
        try:
            yield running, gate
        finally:
            gate.set()


def head(path: str = "/classify", **headers: str) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: test",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """One answer, by its Content-Length."""
    start = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode()
    status, *lines = start.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await asyncio.wait_for(reader.readexactly(int(headers.get("content-length", "0"))), 20)
    return int(status.split()[1]), headers, body


async def chunks(total: int, size: int = 50_000) -> AsyncIterator[bytes]:
    for _ in range(0, total, size):
        yield b"x" * size


@pytest.mark.parametrize("total", [LIMIT + 1, 3 * LIMIT])
async def test_httpx_learns_that_its_upload_is_too_large(tmp_path: Path, total: int) -> None:
    async with (
        serving(make_settings(tmp_path, max_upload_bytes=LIMIT, max_queue=4)) as running,
        running.client() as client,
    ):
        declared = await client.post("/classify", content=b"x" * total)
        assert (declared.status_code, declared.json()["code"]) == (413, "too_large")
        chunked = await client.post("/classify", content=chunks(min(total, 2 * LIMIT)))
        assert (chunked.status_code, chunked.json()["code"]) == (413, "too_large")
        form = await client.post("/classify", files={"video": b"x" * (LIMIT + 5000)})
        assert (form.status_code, form.json()["code"]) == (413, "too_large")
        assert (await client.get("/healthz")).status_code == 200
        assert running.metric("adafocus_rejections_total", code="too_large") == 3


async def test_an_endless_upload_is_read_no_further_than_a_bound(tmp_path: Path) -> None:
    async with serving(make_settings(tmp_path, max_upload_bytes=LIMIT)) as running:
        _, writer = await running.connect()
        writer.write(head(Transfer_Encoding="chunked"))
        sent = 0
        with pytest.raises(ConnectionError):
            for _ in range(400):
                writer.write(b"c350\r\n" + b"x" * 50_000 + b"\r\n")
                sent += 50_000
                await asyncio.wait_for(writer.drain(), 20)
            raise AssertionError(f"{sent} bytes went down")
        writer.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("waits", [True, False])
async def test_curl_learns_that_its_upload_is_too_large(tmp_path: Path, waits: bool) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * 4 * LIMIT)
    async with serving(make_settings(tmp_path, max_upload_bytes=LIMIT)) as running:
        expect = ["-H", "Expect: 100-continue"] if waits else ["-H", "Expect:"]
        process = await asyncio.create_subprocess_exec(
            *["curl", "-sS", "--max-time", "20", "--noproxy", "*", *expect],
            *["-F", f"video=@{big}", f"{running.url}/classify", "-w", "\n%{http_code} %{size_upload}"],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
    document, _, numbers = out.decode().rpartition("\n")
    assert process.returncode == 0, err
    assert json.loads(document)["code"] == "too_large"
    status, uploaded = numbers.split()
    assert status == "413"
    if waits:
        assert int(uploaded) == 0


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({"Content_Length": "1000"}, "/classify", 401),
        ({"Content_Length": "1000", **KEY}, "/classify?exit=no", 400),
        ({"Content_Length": str(LIMIT + 1), **KEY}, "/classify", 413),
    ],
)
async def test_who_waits_to_be_invited_uploads_nothing_when_refused(
    tmp_path: Path, headers: dict[str, str], path: str, status: int
) -> None:
    async with serving(make_settings(tmp_path, max_upload_bytes=LIMIT, api_keys="sesame")) as running:
        reader, writer = await running.connect()
        writer.write(head(path, Expect="100-continue", **headers))
        told, answered, _ = await read_answer(reader)
        assert told == status
        assert answered["connection"] == "close"
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()


async def test_who_waits_to_be_invited_is_invited_when_welcome(tmp_path: Path, clip: bytes) -> None:
    async with serving(make_settings(tmp_path)) as running:
        reader, writer = await running.connect()
        writer.write(head(Expect="100-continue", Content_Length=str(len(clip))))
        assert (await read_answer(reader))[0] == 100
        writer.write(clip)
        status, _, body = await read_answer(reader)
        assert status == 200
        assert json.loads(body)["predictions"][0]["label"] == "grey"
        writer.close()


async def test_a_short_refused_upload_keeps_the_connection(tmp_path: Path) -> None:
    async with serving(make_settings(tmp_path, api_keys="sesame")) as running:
        reader, writer = await running.connect()
        for _ in range(3):
            writer.write(head(Content_Length="1000"))
            assert (await read_answer(reader))[0] == 401
            writer.write(b"x" * 1000)
        writer.close()


async def test_keys_open_what_they_guard_and_nothing_else_is_guarded(tmp_path: Path, clip: bytes) -> None:
    async with serving(make_settings(tmp_path, api_keys="one,two")) as running, running.client() as client:
        for given in ({}, {"X-API-Key": "three"}, {"Authorization": "Basic one"}):
            answer = await client.post("/classify", content=clip, headers=given)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert (await client.get("/model", headers=given)).status_code == 401
        for given in ({"X-API-Key": "one"}, {"Authorization": "bearer two"}):
            assert (await client.post("/classify", content=clip, headers=given)).status_code == 200
        for path in ("/healthz", "/readyz", "/metrics", "/"):
            assert (await client.get(path)).status_code == 200


async def test_a_full_house_says_when_to_come_back(tmp_path: Path, clip: bytes) -> None:
    async with gated_server(tmp_path, decode_workers=1, max_queue=1) as (running, gate), running.client() as client:
        inside = [asyncio.create_task(client.post("/classify", content=clip)) for _ in range(2)]
        await running.until(lambda: running.metric("adafocus_queue_depth") == 1)
        refused = await client.post("/classify", content=clip)
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert running.metric("adafocus_requests_total", outcome="rejected") == 1
        gate.set()
        assert [(await request).status_code for request in inside] == [200, 200]
        assert running.metric("adafocus_slots_active") == running.metric("adafocus_queue_depth") == 0


async def test_a_full_house_invites_nobody(tmp_path: Path, clip: bytes) -> None:
    async with gated_server(tmp_path, decode_workers=1, max_queue=0) as (running, gate), running.client() as client:
        inside = asyncio.create_task(client.post("/classify", content=clip))
        await running.until(lambda: running.metric("adafocus_slots_active") == 1)
        reader, writer = await running.connect()
        writer.write(head(Expect="100-continue", Content_Length=str(len(clip))))
        status, headers, _ = await read_answer(reader)
        assert (status, headers["connection"]) == (503, "close")
        writer.close()
        gate.set()
        assert (await inside).status_code == 200


async def test_a_deadline_before_the_first_step(tmp_path: Path, clip: bytes) -> None:
    async with gated_server(tmp_path) as (running, _), running.client() as client:
        late = await client.post("/classify?deadline_ms=300", content=clip)
        assert (late.status_code, late.json()["code"]) == (504, "deadline")
        assert running.metric("adafocus_requests_total", outcome="deadline") == 1


@pytest.mark.parametrize("sent", [0, 1, 500, -1])
async def test_a_client_that_leaves_during_the_upload(tmp_path: Path, clip: bytes, sent: int) -> None:
    async with serving(make_settings(tmp_path)) as running:
        reader, writer = await running.connect()
        writer.write(head(Content_Length=str(len(clip)), Expect="100-continue"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"  # it holds a place
        assert admission_of(running).places_taken == 1
        writer.write(clip[:sent])
        writer.transport.abort()
        await running.until(lambda: running.metric("adafocus_requests_total", outcome="cancelled") == 1)
        assert admission_of(running).places_taken == 0


@pytest.mark.parametrize("place", ["in a slot", "in the queue"])
async def test_a_client_that_leaves_while_it_waits_for_its_answer(tmp_path: Path, clip: bytes, place: str) -> None:
    async with gated_server(tmp_path, decode_workers=1) as (running, gate), running.client() as client:
        others = [asyncio.create_task(client.post("/classify", content=clip))] if place == "in the queue" else []
        if others:
            await running.until(lambda: running.metric("adafocus_slots_active") == 1)
        _, writer = await running.connect()
        writer.write(head(Content_Length=str(len(clip))) + clip)
        gauge = "adafocus_queue_depth" if others else "adafocus_slots_active"
        await running.until(lambda: running.metric(gauge) == 1)
        writer.transport.abort()
        await running.until(lambda: running.metric("adafocus_requests_total", outcome="cancelled") == 1)
        await running.until(lambda: running.metric(gauge) == 0)
        gate.set()
        assert [(await other).status_code for other in others] == [200] * len(others)
        assert (await client.post("/classify", content=clip)).status_code == 200


async def test_a_silent_upload_is_given_up(tmp_path: Path) -> None:
    async with serving(make_settings(tmp_path, upload_timeout_seconds=0.2)) as running:
        reader, writer = await running.connect()
        writer.write(head(Content_Length="1000") + b"x" * 10)
        status, _, body = await read_answer(reader)
        assert (status, json.loads(body)["code"]) == (408, "upload_timeout")
        writer.close()


async def test_an_upload_that_trickles_is_given_up(tmp_path: Path, clip: bytes) -> None:
    settings = make_settings(tmp_path, upload_timeout_seconds=0.3, min_upload_bytes_per_second=1000)
    async with serving(settings) as running, running.client() as client:
        reader, writer = await running.connect()
        writer.write(head(Content_Length="1000"))
        answer = asyncio.create_task(read_answer(reader))
        while not answer.done():  # a byte now and then: never silent
            writer.write(b"x")
            await asyncio.sleep(0.02)
        status, _, body = answer.result()
        assert (status, json.loads(body)["code"]) == (408, "upload_timeout")
        assert "at least 1000 bytes a second" in json.loads(body)["detail"]
        writer.close()
        assert (await client.post("/classify", content=clip)).status_code == 200


async def test_before_the_model_is_loaded_it_is_alive_and_not_ready(tmp_path: Path, clip: bytes) -> None:
    loaded = threading.Event()

    def slow(bundle: Bundle, _: Settings) -> Runner:
        loaded.wait(timeout=30)
        return FakeRunner(len(bundle.manifest.labels))

    async with serving(make_settings(tmp_path), slow, wait_until_ready=False) as running, running.client() as client:
        try:
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/metrics")).status_code == 200
            unready = await client.get("/readyz")
            assert (unready.status_code, unready.json()["code"]) == (503, "draining")
            early = await client.post("/classify", content=clip)
            assert (early.status_code, early.json()["code"]) == (503, "draining")
            assert int(early.headers["retry-after"]) >= 1
        finally:
            loaded.set()
        await running.until(lambda: running.service.ready)
        assert (await client.post("/classify", content=clip)).status_code == 200


async def test_while_it_drains_it_is_unready_and_still_answers(tmp_path: Path, clip: bytes) -> None:
    async with serving(make_settings(tmp_path)) as running, running.client() as client:
        running.service.begin_drain()
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.post("/classify", content=clip)).status_code == 200
        running.service.stop_admitting()
        refused = await client.post("/classify", content=clip)
        assert (refused.status_code, refused.json()["code"]) == (503, "draining")


async def test_a_model_that_cannot_be_loaded_is_reported(tmp_path: Path) -> None:
    def broken(_: Bundle, __: Settings) -> Runner:
        raise RunnerError("no such device")

    with pytest.raises(RunnerError, match="no such device"):
        async with serving(make_settings(tmp_path), broken):
            pass


async def test_a_fault_in_the_graphs_is_a_500_and_the_next_request_is_answered(tmp_path: Path, clip: bytes) -> None:
    dark = write_clip(tmp_path / "dark.mp4", "dark").read_bytes()

    def picky(bundle: Bundle, _: Settings) -> Runner:
        return FakeRunner(len(bundle.manifest.labels), fails_on=lambda frames: bool(frames.mean() < 64))

    async with serving(make_settings(tmp_path), picky) as running, running.client() as client:
        failed = await client.post("/classify", content=dark, headers={"X-Request-ID": "q9"})
        assert (failed.status_code, failed.json()["code"]) == (500, "internal")
        assert "q9" in failed.json()["instance"]
        assert "design" not in failed.text
        assert (await client.post("/classify", content=clip)).status_code == 200
        assert running.metric("adafocus_requests_total", outcome="error") == 1


async def test_many_at_once_get_their_own_answers(tmp_path: Path) -> None:
    clips = {label: write_clip(tmp_path / f"{label}.mp4", label).read_bytes() for label in ("dark", "grey", "bright")}
    async with serving(make_settings(tmp_path, decode_workers=3)) as running:
        limits = httpx.Limits(max_connections=12)
        async with running.client(limits=limits) as client:
            labels = list(clips) * 6
            answers = await asyncio.gather(*(client.post("/classify", content=clips[label]) for label in labels))
    assert [answer.json()["predictions"][0]["label"] for answer in answers] == labels
