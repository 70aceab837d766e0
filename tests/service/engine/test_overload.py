"""Goodput under overload, simulated: the admission is real, the videos and the clock are not."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import pytest

from adafocus.service.engine.admission import Admission
from adafocus.service.engine.queue_limits import QueueLimits
from adafocus.service.errors import Overloaded
from tests.service.engine.factory import Recorder
from tests.service.engine.virtual_time import simulate

CORES, SLOTS = 2, 4
WITHIN_SECONDS = 1.0
SECONDS, WARM_UP_SECONDS = 25.0, 5.0


@dataclass
class Machine:
    """Cores that videos share; refused requests take their part of them first."""

    seconds_per_video: float
    refusal_seconds: float
    spread: float
    chance: random.Random
    running: int = 0
    lost_cores: float = 0.0

    async def decode_and_classify(self) -> None:
        self.running += 1
        work = self.seconds_per_video * self.chance.uniform(1 - self.spread, 1 + self.spread)
        try:
            while work > 0:
                speed = min(1.0, (CORES - self.lost_cores) / self.running)
                turn = min(0.01, work / speed)
                await asyncio.sleep(turn)
                work -= turn * speed
        finally:
            self.running -= 1


async def goodput(factor: float, machine: Machine) -> float:
    """Answers within the limit, as a share of what the cores could answer if nobody were refused."""
    loop = asyncio.get_running_loop()
    limits = QueueLimits(queue_seconds=0.5)
    admission = Admission(SLOTS, 64, Recorder(), loop.time, jitter=lambda: 0.0, limits=limits)
    capacity = CORES / machine.seconds_per_video
    good = 0

    async def request() -> None:
        nonlocal good
        began = loop.time()
        try:
            with admission.place("caller") as place:
                admission.uploaded(place)
                async with admission.slot(None, place):
                    await machine.decode_and_classify()
        except Overloaded:
            return
        good += loop.time() > WARM_UP_SECONDS and loop.time() - began <= WITHIN_SECONDS

    machine.lost_cores = max(0.0, factor - 1) * capacity * machine.refusal_seconds
    tasks = []
    while loop.time() < SECONDS:
        await asyncio.sleep(machine.chance.expovariate(factor * capacity))
        tasks.append(asyncio.create_task(request()))
    at_end = good
    await asyncio.gather(*tasks)
    return at_end / (SECONDS - WARM_UP_SECONDS) / capacity


@pytest.mark.parametrize(("seconds_per_video", "spread"), [(0.05, 0.95), (0.2, 0.5), (0.2, 0.95)])
@pytest.mark.parametrize(("factor", "least"), [(1, 0.85), (2, 0.9), (5, 0.9), (10, 0.8)])
def test_goodput_stays_when_more_is_offered(
    factor: float, least: float, seconds_per_video: float, spread: float
) -> None:
    machine = Machine(seconds_per_video, 0.0002, spread, random.Random(1))
    assert simulate(goodput(factor, machine)) >= least


@pytest.mark.parametrize("factor", [2, 5, 10])
def test_goodput_stays_where_a_video_holds_its_slot_for_half_a_second(factor: float) -> None:
    """Served in order, every answer would come after its second: 22 to 30 % were in time."""
    machine = Machine(0.3, 0.0002, 0.5, random.Random(1))
    assert simulate(goodput(factor, machine)) >= 0.7


async def honest_seconds(machine: Machine, flood: float) -> tuple[list[float], int]:
    """Times of the answers to a caller that sends one video after the other, beside a flood; how many that got."""
    loop = asyncio.get_running_loop()
    limits = QueueLimits(queue_seconds=0.5, reserve=1)
    admission = Admission(SLOTS, 64, Recorder(), loop.time, jitter=lambda: 0.0, limits=limits)
    answered = 0

    async def request(caller: str) -> None:
        nonlocal answered
        with admission.place(caller) as place:
            admission.uploaded(place)
            async with admission.slot(None, place):
                await machine.decode_and_classify()
        answered += caller == "flood"

    async def honest() -> list[float]:
        times = []
        while loop.time() < SECONDS:
            began = loop.time()
            await request("honest")
            times.append(loop.time() - began)
        return sorted(times)

    sender = asyncio.create_task(honest())
    tasks = []
    while flood and loop.time() < SECONDS:
        await asyncio.sleep(machine.chance.expovariate(flood))
        tasks.append(asyncio.create_task(request("flood")))
    await asyncio.gather(*tasks, return_exceptions=True)
    return await sender, answered


def test_a_flood_does_not_double_the_time_of_an_honest_caller() -> None:
    """The flood could fill all slots; while somebody else is active it gets half of them, and most of the answers."""
    machine = Machine(0.05, 0.0002, 0.5, random.Random(1))
    quiet, _ = simulate(honest_seconds(machine, 0.0))
    beside, answered = simulate(honest_seconds(machine, 5 * CORES / 0.05))
    assert beside[len(beside) * 99 // 100] <= 2 * quiet[len(quiet) * 99 // 100]
    assert answered + len(beside) >= 0.9 * SECONDS * CORES / 0.05
