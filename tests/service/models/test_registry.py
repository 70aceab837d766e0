"""How one version of a model takes another's place: with runtimes that the tests make."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from adafocus.bundle.repository import find_bundles
from adafocus.bundle.store import Bundle, load_bundle, write_bundle
from adafocus.service.engine.runners.base import RunnerError
from adafocus.service.errors import BadBundle, Draining, Overloaded, UnknownModel
from adafocus.service.models.registry import MAX_RETIRING, Models, served_as
from adafocus.service.runtime import Runtime
from tests.bundle.factory import CONTENT, make_manifest


class House:
    """A folder of bundles whose engines are only opened and closed."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        self.open: list[str] = []
        self.counted: list[tuple[str, str]] = []
        self.error: Exception | None = None
        for name in names:
            self.put(name, "1")
        bundles = [served_as(load_bundle(path), name) for name, path in self.find().items()]
        self.models = Models(bundles, names[0], self.find, self)

    def put(self, name: str, version: str) -> None:
        write_bundle(self.folder / name, make_manifest(version=version), CONTENT)

    def find(self) -> dict[str, Path]:
        return find_bundles(self.folder)

    def model_added(self, name: str) -> None:
        self.counted.append((name, "added"))

    def model_version_changed(self, name: str, outcome: str) -> None:
        self.counted.append((name, outcome))

    @asynccontextmanager
    async def open_model(self, bundle: Bundle) -> AsyncIterator[Runtime]:
        if self.error is not None:
            raise self.error
        named = f"{bundle.manifest.name} {bundle.manifest.version}"
        self.open.append(named)

        async def settled() -> None:
            pass

        try:
            engine = SimpleNamespace(alive=True)
            yield cast(
                "Runtime",
                SimpleNamespace(engine=engine, manifest=bundle.manifest, shadows=SimpleNamespace(settled=settled)),
            )
        finally:
            self.open.remove(named)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path, "sky", "birds")
    assert not house.models.ready
    with pytest.raises(Draining):
        house.models.version_of("sky")
    async with house.models.serving(house.open_model):
        yield house
    assert house.open == []


async def test_all_are_loaded_under_the_names_of_their_folders_and_one_is_the_default(house: House) -> None:
    assert sorted(house.open) == ["birds 1", "sky 1"]
    assert house.models.ready
    assert [model.manifest.name for model in house.models] == ["birds", "sky"]
    assert house.models.version_of(None) is house.models.version_of("sky")
    with pytest.raises(UnknownModel, match="there is no model 'cats'; this service has birds, sky"):
        house.models.version_of("cats")


async def test_a_new_version_answers_at_once_and_the_old_one_ends_with_its_last_request(house: House) -> None:
    old = house.models.version_of("sky")
    old.take()
    old.take()
    house.put("sky", "2")
    assert (await house.models.load("sky")).version == "2"
    new = house.models.version_of("sky")
    assert new is not old
    assert house.models.of("sky").manifest.version == "2"
    assert sorted(house.open) == ["birds 1", "sky 1", "sky 2"]
    old.give_back()
    await asyncio.sleep(0)
    assert "sky 1" in house.open, "a request still uses it"
    old.give_back()
    await house.models.drained("sky")
    assert sorted(house.open) == ["birds 1", "sky 2"]
    assert house.counted[-1] == ("sky", "loaded")


async def test_a_bad_bundle_replaces_nothing_and_says_why_without_the_folder(house: House) -> None:
    before = house.models.version_of("sky")
    house.put("sky", "2")
    (house.folder / "sky" / "focus.onnx").write_bytes(b"something else, and longer than it")
    with pytest.raises(BadBundle, match=r"focus\.onnx: .*; version 1 goes on") as refused:
        await house.models.load("sky")
    assert str(house.folder) not in refused.value.detail
    assert house.models.version_of("sky") is before
    assert "focus.onnx" in house.models.of("sky").error
    assert house.models.ready
    assert house.counted[-1] == ("sky", "refused")
    house.put("sky", "3")
    house.error = RunnerError("the graph is not a graph")
    with pytest.raises(BadBundle, match="the graph is not a graph"):
        await house.models.load("sky")
    house.error = MemoryError("at 0x1234")
    with pytest.raises(BadBundle, match="sky could not be loaded; the log says why; version 1 goes on"):
        await house.models.load("sky")
    assert house.models.version_of("sky") is before
    house.error = None
    await house.models.load("sky")
    assert house.models.of("sky").error == ""
    await house.models.drained("sky")
    assert sorted(house.open) == ["birds 1", "sky 3"]


async def test_what_is_unloaded_is_closed_and_can_be_loaded_again(house: House) -> None:
    await house.models.unload("birds")
    await house.models.drained("birds")
    assert house.open == ["sky 1"]
    assert house.models.ready, "nobody wants it loaded"
    with pytest.raises(UnknownModel, match="'birds' is not loaded; loaded: sky"):
        house.models.version_of("birds")
    await house.models.load("birds")
    assert house.models.version_of("birds").runtime.manifest.version == "1"


async def test_a_new_folder_is_a_new_model_and_a_stranger_is_none(house: House) -> None:
    house.put("cats", "1")
    await house.models.load("cats")
    assert house.models.version_of("cats")
    assert ("cats", "added") in house.counted
    for name in ("dogs", "../sky", ".sky", ""):
        with pytest.raises(UnknownModel):
            await house.models.load(name)


async def test_old_versions_are_not_piled_up(house: House) -> None:
    held = []
    for _ in range(MAX_RETIRING):
        version = house.models.version_of("sky")
        version.take()
        held.append(version)
        await house.models.load("sky")
    with pytest.raises(Overloaded, match="old versions of sky still answer"):
        await house.models.load("sky")
    held.pop().give_back()
    while len(house.models.of("sky").retiring) >= MAX_RETIRING:
        await asyncio.sleep(0)
    await house.models.load("sky")


async def test_a_model_whose_engine_is_down_makes_the_service_unready_and_answers_nobody(house: House) -> None:
    house.models.version_of("sky").runtime.engine.alive = False  # type: ignore[misc]
    assert not house.models.ready
    with pytest.raises(Draining):
        house.models.version_of("sky")
    assert house.models.version_of("birds")


async def test_a_changed_folder_is_noticed(house: House) -> None:
    watching = asyncio.create_task(house.models.watch(0))
    try:
        async with asyncio.timeout(30):
            while not watching.done() and house.models.of("sky").manifest.version == "1":
                house.put("sky", "2")  # again, if it was put before the first look
                for _ in range(100):
                    await asyncio.sleep(0.001)
                    if house.models.of("sky").manifest.version == "2":
                        break
        assert house.models.version_of("sky").runtime.manifest.version == "2"
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
