"""The memory for frames is bounded, and lent to one video at a time."""

from __future__ import annotations

import asyncio

import pytest

from adafocus.service.decode.frame_arena import FrameArena, Lease
from adafocus.service.decode.shared_frames import SharedFrames
from adafocus.service.errors import Draining


async def test_a_segment_is_lent_to_one_at_a_time_and_no_more_are_made_than_allowed() -> None:
    arena = FrameArena(2, slots=1, crop=4)
    first, second = await arena.take(), await arena.take()
    assert first is not second
    waiting = asyncio.create_task(arena.take())
    await asyncio.sleep(0)
    assert (arena.lent, arena.waiting) == (2, 1)
    arena.put(first)
    assert await waiting is first
    arena.put(first)
    assert await arena.take() is first, "it is used again"
    arena.put(first)
    arena.put(second)
    assert arena.lent == 0
    arena.close(Draining())


async def test_the_segment_of_a_caller_that_was_used_last_is_lent_first() -> None:
    arena = FrameArena(4, slots=1, crop=4)
    first, second, third = [await arena.take("a") for _ in range(3)]
    other = await arena.take("b")
    for frames in (second, other, third, first):
        arena.put(frames)
    assert [await arena.take("a") for _ in range(3)] == [first, third, second]
    for frames in (first, third, second):
        arena.put(frames)
    assert await arena.take("b") is other
    assert await arena.take("b") not in (first, second, third), "no memory serves two callers"
    assert first.fd == -1, "what was idle for longest gave way"
    arena.close(Draining())


async def test_a_spare_segment_is_given_back_to_the_system() -> None:
    arena = FrameArena(1, slots=1, crop=4)
    first, spare = await arena.take(), arena.spare()
    arena.put(spare)
    assert (spare.fd, arena.lent) == (-1, 1)
    arena.put(first)
    assert first.fd >= 0
    arena.close(Draining())
    assert first.fd == -1


async def test_closing_fails_those_who_wait_and_takes_the_rest_when_it_is_put_back() -> None:
    arena = FrameArena(1, slots=1, crop=4)
    lent = await arena.take()
    waiting = asyncio.create_task(arena.take())
    await asyncio.sleep(0)
    arena.close(Draining())
    arena.close(Draining())
    with pytest.raises(Draining):
        await waiting
    with pytest.raises(Draining):
        await arena.take()
    assert lent.fd >= 0
    arena.put(lent)
    assert lent.fd == -1


@pytest.mark.parametrize("last", ["read", "written"])
def test_a_lease_ends_when_it_is_written_and_read(last: str) -> None:
    frames, ended = SharedFrames.create(2, 4), list[SharedFrames]()
    lease = Lease(frames, ended.append)
    lease.unread.update((0, 1))
    lease.read(0)
    if last == "read":
        lease.written()
        assert ended == []
        lease.read(1)
    else:
        lease.read(1)
        assert ended == []
        lease.written()
    lease.read(1)
    lease.written()
    assert ended == [frames]
    frames.close()
