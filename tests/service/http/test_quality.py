"""Quality before refusal, shadow runs and the cap on decoding, over a real connection."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from adafocus.service.schemas.classify import Classification
from tests.e2e.tiny import write_clip
from tests.service.server import Running, make_settings, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    settings = make_settings(tmp_path_factory.mktemp("bundles"), shadow_full_share=1.0)
    async with serving(settings) as server:
        yield server


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("clips") / "grey.mp4").read_bytes()


async def ask(running: Running, clip: bytes, query: str = "") -> Classification:
    async with running.client() as client:
        answer = await client.post(f"/classify{query}", content=clip)
    assert answer.status_code == httpx.codes.OK, answer.text
    return Classification.model_validate(answer.json())


async def test_a_busy_service_says_that_it_ran_a_cheaper_point(
    running: Running, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = running.service.runtime
    assert runtime is not None
    plain = await ask(running, clip, "?exit=full")
    assert (plain.exit.point, plain.exit.degraded_from) == ("full", None)
    before = running.metric("adafocus_degraded_total")
    monkeypatch.setattr(type(runtime.quality), "observe", lambda *_: 1)
    cheaper = runtime.manifest.cheaper_points("full")[0]
    degraded, strict = await ask(running, clip, "?exit=full"), await ask(running, clip, "?exit=full&strict=true")
    assert (degraded.exit.point, degraded.exit.degraded_from) == (cheaper, "full")
    assert degraded.compute.gflops < plain.compute.gflops
    assert (strict.exit.point, strict.exit.degraded_from) == ("full", None)
    assert running.metric("adafocus_degraded_total") == before + 1
    assert running.metric("adafocus_quality_level") == 1


async def test_an_early_answer_is_compared_with_that_of_all_steps(running: Running, clip: bytes) -> None:
    before = running.metric("adafocus_shadow_total", answer="same")
    told = await ask(running, clip)
    assert told.exit.reason == "confident"
    await running.until(lambda: running.metric("adafocus_shadow_total", answer="same") == before + 1)
    assert 0 < running.metric("adafocus_shadow_evidence") < 1
    runtime = running.service.runtime
    assert runtime is not None
    await runtime.shadows.settled()
    assert running.metric("adafocus_slots_active") == 0, "the slot is given back after the comparison"


async def test_decoding_stops_at_its_cap_and_the_answer_says_so(running: Running, clip: bytes) -> None:
    capped = await ask(running, clip, "?exit=full&max_decode_ms=1")
    whole = await ask(running, clip, "?exit=full&max_decode_ms=60000")
    assert whole.exit.reason == "all_steps"
    assert whole.compute.decode_cpu_ms >= 0, "a hypervisor may subtract all of a moment as stolen"
    assert capped.exit.reason in ("max_decode_ms", "all_steps"), "a fast machine decodes all of it within the cap"
    assert capped.compute.frames_used <= whole.compute.frames_used
