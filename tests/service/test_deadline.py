"""The end of a block in time."""

from __future__ import annotations

import asyncio
import time

import pytest

from adafocus.service.deadline import Deadline
from adafocus.service.errors import DeadlinePassed


async def test_a_block_that_takes_too_long_is_ended() -> None:
    with pytest.raises(DeadlinePassed), Deadline(time.monotonic()):
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_a_block_in_time_or_after_it_is_lifted_goes_on() -> None:
    with Deadline(time.monotonic() + 60):
        await asyncio.sleep(0)
    with Deadline(time.monotonic()) as deadline:
        deadline.lift()
        deadline.lift()
        for _ in range(3):
            await asyncio.sleep(0)


async def test_whoever_is_cancelled_for_another_reason_too_stays_cancelled() -> None:
    begun = asyncio.Event()

    async def work() -> None:
        with Deadline(time.monotonic() + 60):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_error_of_a_block_that_was_late_too_is_its_own() -> None:
    with pytest.raises(ZeroDivisionError), Deadline(time.monotonic()):
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError


async def test_only_a_task_has_a_deadline() -> None:
    asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ask() -> None:
        with pytest.raises(RuntimeError, match="only a task"):
            Deadline(0.0).__enter__()
        asked.set_result(None)

    asyncio.get_running_loop().call_soon(ask)
    await asked
