from __future__ import annotations

import asyncio
import os

import pytest

from adafocus.service.decode import priority
from adafocus.service.decode.priority import BACKGROUND_NICENESS, BackgroundPriority
from tests.service.decode.factory import Watcher, clip, decode, pool_of


class Worker:
    """A worker that has used so much processor time."""

    pid = 4711

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.asked = 0

    def cpu_seconds(self) -> float:
        self.asked += 1
        return self.seconds if self.asked > 1 else 0.0


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priority, "QUICK_SECONDS", 1e-3)


@pytest.mark.usefixtures("at_once")
async def test_long_decoding_goes_into_the_background_and_comes_back() -> None:
    told: list[tuple[int, int]] = []
    lowered = asyncio.Event()

    def note(pid: int, niceness: int) -> None:
        told.append((pid, niceness))
        lowered.set()

    background = BackgroundPriority(Worker(2.0), note)
    await lowered.wait()
    assert background.restore()
    assert background.restore()
    assert told == [(4711, BACKGROUND_NICENESS), (4711, os.getpriority(os.PRIO_PROCESS, 0))]


@pytest.mark.usefixtures("at_once")
async def test_a_worker_that_waits_keeps_its_priority() -> None:
    worker = Worker(0.0)
    background = BackgroundPriority(worker, lambda pid, niceness: pytest.fail("it was lowered"))
    while worker.asked < 5:
        await asyncio.sleep(0)
    assert background.restore()


@pytest.mark.usefixtures("at_once")
async def test_a_worker_that_cannot_come_back_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, niceness: int) -> None:
        if niceness != BACKGROUND_NICENESS:
            raise PermissionError

    monkeypatch.setattr(BackgroundPriority, "__init__", _lowered_by(refuse))
    watcher = Watcher()
    async with pool_of(watcher=watcher) as pool:
        (pid,) = pool.pids
        assert len(await decode(pool, clip())) == 16
        assert len(await decode(pool, clip())) == 16
        assert pool.pids != (pid,)
    assert watcher.restarts[0] == "recycled"


def _lowered_by(set_priority: priority.SetPriority) -> object:
    real = BackgroundPriority.__init__

    def begin(self: BackgroundPriority, worker: priority.Prioritised) -> None:
        real(self, worker, set_priority)
        self._lowered = True

    return begin
