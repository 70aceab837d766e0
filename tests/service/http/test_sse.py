"""Steps told as they happen, over a real connection."""

import asyncio
import base64
import io
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from adafocus.bundle.store import Bundle
from adafocus.service.engine.runners.fake import FakeRunner
from adafocus.service.http.sse import jpeg
from adafocus.service.schemas.classify import Classification, ProblemDocument, StepEvent
from adafocus.service.settings import Settings
from tests.e2e.tiny import CROP, write_clip
from tests.service.server import make_settings, serving

Event = tuple[str, Any]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("clips") / "bright.mp4", "bright").read_bytes()


async def events(response: httpx.Response) -> AsyncIterator[Event]:
    """The events of a stream; every line must be one that the format knows."""
    name = ""
    async for line in response.aiter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)
        else:
            assert line == ""


async def ask(client: httpx.AsyncClient, clip: bytes, **params: str) -> list[Event]:
    async with client.stream("POST", "/classify", content=clip, params={"stream": "true", **params}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        return [event async for event in events(response)]


async def test_a_step_for_each_step_and_then_the_whole_answer(tmp_path: Path, clip: bytes) -> None:
    async with serving(make_settings(tmp_path)) as running, running.client() as client:
        *steps, (last, result) = await ask(client, clip, exit="full", trace="true")
        assert [name for name, _ in steps] == ["step"] * 4
        assert last == "result"
        answer = Classification.model_validate(result)
        told = [StepEvent.model_validate(data) for _, data in steps]
        assert answer.trace is not None
        shared = answer.trace[0].model_dump().keys()
        assert [entry.model_dump() for entry in answer.trace] == [event.model_dump(include=shared) for event in told]
        assert [event.gflops for event in told] == pytest.approx([0.005, 0.01, 0.015, 0.02])
        assert [event.threshold for event in told] == [None] * 4
        assert sorted(event.place for event in told) == [0, 1, 2, 3]
        frames = [event.frame for event in sorted(told, key=lambda event: event.place)]
        assert frames == sorted(frames)
        elapsed = [event.elapsed_ms for event in told]
        assert elapsed == sorted(elapsed)
        assert elapsed[-1] <= answer.timing_ms.total
        assert "image" not in steps[0][1]
        assert running.metric("adafocus_requests_total", outcome="ok") == 1


async def test_it_ends_with_the_exit_and_says_the_threshold(tmp_path: Path, clip: bytes) -> None:
    async with serving(make_settings(tmp_path)) as running, running.client() as client:
        *steps, (_, result) = await ask(client, clip, exit="balanced")
        assert len(steps) == result["exit"]["step"] == 2
        assert [data["threshold"] for _, data in steps] == [0.75, 0.75]
        assert "trace" not in result


async def test_the_frame_is_shown_when_asked_for(tmp_path: Path, clip: bytes) -> None:
    async with serving(make_settings(tmp_path)) as running, running.client() as client:
        (_, step), *_ = await ask(client, clip, frames="true")
        head, _, data = step["image"]["data"].partition(",")
        assert head == "data:image/jpeg;base64"
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        assert picture.shape == (CROP, CROP, 3)
        assert abs(picture.astype(int) - 225).max() <= 4
        assert step["image"]["view"] == {"x": 11, "y": 3, "width": 42, "height": 42}
        assert (step["image"]["width"], step["image"]["height"]) == (64, 48)


async def test_frames_without_a_stream_change_nothing_as_the_description_says(tmp_path: Path, clip: bytes) -> None:
    async with serving(make_settings(tmp_path)) as running, running.client() as client:
        plain, framed = [
            await client.post("/classify", content=clip, params={"trace": "true", **more})
            for more in ({}, {"frames": "true"})
        ]
        assert framed.status_code == 200
        assert framed.headers["content-type"] == "application/json"
        assert framed.json().keys() == plain.json().keys()
        assert framed.json()["trace"] == plain.json()["trace"]
        described = (await client.get("/openapi.json")).json()["paths"]["/classify"]["post"]["parameters"]
        (text,) = [parameter["description"] for parameter in described if parameter["name"] == "frames"]
        assert "Ignored without `stream=true`" in text


async def test_what_goes_wrong_before_the_first_step_is_an_ordinary_error(tmp_path: Path) -> None:
    async with serving(make_settings(tmp_path)) as running, running.client() as client:
        answer = await client.post("/classify?stream=true", content=b"no video" * 100)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media")
        answer = await client.post("/classify?stream=true&exit=slow", content=b"no video")
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_parameter")
        assert running.metric("adafocus_requests_total", outcome="client_error") == 2


class FailsLater(FakeRunner):
    """Fails from its third glance on."""

    def glance(self, frames: Any, policy_state: Any) -> Any:
        if len(self.batches) == 2:
            self.fails_on = lambda _: True
        return super().glance(frames, policy_state)


async def test_what_goes_wrong_later_is_the_last_event(tmp_path: Path, clip: bytes) -> None:
    def make(bundle: Bundle, _: Settings) -> FakeRunner:
        return FailsLater(len(bundle.manifest.labels), gain=0.1)

    async with serving(make_settings(tmp_path), make) as running, running.client() as client:
        *steps, (last, data) = await ask(client, clip, exit="full")
        assert [name for name, _ in steps] == ["step", "step"]
        assert last == "problem"
        assert ProblemDocument.model_validate(data).code == "internal"
        assert running.metric("adafocus_requests_total", outcome="error") == 1


async def test_a_reader_that_goes_away_cancels_the_request(tmp_path: Path, clip: bytes) -> None:
    gate = threading.Semaphore(1)

    class OneStepAtATime(FakeRunner):
        def glance(self, frames: Any, policy_state: Any) -> Any:
            assert gate.acquire(timeout=30)
            return super().glance(frames, policy_state)

    def make(bundle: Bundle, _: Settings) -> FakeRunner:
        return OneStepAtATime(len(bundle.manifest.labels), gain=0.1)

    async with serving(make_settings(tmp_path), make) as running:
        reader, writer = await running.connect()
        writer.write(
            f"POST /classify?stream=true&exit=full HTTP/1.1\r\nHost: x\r\nContent-Length: {len(clip)}\r\n\r\n".encode()
        )
        writer.write(clip)
        await asyncio.wait_for(reader.readuntil(b"event: step"), 30)
        writer.close()
        await writer.wait_closed()
        await running.until(lambda: running.metric("adafocus_requests_total", outcome="cancelled") == 1)
        assert running.metric("adafocus_slots_active") == 0
        gate.release(10)


def test_a_picture_keeps_its_colours() -> None:
    pixels = np.zeros((48, 64, 3), dtype=np.uint8)
    pixels[:24, :32] = (200, 40, 40)
    pixels[24:, 32:] = (30, 90, 220)
    picture = np.asarray(Image.open(io.BytesIO(jpeg(pixels))))
    assert abs(picture.astype(int) - pixels).mean() < 3
