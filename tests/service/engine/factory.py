"""Videos without a decoder, and an engine with a runner that has no model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bundle.manifest import Manifest
from service.engine.engine import Engine, running
from service.engine.request import EngineRequest
from service.engine.runners.base import Component, Runner
from service.engine.runners.fake import FakeRunner
from service.engine.transport import InProcess
from tests.bundle.factory import make_manifest
from video.decoder import Frame

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


async def settle() -> None:
    """Let the event loop send what has been said; the core reads it before whatever comes later."""
    for _ in range(3):
        await asyncio.sleep(0)


@dataclass
class Recorder:
    """An observer that remembers."""

    batches: list[tuple[Component, int]] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    queue: list[int] = field(default_factory=list)

    def batch_ran(self, component: Component, rows: int, seconds: float) -> None:
        self.batches.append((component, rows))

    def slots_active(self, count: int) -> None:
        self.slots.append(count)

    def queue_depth(self, count: int) -> None:
        self.queue.append(count)


@asynccontextmanager
async def make_engine(
    runner: Runner | None = None, manifest: Manifest | None = None, **changes: Any
) -> AsyncIterator[tuple[Engine, Recorder]]:
    """An engine that serves, with its observer; four steps and three classes unless told otherwise."""
    recorder = Recorder()
    model = manifest or make_manifest()
    options: dict[str, Any] = {"slots": 8, "max_batch": 4, "max_queue": 8, **changes}
    slots, max_batch = options["slots"], options["max_batch"]
    transport = InProcess(
        model, runner or FakeRunner(len(model.labels)), slots=slots + 2 * max_batch, max_batch=max_batch
    )
    engine = Engine(model, transport, slots=slots, max_queue=options["max_queue"], observer=recorder)
    async with running(engine):
        yield engine, recorder


def never_leave(steps: int = 4, **changes: Any) -> EngineRequest:
    """A request that runs every step."""
    return EngineRequest(thresholds=(NEVER,) * (steps - 1) + (ALWAYS,), **changes)
