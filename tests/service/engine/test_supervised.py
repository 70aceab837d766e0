"""A core process that dies is started again, and its videos run again where their frames can be had again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from adafocus.service.engine.engine import Engine, running
from adafocus.service.engine.process import CoreProcess, open_core_process
from adafocus.service.engine.runners.base import RunnerError
from adafocus.service.engine.supervised import SupervisedCore
from adafocus.service.errors import DeadlinePassed, Internal
from tests.service.engine.factory import Frames, Recorder, never_leave, until
from tests.service.engine.test_process import BRIGHT, make_fake

StartCore = Callable[[], Awaitable[CoreProcess]]


@dataclass
class Rewinding(Frames):
    """Frames that can be had again; the first ones are held back, later ones are not."""

    rewound: int = 0
    holds_again: bool = False

    async def rewind(self) -> None:
        self.rewound += 1
        self.taken = 0
        self.hold = self.hold if self.holds_again else None


async def start_core() -> CoreProcess:
    return await open_core_process(partial(make_fake, 1.0), slots=8, max_batch=4)


@asynccontextmanager
async def supervised(
    start_another: Callable[[], Awaitable[CoreProcess]],
    recorder: Recorder | None = None,
) -> AsyncIterator[tuple[Engine, SupervisedCore]]:
    first = await start_core()
    core = SupervisedCore(first, start_another)
    engine = Engine(first.manifest, core, slots=4, max_queue=4, observer=recorder or Recorder())
    async with running(engine):
        yield engine, core


async def lose(engine: Engine, core: SupervisedCore) -> int:
    """Kill the core and wait until the engine has noticed; returns the number of the process."""
    pid = core.pid
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not engine.alive)
    return pid


async def test_a_core_that_is_killed_is_started_again_and_its_videos_run_again() -> None:
    recorder = Recorder()
    async with supervised(start_core, recorder) as (engine, core):
        held = [Rewinding([BRIGHT] * 4, hold=asyncio.Event(), held_after=2) for _ in range(3)]
        tasks = [asyncio.create_task(engine.classify(never_leave(), frames)) for frames in held]
        await until(lambda: all(frames.taken == 2 for frames in held))
        pid = await lose(engine, core)
        outcomes = await asyncio.gather(*tasks)
        assert engine.alive
        assert core.pid != pid
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        again = await engine.classify(never_leave(), Frames([BRIGHT] * 4))
    assert [int(outcome.last.logits.argmax()) for outcome in (*outcomes, again)] == [2] * 4
    assert [len(outcome.steps) for outcome in outcomes] == [4] * 3
    assert [frames.rewound for frames in held] == [1] * 3
    assert recorder.lost_videos == 3
    assert not engine.alive


async def test_a_video_whose_frames_or_steps_cannot_be_had_again_fails() -> None:
    async with supervised(start_core) as (engine, core):
        once = Frames([BRIGHT] * 4, hold=asyncio.Event(), held_after=1)
        watched = Rewinding([BRIGHT] * 4, hold=asyncio.Event(), held_after=1)
        tasks = [
            asyncio.create_task(engine.classify(never_leave(), once)),
            asyncio.create_task(engine.classify(never_leave(on_step=lambda *_: None), watched)),
        ]
        await until(lambda: once.taken == watched.taken == 1)
        await lose(engine, core)
        for task in tasks:
            with pytest.raises(Internal):
                await task


async def test_a_start_that_fails_is_tried_again() -> None:
    failures = iter((RunnerError("no device"), OSError("no memory")))

    async def start_another() -> CoreProcess:
        failure = next(failures, None)
        if failure is not None:
            raise failure
        return await start_core()

    async with supervised(start_another) as (engine, core):
        await lose(engine, core)
        await core.back()
        assert engine.alive
        assert len((await engine.classify(never_leave(), Frames([BRIGHT] * 4))).steps) == 4
    assert next(failures, None) is None


async def test_a_deadline_is_kept_while_the_core_is_started_again() -> None:
    async def never() -> CoreProcess:
        await asyncio.Event().wait()
        raise AssertionError

    async with supervised(never) as (engine, core):
        frames = Rewinding([BRIGHT] * 4, hold=asyncio.Event(), held_after=0)
        request = never_leave(deadline=time.monotonic() + 0.5)
        task = asyncio.create_task(engine.classify(request, frames))
        await until(lambda: bool(engine._client._videos))
        await lose(engine, core)
        with pytest.raises(DeadlinePassed):
            await task
    assert frames.rewound == 0


async def test_a_video_that_loses_two_cores_fails() -> None:
    async with supervised(start_core) as (engine, core):
        frames = Rewinding([BRIGHT] * 4, hold=asyncio.Event(), held_after=1, holds_again=True)
        task = asyncio.create_task(engine.classify(never_leave(), frames))
        for rewound in (0, 1):
            await until(lambda times=rewound: frames.rewound == times and frames.taken == 1)  # type: ignore[misc]
            await lose(engine, core)
        with pytest.raises(Internal):
            await task
