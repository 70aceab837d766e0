"""Several models behind one port: who answers, how a version is replaced, and what is told of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from adafocus.bundle.store import MANIFEST, BundleError
from adafocus.service.app import create_app
from adafocus.service.settings import Settings
from tests.e2e.tiny import LABELS, write_clip, write_tiny_bundle
from tests.service.server import Running, serving

KEY = {"X-API-Key": "sesame"}


def put(folder: Path, name: str, **changes: Any) -> None:
    write_tiny_bundle(folder / name, **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two models: their labels differ, and so do their default points."""
    put(tmp_path / "bundles", "first")
    put(tmp_path / "bundles", "second", labels=("night", "dusk", "day"), default_point="fast")
    return tmp_path / "bundles"


@pytest.fixture
def clip(tmp_path: Path) -> bytes:
    return write_clip(tmp_path / "clip.mp4").read_bytes()


def settings_for(folder: Path, **changes: Any) -> Settings:
    fields = {"bundles": folder, "decode_workers": 2, "max_batch": 4, "intra_op_threads": 1, "bundles_poll_seconds": 0}
    return Settings(**{**fields, **changes})


def guarded(folder: Path, **changes: Any) -> Settings:
    return settings_for(folder, api_keys="sesame", repository_api=True, **changes)


@pytest.fixture
async def running(folder: Path) -> AsyncIterator[Running]:
    async with serving(guarded(folder)) as running:
        yield running


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with running.client(headers=KEY) as client:
        yield client


async def ask(client: httpx.AsyncClient, clip: bytes, **parameters: str) -> Any:
    answer = await client.post("/classify", content=clip, params=parameters, timeout=300)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def manage(client: httpx.AsyncClient, name: str, verb: str) -> httpx.Response:
    """Load or unload a model, which may take long on a busy machine."""
    return await client.post(f"/v2/repository/models/{name}/{verb}", timeout=300)


async def test_each_answers_for_itself_and_the_first_for_those_who_name_none(
    running: Running, client: httpx.AsyncClient, clip: bytes
) -> None:
    first, second = await ask(client, clip), await ask(client, clip, model="second")
    assert (first["model"]["name"], first["predictions"][0]["label"]) == ("first", "grey")
    assert (second["model"]["name"], second["predictions"][0]["label"]) == ("second", "dusk")
    assert (first["exit"]["point"], second["exit"]["point"]) == ("balanced", "fast")
    assert await ask(client, clip, model="first") | {"id": "", "timing_ms": 0, "compute": 0} == first | {
        "id": "",
        "timing_ms": 0,
        "compute": 0,
    }
    assert running.metric("adafocus_requests_total", outcome="ok") == 3
    assert running.metric("adafocus_model_requests_total", model="first", outcome="ok") == 2
    assert running.metric("adafocus_model_requests_total", model="second", outcome="ok") == 1
    assert running.metric("adafocus_model_flops_full_total", model="second") == 20e6


async def test_a_model_that_is_not_there_is_404_with_those_that_are(client: httpx.AsyncClient, clip: bytes) -> None:
    answer = await client.post("/classify", content=clip, params={"model": "third"})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")
    assert answer.json()["detail"] == "there is no model 'third'; this service has first, second"
    answer = await client.post("/classify?model=first&model=second", content=clip)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_parameter")
    answer = await client.post("/classify?exit=no&model=second", content=clip)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_parameter")


async def test_the_other_routes_know_all_models(client: httpx.AsyncClient, clip: bytes) -> None:
    assert (await client.get("/model")).json()["name"] == "first"
    assert (await client.get("/model", params={"model": "second"})).json()["labels"] == ["night", "dusk", "day"]
    assert (await client.get("/model", params={"modle": "second"})).status_code == 400
    listed = (await client.get("/models")).json()
    assert listed["default"] == "first"
    assert [(model["name"], model["state"], model["labels"]) for model in listed["models"]] == [
        ("first", "READY", 3),
        ("second", "READY", 3),
    ]
    assert (await client.get("/v2/models/second/ready")).json() == {"name": "second", "ready": True}
    assert (await client.get("/v2/models/second")).json()["name"] == "second"
    for method in ("GET", "POST"):
        index = await client.request(method, "/v2/repository/index")
        assert [(model["name"], model["version"], model["state"]) for model in index.json()] == [
            ("first", "1.0", "READY"),
            ("second", "1.0", "READY"),
        ]
    operation = (await client.get("/openapi.json")).json()["paths"]["/classify"]["post"]
    named = next(parameter for parameter in operation["parameters"] if parameter["name"] == "model")
    assert named["schema"] == {"type": "string", "enum": ["first", "second"], "default": "first"}


