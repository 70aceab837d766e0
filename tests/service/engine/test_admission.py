from __future__ import annotations

import asyncio
import contextlib

import pytest

from adafocus.service.engine.admission import Admission
from adafocus.service.errors import Overloaded
from tests.service.engine.factory import Recorder


def make_admission(*, slots: int = 1, max_queue: int = 1) -> tuple[Admission, Recorder]:
    recorder = Recorder()
    return Admission(slots, max_queue, recorder, asyncio.get_running_loop().time, jitter=lambda: 0.0), recorder


async def test_a_full_house_says_when_to_come_back() -> None:
    admission, _ = make_admission(slots=1, max_queue=1)
    with admission.place(), admission.place():
        with pytest.raises(Overloaded) as refusal, admission.place():
            pytest.fail("there was no third place")
        assert int(refusal.value.headers["Retry-After"]) >= 1
    with admission.place():
        assert admission.places_taken == 1


async def test_retry_after_grows_with_the_work_queued_and_is_bounded() -> None:
    admission, _ = make_admission(slots=1, max_queue=10_000)
    with contextlib.ExitStack() as places:
        waits = []
        for _ in range(1000):
            places.enter_context(admission.place())
            waits.append(admission.retry_after_seconds())
    assert waits == sorted(waits)
    assert waits[0] < waits[50] <= waits[-1] <= 60


async def test_slots_are_handed_on_in_order_of_deadline() -> None:
    admission, recorder = make_admission(slots=1, max_queue=10)
    now = asyncio.get_running_loop().time()
    served: list[str] = []

    async def video(name: str, deadline: float | None) -> None:
        async with admission.slot(deadline):
            served.append(name)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for name, deadline in (("first", None), ("patient", None), ("late", now + 5), ("urgent", now + 1)):
            group.create_task(video(name, deadline))
    assert served == ["first", "urgent", "late", "patient"]
    assert admission.slots_taken == 0
    assert recorder.slots[-1] == 0
    assert recorder.queue[-1] == 0
    assert max(recorder.queue) == 3


async def test_whoever_gives_up_waiting_leaves_no_trace() -> None:
    admission, recorder = make_admission(slots=1, max_queue=10)

    async def hold() -> None:
        async with admission.slot(None):
            await asyncio.Event().wait()

    holder, first, second = (asyncio.create_task(hold()) for _ in range(3))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    assert recorder.queue[-1] == 1
    # The slot is granted to the second in the same turn in which it is cancelled: it must not be lost.
    holder.cancel()
    second.cancel()
    await asyncio.gather(holder, first, second, return_exceptions=True)
    assert admission.slots_taken == 0
    async with admission.slot(None) as waited:
        assert waited >= 0
