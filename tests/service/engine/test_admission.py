from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from adafocus.service.engine import admission as admission_module
from adafocus.service.engine.admission import Admission, Place
from adafocus.service.engine.queue_limits import QueueLimits
from adafocus.service.errors import Overloaded
from tests.service.engine.factory import Recorder


def make_admission(*, slots: int = 1, max_queue: int = 1, **limits: Any) -> tuple[Admission, Recorder]:
    recorder, clock = Recorder(), asyncio.get_running_loop().time
    return Admission(slots, max_queue, recorder, clock, jitter=lambda: 0.0, limits=QueueLimits(**limits)), recorder


@contextlib.asynccontextmanager
async def waiting(admission: Admission, *callers: str) -> AsyncIterator[list[asyncio.Task[str]]]:
    """Requests of these callers, in this order, each with a place; those without a slot wait for one."""
    leave = asyncio.Event()

    async def request(caller: str) -> str:
        with admission.place(caller) as place:
            admission.uploaded(place)
            async with admission.slot(None, place):
                await leave.wait()
        return caller

    tasks = []
    for caller in callers:
        tasks.append(asyncio.create_task(request(caller)))
        await asyncio.sleep(0)
    try:
        yield tasks
    finally:
        leave.set()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def refused(admission: Admission, caller: str = "") -> Iterator[None]:
    with pytest.raises(Overloaded), admission.place(caller):
        pytest.fail("there was a place")
    yield


async def test_a_full_house_says_when_to_come_back() -> None:
    admission, _ = make_admission(slots=1, max_queue=1)
    with admission.place(), admission.place():
        with pytest.raises(Overloaded) as refusal, admission.place():
            pytest.fail("there was no third place")
        assert int(refusal.value.headers["Retry-After"]) >= 1
    with admission.place():
        assert admission.places_taken == 1


async def test_the_queue_is_bounded_in_time() -> None:
    admission, _ = make_admission(slots=2, max_queue=100, queue_seconds=1.0)
    for _ in range(100):
        admission.waiting_time.held(0.5)  # four a second
    async with waiting(admission, *["caller"] * 6):
        assert admission.expected_wait_seconds == pytest.approx(1.25, rel=0.05)
        with refused(admission, "caller"):
            pass


async def test_as_many_as_there_are_slots_may_always_wait() -> None:
    admission, _ = make_admission(slots=2, max_queue=100, queue_seconds=0.1)
    for _ in range(100):
        admission.waiting_time.held(30.0)
    async with waiting(admission, *["caller"] * 4):
        with refused(admission, "caller"):
            pass


async def test_retry_after_is_the_time_until_there_should_be_a_place() -> None:
    admission, _ = make_admission(slots=2, max_queue=4)
    for _ in range(200):
        admission.waiting_time.held(6.0)
    async with waiting(admission, *["caller"] * 6):
        with pytest.raises(Overloaded) as refusal, admission.place("caller"):
            pytest.fail("there was a place")
        assert refusal.value.headers["Retry-After"] == "3"


async def test_a_caller_with_less_in_the_queue_takes_the_place_of_one_with_more() -> None:
    admission, recorder = make_admission(slots=1, max_queue=4)
    async with waiting(admission, *["flood"] * 5) as tasks:
        with refused(admission, "flood"):
            pass
        async with waiting(admission, "honest") as (honest,):
            await asyncio.gather(tasks[-1], return_exceptions=True)
            assert isinstance(tasks[-1].exception(), Overloaded)
            assert admission.places_taken == 5
            assert recorder.queue[-1] == 4
            tasks[0].cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not honest.done()
            assert admission._running["honest"] == 1  # it is next, though the others came first
    assert admission.places_taken == admission.slots_taken == admission.uploads.count == 0


async def test_a_caller_without_a_slot_gets_the_reserved_one() -> None:
    admission, recorder = make_admission(slots=2, max_queue=4, reserve=1)
    async with waiting(admission, "flood", "flood", "flood", "honest", "third"):
        assert recorder.slots[-1] == 3
        assert recorder.queue[-1] == 2
        assert admission._running == {"flood": 2, "honest": 1}


async def test_a_body_that_does_not_come_gives_its_place_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_module, "PROMPT_SECONDS", 0.0)
    admission, _ = make_admission(slots=1, max_queue=0)
    arrived = asyncio.Event()
    with admission.place("slow") as slow:
        upload = asyncio.create_task(admission.while_uploading(slow, arrived.wait()))
        while admission.places_taken:
            await asyncio.sleep(0)
        assert admission.uploads.count == 1
        with admission.place("quick"):
            arrived.set()
            with pytest.raises(Overloaded):
                await upload
        assert await admission.while_uploading(slow, asyncio.sleep(0, "bytes")) == "bytes"
        assert admission.places_taken == 1
    assert admission.places_taken == admission.uploads.count == 0


