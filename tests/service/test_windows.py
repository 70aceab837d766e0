"""Long videos, window by window, through the real decoders and a tiny model, over a real connection."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from adafocus.service.decode.pool import DecodeJob, DecodePool
from adafocus.service.schemas.classify import Classification
from tests.e2e.tiny import write_clip, write_parts
from tests.media.damage import zeroed
from tests.service.decode.factory import filled, rest
from tests.service.http.test_sse import ask
from tests.service.server import Running, make_settings, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

PARTS = (("dark", 20.0), ("bright", 12.0), ("grey", 8.0), ("dark", 10.0))
BOUNDARIES = [("dark", 0, 20), ("bright", 20, 32), ("grey", 32, 40), ("dark", 40, 50)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    settings = make_settings(
        tmp_path_factory.mktemp("bundles"),
        decode_workers=2,
        max_video_seconds=20,
        max_windowed_seconds=60,
        max_windows=60,
    )
    async with serving(settings) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with running.client() as client:
        yield client


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_parts(tmp_path_factory.mktemp("clips") / "parts.mp4", PARTS).read_bytes()


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("clips") / "grey.mp4", seconds=3).read_bytes()


async def classify(client: httpx.AsyncClient, video: bytes, **params: Any) -> dict[str, Any]:
    response = await client.post("/classify", content=video, params=params)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    Classification.model_validate(answer)
    return answer


async def problem(client: httpx.AsyncClient, video: bytes, **params: Any) -> tuple[int, str]:
    response = await client.post("/classify", content=video, params=params)
    return response.status_code, response.json()["code"]


async def test_segments_and_events_are_right_at_known_boundaries(client: httpx.AsyncClient, video: bytes) -> None:
    answer = await classify(client, video, window_s=2, exit="full")
    segments = answer["segments"]
    assert [(it["start_s"], it["end_s"]) for it in segments] == [(2 * n, 2 * n + 2) for n in range(25)]
    assert [it["predictions"][0]["label"] for it in segments] == ["dark"] * 10 + ["bright"] * 6 + ["grey"] * 4 + [
        "dark"
    ] * 5
    assert [(it["label"], it["start_s"], it["end_s"]) for it in answer["events"]] == BOUNDARIES
    assert [it["windows"] for it in answer["events"]] == [10, 6, 4, 5]
    assert answer["video"]["duration_s"] == 50
    for name in ("gflops", "gflops_full", "glance_gflops", "focus_gflops", "frames_used", "frames_decoded"):
        assert answer["compute"][name] == pytest.approx(sum(it["compute"][name] for it in segments))
    assert answer["predictions"][0]["label"] == "dark", "the mean over the windows"
    assert answer["exit"] == {
        "point": "full",
        "reason": "all_steps",
        "step": 4,
        "steps": 4,
        "component": "focus",
        "degraded_from": None,
        "confidence": answer["predictions"][0]["score"],
        "threshold": None,
    }


async def test_one_window_as_long_as_the_video_gives_the_same_answer_bit_for_bit(
    client: httpx.AsyncClient, short: bytes
) -> None:
    for point in ("full", "accurate", "fast"):
        whole = await classify(client, short, exit=point, trace="true")
        one = await classify(client, short, exit=point, trace="true", window_s=3)
        (segment,) = one.pop("segments")
        assert [event["label"] for event in one.pop("events")] == ["grey"]
        assert (segment["start_s"], segment["end_s"]) == (0, 3)
        assert (segment["predictions"], segment["exit"]) == (whole["predictions"], whole["exit"])
        for answer in (whole, one):
            del answer["id"], answer["timing_ms"], answer["compute"]["decode_cpu_ms"]
            if point != "full":  # how far the decoder got before an early exit depends on its speed
                del answer["compute"]["frames_decoded"]
        assert one == whole


async def test_a_window_is_answered_like_a_video_that_holds_just_it(
    client: httpx.AsyncClient, video: bytes, tmp_path: Path
) -> None:
    segments = (await classify(client, video, window_s=10, exit="full"))["segments"]
    alone = write_parts(tmp_path / "alone.mp4", [("bright", 2.0), ("grey", 8.0)]).read_bytes()
    expected = await classify(client, alone, exit="full")
    assert segments[3]["predictions"] == expected["predictions"]
    assert segments[3]["exit"] == expected["exit"]


async def test_windows_may_overlap_or_leave_gaps(client: httpx.AsyncClient, video: bytes) -> None:
    overlapping = (await classify(client, video, window_s=10, stride_s=5))["segments"]
    assert [(it["start_s"], it["end_s"]) for it in overlapping] == [(5 * n, 5 * n + 10) for n in range(9)]
    apart = (await classify(client, video, window_s=1, stride_s=20))["segments"]
    assert [(it["start_s"], it["end_s"]) for it in apart] == [(0, 1), (20, 21), (40, 41)]
    assert [it["predictions"][0]["label"] for it in apart] == ["dark", "bright", "dark"]


async def test_short_events_can_be_left_out(client: httpx.AsyncClient, video: bytes) -> None:
    events = (await classify(client, video, window_s=2, exit="full", event_min_s=9))["events"]
    assert [(it["label"], it["start_s"], it["end_s"]) for it in events] == [
        ("dark", 0, 20),
        ("bright", 20, 32),
        ("dark", 40, 50),
    ]
    assert (await classify(client, video, window_s=2, exit="full", event_threshold=1))["events"] == []


async def test_an_early_exit_saves_in_every_window(client: httpx.AsyncClient, video: bytes) -> None:
    full = (await classify(client, video, window_s=5, exit="full"))["compute"]
    fast = (await classify(client, video, window_s=5, exit="fast"))["compute"]
    assert fast["gflops"] < full["gflops"] == pytest.approx(full["gflops_full"])
    assert fast["gflops_full"] == pytest.approx(full["gflops_full"])
    assert fast["frames_decoded"] <= full["frames_decoded"] <= 500


async def test_segments_and_events_come_as_they_are_found(client: httpx.AsyncClient, video: bytes) -> None:
    *told, (last, result) = await ask(client, video, window_s="5", exit="full")
    assert last == "result"
    assert [data for name, data in told if name == "segment"] == result["segments"]
    assert [data for name, data in told if name == "event"] == result["events"]
    names = [name for name, _ in told]
    assert names.index("event") < len(names) - 1, "the first event is told before the last window"


async def test_a_video_longer_than_the_limit_is_possible_in_windows(client: httpx.AsyncClient, video: bytes) -> None:
    assert await problem(client, video) == (422, "too_long")
    assert len((await classify(client, video, window_s=20))["segments"]) == 3


async def test_windows_have_limits_of_their_own(client: httpx.AsyncClient, video: bytes, tmp_path: Path) -> None:
    assert await problem(client, video, window_s=0.5) == (422, "too_long")
    longer = write_parts(tmp_path / "longer.mp4", [("grey", 61.0)], fps=2).read_bytes()
    assert await problem(client, longer, window_s=20) == (422, "too_long")


async def test_the_processor_time_of_decoding_is_that_of_the_request(client: httpx.AsyncClient, video: bytes) -> None:
    answer = await classify(client, video, window_s=1, exit="full", max_decode_ms=1)
    assert answer["exit"]["reason"] == "max_decode_ms"
    assert 1 <= len(answer["segments"]) < 50


@pytest.mark.parametrize(
    "params",
    [
        {"stride_s": "1"},
        {"event_threshold": "0.5"},
        {"event_min_s": "1"},
        {"window_s": "0"},
        {"window_s": "nan"},
        {"window_s": "1", "stride_s": "0"},
        {"window_s": "1", "event_threshold": "2"},
        {"window_s": "1e9"},
    ],
)
async def test_parameters_of_windows_are_checked(
    client: httpx.AsyncClient, short: bytes, params: dict[str, str]
) -> None:
    assert await problem(client, short, **params) == (400, "bad_parameter")


async def test_the_budget_is_that_of_the_request(client: httpx.AsyncClient, video: bytes) -> None:
    per_step = (await classify(client, video, window_s=50, exit="fast"))["compute"]["gflops"]
    answer = await classify(client, video, window_s=5, exit="full", max_gflops=per_step * 6.5)
    assert answer["compute"]["gflops"] == pytest.approx(per_step * 6)
    assert [it["exit"]["step"] for it in answer["segments"]] == [4, 2]
    assert answer["exit"]["reason"] == "max_gflops"


async def test_what_is_no_video_is_refused_as_ever(client: httpx.AsyncClient) -> None:
    assert await problem(client, b"no video" * 100, window_s=5) == (415, "unsupported_media")
    assert await problem(client, b"", window_s=5) == (400, "empty_body")


async def test_windows_are_counted(running: Running, client: httpx.AsyncClient, video: bytes) -> None:
    before = running.metric("adafocus_windows_total", outcome="ok")
    answered = running.metric("adafocus_requests_total", outcome="ok")
    await classify(client, video, window_s=10)
    assert running.metric("adafocus_windows_total", outcome="ok") == before + 5
    assert running.metric("adafocus_requests_total", outcome="ok") == answered + 1
    assert running.service.runtime is not None
    assert running.service.runtime.engine.admission.places_taken == 0


async def test_a_worker_that_dies_between_windows_costs_nothing_but_time(running: Running, video: bytes) -> None:
    """The next window is decoded by another worker, which opens the video again."""
    assert running.service.runtime is not None
    runtime = running.service.runtime
    manifest = runtime.manifest
    job = DecodeJob(manifest.sampling, manifest.geometry, replace(runtime.settings.media_limits, max_seconds=60))
    with filled(video) as spool:
        async with runtime.decoder.windows(spool, job, 5.0, 5.0) as decoder:
            async with decoder.open(0) as session:
                assert session.window.count == 10
                first = await rest(session)
            before = set(runtime.decoder.pids)
            os.kill(decoder._reservation.worker.pid, signal.SIGKILL)  # type: ignore[union-attr]
            await asyncio.wait_for(_changed(runtime.decoder, before), 30)
            async with decoder.open(1) as session:
                second = await rest(session)
    assert [frame.index for frame in first] == [frame.index - 50 for frame in second]


async def _changed(pool: DecodePool, before: set[int]) -> None:
    while set(pool.pids) == before:
        await asyncio.sleep(0)


async def test_damage_costs_the_windows_that_it_hits(client: httpx.AsyncClient, video: bytes) -> None:
    answer = await classify(client, zeroed(video, 0.45, 0.75), window_s=5, exit="full")
    starts = [it["start_s"] for it in answer["segments"]]
    assert 0 in starts
    assert starts == sorted(starts)
    assert len(starts) <= 10
