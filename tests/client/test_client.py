"""The client, against the real service and against servers that misbehave."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import adafocus
from adafocus import client as module
from adafocus.client import AsyncClient, Client, ServiceError, ServiceUnreachableError, UnexpectedAnswerError
from adafocus.service.schemas.classify import Classification, StepEvent
from tests.service.server import Running, make_settings, serving
from tests.video.clips import make_clip

CLIP = make_clip(20)
BUSY = {"code": "overloaded", "detail": "all slots are taken", "status": 503, "instance": "urn:adafocus:request:abc"}


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with serving(make_settings(tmp_path)) as server:
        yield server


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(CLIP)
    return path


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits that the client asked for; none of them takes time."""
    asked: list[float] = []
    monkeypatch.setattr(module.time, "sleep", asked.append)

    async def sleep(seconds: float) -> None:
        asked.append(seconds)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    return asked


def answering(*responses: httpx.Response | Exception) -> httpx.MockTransport:
    """A network that gives these answers, one after the other."""
    left = list(responses)

    def handle(request: httpx.Request) -> httpx.Response:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return httpx.MockTransport(handle)


def busy(after: str | None = "3", status: int = 503) -> httpx.Response:
    return httpx.Response(status, json=BUSY, headers={} if after is None else {"Retry-After": after})


class TestAgainstTheService:
    async def test_a_file_and_its_bytes_get_the_same_answer(self, running: Running, clip: Path) -> None:
        async with AsyncClient(running.url) as client:
            by_path = await client.classify(clip, exit="full", top_k=1, trace=True)
            by_bytes = await client.classify(CLIP, exit="full", top_k=1, trace=True)
        assert by_path.predictions == by_bytes.predictions and len(by_path.predictions) == 1
        assert by_path.trace == by_bytes.trace and by_path.exit.point == "full"

    async def test_the_synchronous_client_answers_the_same(self, running: Running, clip: Path) -> None:
        def classify() -> tuple[Classification, list[StepEvent | Classification], dict[str, Any]]:
            with Client(running.url) as client:
                return client.classify(str(clip)), list(client.stream(clip, exit="full")), client.model()

        answer, events, manifest = await asyncio.to_thread(classify)
        async with AsyncClient(running.url) as client:
            assert (await client.classify(CLIP)).predictions == answer.predictions
        *steps, result = events
        assert isinstance(result, Classification)
        assert [step.step for step in steps if isinstance(step, StepEvent)] == list(range(1, result.exit.steps + 1))
        assert manifest["labels"]

    async def test_steps_are_yielded_as_they_come(self, running: Running) -> None:
        async with AsyncClient(running.url) as client:
            events = [event async for event in client.stream(CLIP, exit="full", frames=True)]
            assert all(event.image is not None for event in events if isinstance(event, StepEvent))
            assert isinstance(events[-1], Classification)
            manifest = await client.model()
        assert manifest["name"] == events[-1].model.name

    async def test_an_error_has_the_code_and_the_request_id(self, running: Running) -> None:
        async with AsyncClient(running.url) as client:
            with pytest.raises(ServiceError, match="unsupported_media") as refused:
                await client.classify(b"not a video")
            assert refused.value.status == 415 and refused.value.request_id
            with pytest.raises(ServiceError, match="unsupported_media"):
                _ = [event async for event in client.stream(b"not a video")]
            with pytest.raises(ServiceError, match="bad_parameter"):
                await client.classify(CLIP, top_k=0)

    async def test_a_key_is_sent(self, tmp_path: Path) -> None:
        async with serving(make_settings(tmp_path, api_keys=["secret"])) as running:
            async with AsyncClient(running.url) as client:
                with pytest.raises(ServiceError, match="unauthorized"):
                    await client.classify(CLIP)
            async with AsyncClient(running.url, api_key="secret") as client:
                assert (await client.classify(CLIP)).predictions


class TestRetries:
    def test_a_busy_service_is_asked_again_after_the_time_it_names(self, waits: list[float], clip: Path) -> None:
        transport = answering(busy("3"), busy(None, 429), busy("9999"), httpx.Response(415, json=BUSY))
        with Client(transport=transport) as client, pytest.raises(ServiceError):
            client.classify(clip)
        assert waits == [3.0, 1.0, module.LONGEST_WAIT_SECONDS]

    def test_it_gives_up_after_its_retries(self, waits: list[float]) -> None:
        transport = answering(*(busy("2") for _ in range(3)))
        with Client(transport=transport, retries=2) as client, pytest.raises(ServiceError) as given_up:
            list(client.stream(CLIP))
        assert waits == [2.0, 2.0] and given_up.value.retry_after_s == 2.0

    async def test_the_asynchronous_client_retries_too(self, waits: list[float], clip: Path) -> None:
        for video in (clip, CLIP):
            transport = answering(busy("1"), busy("2"), httpx.Response(500, text="oops"))
            async with AsyncClient(transport=transport) as client:
                with pytest.raises(ServiceError, match="500") as failed:
                    await client.classify(video)
            assert failed.value.code == ""
        assert waits == [1.0, 2.0] * 2


class TestOtherServers:
    def test_what_is_not_a_classification_is_named(self) -> None:
        page = httpx.Response(200, text="<html>hello</html>")
        with Client(transport=answering(page, page, page)) as client:
            with pytest.raises(UnexpectedAnswerError, match="check the URL"):
                client.classify(CLIP)
            with pytest.raises(UnexpectedAnswerError, match="event stream"):
                list(client.stream(CLIP))
            with pytest.raises(UnexpectedAnswerError, match="manifest"):
                client.model()

    def test_a_broken_connection_is_one_kind_of_error(self) -> None:
        with Client(transport=answering(httpx.ConnectError("refused"), httpx.ReadTimeout("slow"))) as client:
            with pytest.raises(ServiceUnreachableError, match="refused"):
                client.classify(CLIP)
            with pytest.raises(ServiceUnreachableError, match="slow"):
                list(client.stream(CLIP))

    def test_a_stream_without_a_result_is_not_an_answer(self) -> None:
        cut = httpx.Response(200, text="", headers={"Content-Type": "text/event-stream"})
        with (
            Client(transport=answering(cut)) as client,
            pytest.raises(ServiceUnreachableError, match="its result"),
        ):
            list(client.stream(CLIP))


def test_the_client_loads_no_server() -> None:
    code = (
        "import sys, adafocus; adafocus.Client; "
        "print([name for name in ('fastapi', 'uvicorn', 'av', 'onnxruntime', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_package_names_its_version_and_nothing_else() -> None:
    assert adafocus.__version__
    with pytest.raises(AttributeError, match="no attribute 'Cleint'"):
        adafocus.Cleint  # type: ignore[attr-defined]  # noqa: B018