async def test_uploads_are_limited_in_all_and_per_caller() -> None:
    admission, _ = make_admission(slots=9, max_queue=9, uploads=3, uploads_per_caller=2)
    with admission.place("a") as first, admission.place("a"):
        with refused(admission, "a"):
            pass
        admission.uploaded(first)
        admission.uploaded(first)
        with admission.place("a"), admission.place("b"), refused(admission, "c"):
            pass
    assert admission.uploads.count == 0


async def test_a_request_that_has_waited_for_far_too_long_makes_way() -> None:
    now = 0.0
    admission = Admission(1, 9, Recorder(), lambda: now, limits=QueueLimits(queue_seconds=1.0))
    leave = asyncio.Event()

    async def request(leave: asyncio.Event) -> None:
        with admission.place("caller") as place:
            async with admission.slot(None, place):
                await leave.wait()

    first, late = asyncio.create_task(request(leave)), asyncio.create_task(request(leave))
    await asyncio.sleep(0)
    now = 10.0
    prompt = asyncio.create_task(request(leave))
    await asyncio.sleep(0)
    leave.set()
    await asyncio.gather(first, late, prompt, return_exceptions=True)
    assert isinstance(late.exception(), Overloaded)
    assert first.exception() is prompt.exception() is None


async def test_the_newest_is_served_first_once_the_queue_stands() -> None:
    now = 0.0
    admission = Admission(1, 9, Recorder(), lambda: now, limits=QueueLimits(queue_seconds=1.0))
    served: list[str] = []
    leave = asyncio.Event()

    async def request(name: str) -> None:
        with admission.place("caller") as place:
            async with admission.slot(None, place):
                served.append(name)
                await leave.wait()

    tasks = []
    for name, now in (("first", 0.0), ("old", 0.1), ("new", 0.2)):  # noqa: B007 - `now` is what the clock shows
        tasks.append(asyncio.create_task(request(name)))
        await asyncio.sleep(0)
    now = 0.7  # "old" has waited for more than half of the longest wait
    leave.set()
    await asyncio.gather(*tasks)
    assert served == ["first", "new", "old"]


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


async def test_what_a_video_has_used_is_charged_to_its_caller() -> None:
    admission, _ = make_admission(slots=1, max_queue=10)
    place = Place("caller")
    async with admission.slot(None, place):
        place.processor_seconds = 7.0
    assert admission._queue._callers["caller"].finish == pytest.approx(7.0, abs=1e-3)


async def test_pressure_comes_from_waiting_requests_and_from_uploads() -> None:
    admission, _ = make_admission(slots=1, max_queue=9, uploads=4)
    with admission.place():
        assert admission.pressure == 0.0
        with admission.place(), admission.place(), admission.place():
            assert admission.pressure == 1.0
    async with waiting(admission, "caller", "caller"):
        assert admission.pressure == admission_module.QUEUE_PRESSURE


async def test_a_caller_that_wants_more_than_its_share_is_known_only_beside_others() -> None:
    admission, _ = make_admission(slots=4, max_queue=8)
    admission._use.add("many", 1.0, admission.clock())
    async with waiting(admission, *["many"] * 6):
        assert not admission.wants_more_than_its_share("many"), "it is alone"
    async with waiting(admission, *["many"] * 6, "one"):
        assert admission.wants_more_than_its_share("many")
        assert not admission.wants_more_than_its_share("one")
        assert admission.others_are_active("many")
        assert admission._running["many"] and admission.slots_in_foreground() == admission._running["one"]


async def test_a_caller_that_has_had_too_little_is_not_put_last_whatever_it_wants() -> None:
    admission, _ = make_admission(slots=4, max_queue=8)
    now = admission.clock()
    admission._use.add("many", 1.0, now)
    admission._use.add("one", 9.0, now)
    async with waiting(admission, *["many"] * 6, "one"):
        assert not admission.wants_more_than_its_share("many"), "it has had a fifth of its share"


async def test_a_caller_with_several_videos_within_its_share_is_as_good_as_any() -> None:
    admission, _ = make_admission(slots=8, max_queue=8)
    admission._use.add("few", 1.0, admission.clock())
    async with waiting(admission, *["few"] * 4, "one"):
        assert not admission.wants_more_than_its_share("few")
