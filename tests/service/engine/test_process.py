"""A core that really is another process: it loads, answers, fails to load, and dies."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial

import pytest

from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.engine import Engine, running
from adafocus.service.engine.process import CoreProcess, open_core_process
from adafocus.service.engine.request import Outcome
from adafocus.service.engine.runners.base import Runner, RunnerError
from adafocus.service.engine.runners.fake import FakeRunner
from adafocus.service.errors import Internal
from tests.bundle.factory import make_manifest
from tests.service.engine.factory import Frames, Recorder, never_leave, until

BRIGHT = 250


def make_fake(gain: float) -> tuple[Manifest, Runner]:
    return make_manifest(), FakeRunner(3, gain=gain)


def make_none(text: str) -> tuple[Manifest, Runner]:
    raise RunnerError(text)


def die() -> tuple[Manifest, Runner]:
    os._exit(7)


def engine_of(core: CoreProcess) -> Engine:
    return Engine(core.manifest, core, slots=4, max_queue=4, observer=Recorder())


async def test_a_core_in_another_process_answers() -> None:
    core = await open_core_process(partial(make_fake, 1.0), slots=8, max_batch=4)
    assert core.pid != os.getpid()
    async with running(engine_of(core)) as engine:
        assert (engine.runner.backend, engine.runner.precision) == ("fake", "fp32")
        videos = (engine.classify(never_leave(), Frames([BRIGHT] * 4)) for _ in range(4))
        outcomes = await asyncio.gather(*videos)
    assert not engine.alive
    assert [int(outcome.last.logits.argmax()) for outcome in outcomes] == [2] * 4


async def test_what_keeps_a_core_from_loading_is_said() -> None:
    with pytest.raises(RunnerError, match="no such backend"):
        await open_core_process(partial(make_none, "no such backend"), slots=1, max_batch=1)
    with pytest.raises(RunnerError, match="ended while it was loading"):
        await open_core_process(die, slots=1, max_batch=1)


async def test_a_core_that_is_killed_fails_its_videos_and_is_not_alive() -> None:
    core = await open_core_process(partial(make_fake, 1.0), slots=8, max_batch=4)
    async with running(engine_of(core)) as engine:
        frames = Frames([BRIGHT] * 4, hold=asyncio.Event(), held_after=1)
        task = asyncio.create_task(engine.classify(never_leave(), frames))
        await until(lambda: frames.taken == 1)
        assert engine.alive
        os.kill(core.pid, signal.SIGKILL)
        with pytest.raises(Internal):
            await task
        assert not engine.alive
        with pytest.raises(Internal):
            await engine.classify(never_leave(), Frames([BRIGHT] * 4))


async def test_a_core_ends_with_its_client() -> None:
    core = await open_core_process(partial(make_fake, 1.0), slots=8, max_batch=4)
    async with running(engine_of(core)) as engine:
        assert isinstance(await engine.classify(never_leave(), Frames([BRIGHT] * 4)), Outcome)
    with pytest.raises(ProcessLookupError):
        os.kill(core.pid, 0)
