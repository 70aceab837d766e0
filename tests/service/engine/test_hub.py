"""One core serves several clients over a socket: each has its own videos, and takes them along when it goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adafocus.bundle.manifest import Manifest
from adafocus.service.engine import hub
from adafocus.service.engine.engine import Engine, running
from adafocus.service.engine.remote import RemoteCore
from adafocus.service.engine.runners.base import Runner
from adafocus.service.engine.runners.fake import FakeRunner
from adafocus.service.engine.wire import Begin, Hello, packed
from adafocus.service.errors import Internal
from tests.bundle.factory import make_manifest
from tests.service.engine.factory import Frames, Recorder, never_leave, until

FRONTS, SLOTS, MAX_BATCH = 2, 8, 4
BRIGHT, DARK = 250, 5


def make_fake() -> tuple[Manifest, Runner]:
    return make_manifest(), FakeRunner(3)


def stuck() -> Frames:
    """A source that has one frame, and then keeps its caller waiting."""
    return Frames([BRIGHT] * 4, hold=asyncio.Event(), held_after=1)


class Hubs:
    """A hub in a thread, which can be ended and started again on the same socket."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "hub"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()

    def start(self) -> None:
        self.control, theirs = socket.socketpair()
        listener = socket.socket(fileno=os.dup(self.listener.fileno()))

        def serve() -> None:
            with theirs, listener, contextlib.suppress(OSError):
                hub.serve(theirs, listener, FRONTS)

        self.thread = threading.Thread(target=serve, daemon=True)
        self.thread.start()
        self.control.sendall(packed(Begin(pickle.dumps(make_fake), SLOTS, MAX_BATCH)))

    def end(self) -> None:
        self.control.close()
        self.thread.join()


@pytest.fixture
def hubs(tmp_path: Path) -> Iterator[Hubs]:
    made = Hubs(tmp_path)
    with made.listener:
        yield made


@asynccontextmanager
async def front(hubs: Hubs, number: int) -> AsyncIterator[tuple[Engine, Recorder]]:
    core = RemoteCore(hubs.path, number, SLOTS)
    await core.connect()
    recorder = Recorder()
    async with running(Engine(core.manifest, core, slots=4, max_queue=8, observer=recorder)) as engine:
        yield engine, recorder


async def test_fronts_get_their_own_answers_and_batches_are_counted_once(hubs: Hubs) -> None:
    hubs.start()
    async with front(hubs, 0) as (first, seen), front(hubs, 1) as (second, also_seen):
        bright = [first.classify(never_leave(), Frames([BRIGHT] * 4)) for _ in range(3)]
        dark = [second.classify(never_leave(), Frames([DARK] * 4)) for _ in range(3)]
        outcomes = await asyncio.gather(*bright, *dark)
        assert [int(outcome.last.logits.argmax()) for outcome in outcomes] == [2] * 3 + [0] * 3
        assert first.pid == second.pid == os.getpid()
        rows = sum(rows for component, rows in (*seen.batches, *also_seen.batches) if component == "glance")
        assert rows == 6 * 4
    await asyncio.to_thread(hubs.end)


async def test_a_front_that_goes_takes_its_videos_along_and_its_successor_has_all_slots(hubs: Hubs) -> None:
    hubs.start()
    async with front(hubs, 0) as (stays, _):
        async with front(hubs, 1) as (goes, _):
            waiting = [asyncio.create_task(goes.classify(never_leave(), stuck())) for _ in range(4)]
            await asyncio.gather(*(stays.classify(never_leave(), Frames([DARK] * 4)) for _ in range(2)))
        assert all(isinstance(it, Internal) for it in await asyncio.gather(*waiting, return_exceptions=True))
        async with front(hubs, 1) as (again, _):
            videos = (again.classify(never_leave(), Frames([BRIGHT] * 4)) for _ in range(SLOTS))
            outcomes = await asyncio.gather(*videos)
            assert [int(outcome.last.logits.argmax()) for outcome in outcomes] == [2] * SLOTS
    await asyncio.to_thread(hubs.end)


async def test_fronts_are_not_alive_while_there_is_no_hub_and_come_back_by_themselves(hubs: Hubs) -> None:
    hubs.start()
    async with front(hubs, 0) as (engine, _):
        lost = asyncio.create_task(engine.classify(never_leave(), stuck()))
        await asyncio.sleep(0)
        await asyncio.to_thread(hubs.end)
        with pytest.raises(Internal):
            await lost
        assert not engine.alive
        hubs.start()
        await until(lambda: engine.alive)
        outcome = await engine.classify(never_leave(), Frames([BRIGHT] * 4))
        assert int(outcome.last.logits.argmax()) == 2
    await asyncio.to_thread(hubs.end)


async def test_a_front_that_does_not_exist_is_cut_off(hubs: Hubs) -> None:
    hubs.start()
    async with front(hubs, 0) as (engine, _):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(hubs.path))
            stranger.sendall(packed(Hello(FRONTS)))
            assert await asyncio.to_thread(stranger.recv, 1) == b""
        outcome = await engine.classify(never_leave(), Frames([BRIGHT] * 4))
        assert int(outcome.last.logits.argmax()) == 2
    await asyncio.to_thread(hubs.end)
