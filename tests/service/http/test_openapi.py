"""The API description: everything has an example, every example is what its schema says, and the requests work."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator

from adafocus.service.app import create_app
from adafocus.service.errors import CATALOGUE, OF_MODELS
from adafocus.service.settings import Settings
from tests.service.server import Running, make_settings, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

Json = dict[str, Any]

SHIPPED = Path(__file__).resolve().parents[3] / "bundles" / "sky"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with serving(make_settings(tmp_path_factory.mktemp("bundles"))) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with running.client() as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(client: httpx.AsyncClient) -> Json:
    document: Json = (await client.get("/openapi.json")).json()
    return document


def operations(api: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in api["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def shown(media: Json) -> list[Any]:
    """The examples of one media type."""
    return [media["example"]] if "example" in media else [one["value"] for one in media.get("examples", {}).values()]


def check(media: Json, api: Json, where: str) -> None:
    """Its examples are there, and are what its schema says."""
    Draft202012Validator.check_schema(media["schema"])
    validator = Draft202012Validator({**media["schema"], "components": api["components"]})
    assert shown(media), f"{where} has no example"
    for example in shown(media):
        problems = [error.message for error in validator.iter_errors(example)]
        assert problems == [], where


@pytest.mark.parametrize("bundle", ["tiny", "shipped"])
async def test_every_answer_has_examples_that_are_what_its_schema_says(api: Json, bundle: str) -> None:
    described = api if bundle == "tiny" else create_app(Settings(bundle=SHIPPED)).openapi()
    for method, path, operation in operations(described):
        assert "200" in operation["responses"]
        for status, response in operation["responses"].items():
            assert response["content"]
            for media_type, media in response["content"].items():
                check(media, described, f"{method} {path}: {status} {media_type}")


async def test_every_request_has_examples_that_are_what_its_schema_says(api: Json) -> None:
    bodies = [
        (f"{method} {path}: {media_type}", media)
        for method, path, operation in operations(api)
        for media_type, media in operation.get("requestBody", {"content": {}})["content"].items()
    ]
    assert {where.rpartition(" ")[2] for where, _ in bodies} == {
        *("multipart/form-data", "application/octet-stream", "video/mp4", "application/json")
    }
    for where, media in bodies:
        check(media, api, where)


async def test_every_problem_is_described_with_an_example(api: Json) -> None:
    answers = [response for _, _, operation in operations(api) for response in operation["responses"].values()]
    answers += api["components"]["responses"].values()
    for response in api["components"]["responses"].values():
        check(response["content"]["application/problem+json"], api, response["description"])
    found = {
        name: example["value"]
        for response in answers
        for media_type, media in response["content"].items()
        if media_type == "application/problem+json"
        for name, example in media["examples"].items()
    }
    assert {name: (example["code"], example["status"]) for name, example in found.items()} == {
        kind.code: (kind.code, kind.status) for kind in CATALOGUE if kind not in OF_MODELS
    }


async def test_the_examples_of_requests_are_answered(api: Json, client: httpx.AsyncClient) -> None:
    sent = 0
    for method, path, operation in operations(api):
        parameters = operation.get("parameters", [])
        names = {one["name"]: one["schema"]["enum"][0] for one in parameters if one["in"] == "path"}
        url = re.sub(r"{(\w+)}", lambda found, names=names: names[found[1]], path)
        for media_type, media in operation.get("requestBody", {"content": {}})["content"].items():
            for example in shown(media):
                if "url" in example:  # nothing beyond loopback is asked in tests
                    refused = await client.request(method, url, json=example)
                    assert (refused.status_code, refused.json()["code"]) == (400, "url_not_allowed")
                    continue
                answer = await client.request(method, url, **request(media_type, example, parameters))
                assert answer.status_code == 200, answer.text
                sent += 1
    assert sent == 10


def request(media_type: str, example: Any, parameters: list[Json]) -> Json:
    """An example as httpx sends it."""
    if media_type == "multipart/form-data":
        return {"files": {name: value.encode("ascii") for name, value in example.items()}}
    if media_type == "application/json":
        return {"json": example}
    headers = {one["name"]: str(one["example"]) for one in parameters if one["in"] == "header"}
    return {"content": example.encode("ascii"), "headers": {"Content-Type": media_type, **headers}}