async def test_a_new_version_takes_the_old_ones_place_and_a_bad_one_does_not(
    running: Running, client: httpx.AsyncClient, folder: Path, clip: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    put(folder, "first", version="2.0", labels=("low", "middle", "high"))
    assert (await ask(client, clip))["model"]["version"] == "1.0"
    with caplog.at_level(logging.INFO, "adafocus.models"):
        answer = await manage(client, "first", "load")
    assert (answer.status_code, answer.json()) == (200, {})
    told = await ask(client, clip)
    assert (told["model"]["version"], told["predictions"][0]["label"]) == ("2.0", "middle")
    lines = [getattr(record, "fields", {}) for record in caplog.records if record.getMessage() == "a model is loaded"]
    assert lines == [{"model": "first", "version": "2.0", "replaces": "1.0"}]

    (folder / "first" / MANIFEST).write_text("{}")
    answer = await manage(client, "first", "load")
    assert answer.status_code == 409
    assert "version 2.0 goes on" in answer.json()["error"]
    assert str(folder) not in answer.text
    assert (await ask(client, clip))["model"]["version"] == "2.0"
    assert (await client.get("/readyz")).status_code == 200
    index = (await client.get("/v2/repository/index")).json()
    assert "manifest.json" in index[0]["reason"]
    assert running.metric("adafocus_model_versions_total", model="first", outcome="refused") == 1
    infos = [
        line for line in (await client.get("/metrics")).text.splitlines() if line.startswith("adafocus_model_info")
    ]
    assert [('name="first"' in line, 'version="2.0"' in line) for line in infos] == [(True, True), (False, False)]


async def test_no_request_is_lost_while_versions_change(
    running: Running, client: httpx.AsyncClient, folder: Path, clip: bytes
) -> None:
    versions: set[str] = set()
    ended = asyncio.Event()

    async def keep_asking() -> int:
        count = 0
        while not ended.is_set():
            answer = await ask(client, clip, strict="true")
            versions.add(answer["model"]["version"])
            count += 1
        return count

    asking = [asyncio.create_task(keep_asking()) for _ in range(2)]
    for number in range(2, 6):
        put(folder, "first", version=str(number))
        assert (await manage(client, "first", "load")).status_code == 200
    ended.set()
    assert sum(await asyncio.gather(*asking)) > 0
    await running.service.models.drained("first")
    assert versions <= {"1.0", "2", "3", "4", "5"}
    assert running.metric("adafocus_requests_total", outcome="error") == 0
    assert running.metric("adafocus_model_versions_total", model="first", outcome="loaded") == 5


async def test_what_is_unloaded_is_gone_until_it_is_loaded_again(
    running: Running, client: httpx.AsyncClient, clip: bytes
) -> None:
    assert (await manage(client, "first", "unload")).status_code == 200
    await running.service.models.drained("first")
    answer = await client.post("/classify", content=clip)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")
    assert (await client.get("/v2/models/first/ready")).status_code == 404
    assert (await ask(client, clip, model="second"))["model"]["name"] == "second"
    assert (await client.get("/readyz")).status_code == 200
    assert (await manage(client, "first", "load")).status_code == 200
    assert (await ask(client, clip))["model"]["name"] == "first"
    assert (await manage(client, "third", "load")).status_code == 404


async def test_managing_models_needs_a_key_and_the_setting(folder: Path) -> None:
    async with serving(settings_for(folder, api_keys="sesame")) as running, running.client() as client:
        for verb in ("load", "unload"):
            path = f"/v2/repository/models/first/{verb}"
            assert (await client.post(path)).status_code == 401
            refused = await client.post(path, headers=KEY)
            assert refused.status_code == 403
            assert "ADAFOCUS_REPOSITORY_API=true" in refused.json()["error"]
        assert (await client.get("/v2/repository/index")).status_code == 401
        assert (await client.get("/models")).status_code == 401


async def test_the_default_is_a_setting_and_frames_may_have_several_sizes(folder: Path, clip: bytes) -> None:
    put(folder, "large", crop=48)
    async with serving(settings_for(folder, default_model="large")) as running, running.client() as client:
        both = [await ask(client, clip, trace="true", **named) for named in ({}, {"model": "first"})]
        assert [answer["model"]["name"] for answer in both] == ["large", "first"]
        scores = [[one["score"] for one in answer["predictions"]] for answer in both]
        assert scores[0] == pytest.approx(scores[1], abs=0.02)
        assert [answer["predictions"][0]["label"] for answer in both] == ["grey", "grey"]
        windows = await ask(client, clip, model="first", window_s="0.5")
        assert len(windows["segments"]) == 2


async def test_frames_larger_than_the_decoders_were_started_for_are_refused_by_name(folder: Path, clip: bytes) -> None:
    async with serving(guarded(folder)) as running, running.client(headers=KEY) as client:
        put(folder, "large", crop=48)
        refused = await manage(client, "large", "load")
        assert refused.status_code == 409
        assert "large: its frames have 48 pixels a side" in refused.json()["error"]
        assert "restart the service" in refused.json()["error"]


@pytest.mark.parametrize(("labels", "answer"), [(LABELS, "same"), (LABELS[1:] + LABELS[:1], "different")])
async def test_a_second_model_sees_a_share_of_the_videos_and_agrees_or_not(
    folder: Path, clip: bytes, labels: tuple[str, ...], answer: str
) -> None:
    put(folder, "twin", labels=labels)
    async with serving(settings_for(folder, shadow="twin:100%")) as running, running.client() as client:
        second = running.service.second
        assert second is not None
        await ask(client, clip)
        await second.settled()
        await ask(client, clip, model="second")  # its labels are others
        await ask(client, clip, model="twin")
        await second.settled()
        counted = {
            (model, said): running.metric("adafocus_model_shadow_total", model=model, answer=said)
            for model in ("first", "second", "twin")
            for said in ("same", "different")
        }
        assert counted == {key: float(key == ("first", answer)) for key in counted}
        assert running.metric("adafocus_slots_active") == 0
        assert running.metric("adafocus_model_requests_total", model="twin", outcome="ok") == 1, (
            "a shadow is no request"
        )


async def test_a_second_model_that_is_unloaded_costs_no_answer(folder: Path, clip: bytes) -> None:
    put(folder, "twin")
    async with serving(guarded(folder, shadow="twin:100%")) as running, running.client(headers=KEY) as client:
        assert (await manage(client, "twin", "unload")).status_code == 200
        assert (await ask(client, clip))["model"]["name"] == "first"
        assert running.service.second is not None
        await running.service.second.settled()
        assert running.metric("adafocus_model_shadow_total", model="first", answer="same") == 0


@pytest.mark.parametrize("given", ["twin", "twin:101%", "twin:-1%", "twin:1", "../x:1%"])
def test_a_share_is_a_name_and_per_cent(folder: Path, given: str) -> None:
    with pytest.raises(ValidationError, match="shadow"):
        settings_for(folder, shadow=given)


def test_the_second_model_must_be_there(folder: Path) -> None:
    assert settings_for(folder, shadow="second:0.5%").shadow_model == ("second", 0.005)
    with pytest.raises(BundleError, match="shadow names the model 'twin'; there are first, second"):
        create_app(settings_for(folder, shadow="twin:1%"))


def test_a_default_that_is_not_there_is_named_at_the_start(folder: Path) -> None:
    with pytest.raises(BundleError, match="default_model is 'third'; there are first, second"):
        create_app(settings_for(folder, default_model="third"))


def test_several_fronts_share_one_model_only(folder: Path) -> None:
    with pytest.raises(ValidationError, match="must be 1 with a folder of bundles"):
        settings_for(folder, fronts=2)
    with pytest.raises(ValidationError, match="needs api_keys or api_keys_file"):
        settings_for(folder, repository_api=True)
