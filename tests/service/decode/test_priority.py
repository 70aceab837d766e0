from __future__ import annotations

import asyncio
import os

import pytest

from adafocus.service.decode import fleet as fleet_module
from adafocus.service.decode import priority as priority_module
from adafocus.service.decode.priority import BACKGROUND_NICENESS, BackgroundPriority
from tests.service.decode.factory import Watcher, clip, filled, job, pool_of


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
    monkeypatch.setattr(priority_module, "QUICK_SECONDS", 1e-3)


class Niceness:
    """Notes what it is told to set, and permits no more than that priorities are lowered if it is so told."""

    def __init__(self, *, privileged: bool = True) -> None:
        self.told: list[tuple[int, int]] = []
        self.heard = asyncio.Event()
        self._privileged = privileged

    def __call__(self, pid: int, niceness: int) -> None:
        if niceness != BACKGROUND_NICENESS and not self._privileged:
            raise PermissionError
        self.told.append((pid, niceness))
        self.heard.set()


NORMAL = os.getpriority(os.PRIO_PROCESS, 0)


@pytest.mark.usefixtures("at_once")
async def test_long_decoding_goes_into_the_background_and_comes_back_with_the_next_video() -> None:
    niceness = Niceness()
    priority = BackgroundPriority(Worker(2.0), niceness)
    assert priority.begin(background=False)
    await niceness.heard.wait()
    priority.end()
    assert priority.lowered
    assert priority.begin(background=False)
    priority.end()
    assert niceness.told == [(4711, BACKGROUND_NICENESS), (4711, NORMAL)]


@pytest.mark.usefixtures("at_once")
async def test_a_worker_that_waits_keeps_its_priority() -> None:
    worker = Worker(0.0)
    priority = BackgroundPriority(worker, lambda pid, niceness: pytest.fail("it was lowered"))
    assert priority.begin(background=False)
    while worker.asked < 5:
        await asyncio.sleep(0)
    priority.end()


async def test_what_is_in_the_background_stays_there_until_the_next_video_is_not() -> None:
    niceness = Niceness(privileged=False)
    priority = BackgroundPriority(Worker(0.0), niceness)
    for _ in range(2):
        assert priority.begin(background=True)
        priority.end()
    assert niceness.told == [(4711, BACKGROUND_NICENESS)]
    assert not priority.begin(background=False)


@pytest.mark.parametrize("background", [False, True])
async def test_a_video_in_the_background_is_decoded_with_a_low_priority(*, background: bool) -> None:
    async with pool_of() as pool, pool.open(filled(clip()), job(), caller="a", background=background) as frames:
        (pid,) = pool.pids
        assert os.getpriority(os.PRIO_PROCESS, pid) == (BACKGROUND_NICENESS if background else NORMAL)
        while await frames.next():
            pass


@pytest.mark.parametrize("privileged", [False, True])
async def test_a_worker_that_cannot_come_back_is_replaced(monkeypatch: pytest.MonkeyPatch, *, privileged: bool) -> None:
    set_niceness = Niceness(privileged=privileged)
    monkeypatch.setattr(fleet_module, "BackgroundPriority", lambda worker: BackgroundPriority(worker, set_niceness))
    watcher, pids = Watcher(), []
    async with pool_of(watcher=watcher) as pool:
        for background in (True, True, False):
            async with pool.open(filled(clip()), job(), caller="a", background=background) as frames:
                pids += pool.pids
                while await frames.next():
                    pass
    assert pids[0] == pids[1]
    assert (pids[1] == pids[2]) == privileged
    assert watcher.restarts == ([] if privileged else ["recycled"])
