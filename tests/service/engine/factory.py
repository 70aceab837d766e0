"""Videos without a decoder, and an engine with a runner that has no model."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np

from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.core import EngineCore
from adafocus.service.engine.core_process import serve
from adafocus.service.engine.engine import Engine, running
from adafocus.service.engine.messages import Commands
from adafocus.service.engine.process import CoreProcess
from adafocus.service.engine.request import EngineRequest
from adafocus.service.engine.runners.base import Component, Runner
from adafocus.service.engine.runners.fake import FakeRunner
from adafocus.service.engine.transport import InProcess
from adafocus.video.decoder import Frame
from tests.bundle.factory import make_manifest

NEVER = float("inf")
ALWAYS = -float("inf")
CROP = 32


def make_frame(position: int, brightness: int) -> Frame:
    """A grey frame."""
    pixels = np.full((CROP, CROP, 3), brightness, dtype=np.uint8)
    return Frame(position=position, index=10 * position, time_s=position / 5, pixels=pixels)


@dataclass
class Frames:
    """A source that hands out frames of the given brightness, with a turn of the event loop before each.

    ``hold`` keeps back those after the first ``held_after``.
    """

    brightness: Sequence[int]
    turns: int = 1
    fails_after: int | None = None
    taken: int = 0
    hold: asyncio.Event | None = None
    held_after: int = 0

    async def next(self) -> Frame | None:
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if self.hold is not None and self.taken >= self.held_after:
            await self.hold.wait()
        if self.fails_after is not None and self.taken >= self.fails_after:
            raise ConnectionResetError("the decoder died")
        if self.taken == len(self.brightness):
            return None
        self.taken += 1
        return make_frame(self.taken - 1, self.brightness[self.taken - 1])


async def running_batch(runner: FakeRunner) -> None:
    """Wait until a batch is in the runner's glance, where its gate holds it."""
    assert await asyncio.to_thread(runner.entered.wait, 30)


async def until(condition: Callable[[], bool]) -> None:
    """Turn the event loop until something holds that other tasks bring about."""
    while not condition():
        await asyncio.sleep(0)


@dataclass
class Recorder:
    """An observer that remembers."""

    batches: list[tuple[Component, int]] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    queue: list[int] = field(default_factory=list)
    lost_videos: int = 0

    posted: int = 0
    crossing: Crossing | None = None

    def follow(self, core: CoreProcess, crossing: Crossing) -> None:
        """Count what is sent to a core behind a socket."""
        post = core.post

        def counted(commands: Commands, *, wake: bool = True) -> None:
            self.posted += 1
            post(commands, wake=wake)

        core.post = counted  # type: ignore[method-assign]  # only counts what passes
        self.crossing = crossing

    async def settle(self) -> None:
        """Let the core hear all that has been said: it does it before what comes later."""
        for _ in range(3):
            await asyncio.sleep(0)
        crossing = self.crossing
        if crossing is not None:
            await until(lambda: crossing.received == self.posted)

    def batch_ran(self, component: Component, rows: int, seconds: float) -> None:
        self.batches.append((component, rows))

    def slots_active(self, count: int) -> None:
        self.slots.append(count)

    def queue_depth(self, count: int) -> None:
        self.queue.append(count)

    def core_lost_a_video(self) -> None:
        self.lost_videos += 1


class Crossing:
    """A core at the other end of a socket, in a thread of this process: all that another process would do, and its
    runner within reach of the test."""

    runners: ClassVar[dict[int, tuple[Manifest, Runner]]] = {}

    def __init__(self, manifest: Manifest, runner: Runner, slots: int, max_batch: int) -> None:
        self.key = id(self)
        self.runners[self.key] = (manifest, runner)
        self.pid = 0
        self.slots, self.max_batch = slots, max_batch
        self.posted = self.received = 0
        self.thread: threading.Thread | None = None

    async def open(self) -> CoreProcess:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.thread = threading.Thread(target=self._serve, args=(theirs,), daemon=True)
        self.thread.start()
        transport = CoreProcess(self, ours, self.slots)
        await transport.begin(partial(made_before, self.key), self.max_batch)
        return transport

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            serve(connection, made=self._count)

    def _count(self, core: EngineCore) -> None:
        post = core.mailbox.post

        def counted(commands: Commands, *, wake: bool = True) -> None:
            post(commands, wake=wake)
            self.received += 1

        core.mailbox.post = counted  # type: ignore[method-assign]  # only counts what passes

    async def wait(self) -> int:
        assert self.thread is not None
        await asyncio.to_thread(self.thread.join)
        return 0

    def kill(self) -> None:
        raise AssertionError("the core did not end")


def made_before(key: int) -> tuple[Manifest, Runner]:
    """What a test has made for the core at the other end."""
    return Crossing.runners.pop(key)


class Transports:
    """Where the cores of the engines are that tests make; a fixture sets it, so that all tests run with each."""

    every = ("thread", "socket")
    used = "thread"


@asynccontextmanager
async def make_engine(
    runner: Runner | None = None, manifest: Manifest | None = None, **changes: Any
) -> AsyncIterator[tuple[Engine, Recorder]]:
    """An engine that serves, with its observer; four steps and three classes unless told otherwise."""
    recorder = Recorder()
    model = manifest or make_manifest()
    options: dict[str, Any] = {"slots": 8, "max_batch": 4, "max_queue": 8, **changes}
    device = runner or FakeRunner(len(model.labels))
    core_slots, max_batch = options["slots"] + 2 * options["max_batch"], options["max_batch"]
    core: InProcess | CoreProcess = InProcess(model, device, slots=core_slots, max_batch=max_batch)
    if Transports.used == "socket":
        crossing = Crossing(model, device, core_slots, max_batch)
        core = await crossing.open()
        recorder.follow(core, crossing)
    engine = Engine(model, core, slots=options["slots"], max_queue=options["max_queue"], observer=recorder)
    async with running(engine):
        yield engine, recorder


def never_leave(steps: int = 4, **changes: Any) -> EngineRequest:
    """A request that runs every step."""
    return EngineRequest(thresholds=(NEVER,) * (steps - 1) + (ALWAYS,), **changes)
