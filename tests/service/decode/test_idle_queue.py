from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus.service.decode.idle_queue import IdleQueue
from adafocus.service.errors import Draining
from tests.service.decode.factory import turns_until


async def test_who_asks_first_is_served_first() -> None:
    line: IdleQueue[int] = IdleQueue()
    takers = [asyncio.create_task(line.take()) for _ in range(3)]
    await turns_until(lambda: line.waiting == 3)
    for item in (10, 11, 12):
        line.put(item)
    assert await asyncio.gather(*takers) == [10, 11, 12]


async def test_a_waiter_that_leaves_takes_nothing_with_it() -> None:
    line: IdleQueue[int] = IdleQueue()
    first, second = asyncio.create_task(line.take()), asyncio.create_task(line.take())
    await turns_until(lambda: line.waiting == 2)
    line.put(10)
    first.cancel()  # it has its turn already, and has not yet noticed
    assert await second == 10
    assert first.cancelled() or first.exception() is None
    third = asyncio.create_task(line.take())
    await turns_until(lambda: line.waiting == 1)
    third.cancel()
    await asyncio.gather(third, return_exceptions=True)
    assert line.waiting == 0
    line.put(11)
    assert await line.take() == 11


async def test_what_was_discarded_is_not_handed_out() -> None:
    line: IdleQueue[int] = IdleQueue()
    line.put(10)
    line.put(11)
    line.discard(10)
    line.discard(12)
    assert await line.take() == 11


async def test_a_closed_line_serves_nobody() -> None:
    line: IdleQueue[int] = IdleQueue()
    waiting = asyncio.create_task(line.take())
    await turns_until(lambda: line.waiting == 1)
    line.close(Draining())
    with pytest.raises(Draining):
        await waiting
    line.put(10)
    with pytest.raises(Draining):
        await line.take()


@given(actions=st.lists(st.sampled_from(["take", "put", "cancel first", "cancel last", "turn"]), max_size=40))
@settings(deadline=None)
async def test_no_item_is_lost_or_given_twice(actions: list[str]) -> None:
    line: IdleQueue[int] = IdleQueue()
    takers: list[asyncio.Task[int]] = []
    put = 0
    for action in actions:
        if action == "take":
            takers.append(asyncio.create_task(line.take()))
        elif action == "put":
            line.put(put)
            put += 1
        elif action == "turn":
            await asyncio.sleep(0)
        elif takers:
            takers[0 if action == "cancel first" else -1].cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    taken = [task.result() for task in takers if task.done() and not task.cancelled()]
    left = [task for task in takers if not task.done()]
    idle = []
    while put - len(taken) - len(idle) > 0:
        assert not left, "an item is idle while a call waits"
        idle.append(await asyncio.wait_for(line.take(), 5))
    assert sorted(taken + idle) == list(range(put))
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
