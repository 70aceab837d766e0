"""The timers for slow clients."""

import asyncio
from contextlib import nullcontext

import pytest
from starlette.types import Message

from adafocus.service.errors import UploadTimeout
from adafocus.service.http.slow_clients import UploadLimits, UploadTimer

from .clients import Client, part


@pytest.mark.parametrize(
    ("received", "waited", "slow"), [(0, 5, False), (22, 11, False), (21, 11, True), (9, 9.9, False)]
)
def test_the_rate_is_checked_once_the_grace_is_over(received: int, waited: float, slow: bool) -> None:
    limits = UploadLimits(silence_seconds=10, min_bytes_per_second=2)
    with pytest.raises(UploadTimeout) if slow else nullcontext():
        limits.check_rate(received, waited)
    UploadLimits(10, 0).check_rate(0, 1e6)


def test_under_pressure_more_is_required_and_sooner() -> None:
    pressure = 0.0
    limits = UploadLimits(20, 1000, lambda: pressure)
    limits.check_rate(40_000, 19)
    limits.check_rate(40_000, 21)
    pressure = 1.0
    limits.check_rate(300_000, 6)
    with pytest.raises(UploadTimeout, match="at least 50000 bytes a second are required under load"):
        limits.check_rate(290_000, 6)


async def test_a_silent_client_is_given_up() -> None:
    body = Client([part(b"ab")]).body(UploadLimits(silence_seconds=0.01))
    chunks = body.chunks()
    assert await anext(chunks) == b"ab"
    with pytest.raises(UploadTimeout, match=r"no bytes arrived for 0\.01 seconds"):
        await anext(chunks)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


class SteppedLoop:
    """The parts of an event loop that the timer uses, with a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[float] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: object) -> asyncio.TimerHandle:
        self.due.append(when)
        return asyncio.TimerHandle(when, lambda: None, (), asyncio.get_running_loop())


async def test_one_timer_serves_all_messages_and_counts_silence_from_the_last_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timer, loop = UploadTimer(UploadLimits(silence_seconds=10)), SteppedLoop()
    monkeypatch.setattr(timer, "_loop", loop)

    async def next_message(seconds: float) -> Message:
        loop.now += seconds
        return part(b"x")

    for _ in range(5):
        await timer.next_message(lambda: next_message(3))
    assert loop.due == [10]
    assert timer.waited_seconds == 15
    loop.now = 16
    timer._check()  # no read is waiting: the server's own work does not count as the client's silence
    assert loop.due == [10, 26]
    waiting = asyncio.create_task(timer.next_message(asyncio.Event().wait))  # type: ignore[arg-type]  # never returns
    await asyncio.sleep(0)
    loop.now = 25.9
    timer._check()
    assert loop.due == [10, 26, 26]
    loop.now = 26
    timer._check()
    with pytest.raises(UploadTimeout):
        await waiting


async def test_cancelling_the_reader_is_not_taken_for_silence() -> None:
    body = Client().body(UploadLimits(silence_seconds=60))
    reading = asyncio.create_task(body.readexactly(1))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_the_timer_ends_with_the_upload() -> None:
    body = Client([part(b"ab", more=False)]).body(UploadLimits(silence_seconds=60))
    await body.read(10, "")
    assert body._timer._timer is None
    stalled = Client().body(UploadLimits(silence_seconds=60))
    reading = asyncio.create_task(stalled.readexactly(1))
    await asyncio.sleep(0)
    assert stalled._timer._timer is not None
    reading.cancel()
    stalled.close()
    stalled.close()
    assert stalled._timer._timer is None
