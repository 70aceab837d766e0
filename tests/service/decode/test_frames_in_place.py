"""Frames that are read where a worker wrote them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from adafocus.service.decode.frames_in_place import FramesInPlace
from adafocus.service.decode.pool import WorkerTimeouts
from adafocus.service.errors import Undecodable
from adafocus.service.frame_memory import SharedFrame
from tests.service.decode.test_session import OPENED, Scene, done, frame, make_session, scene

__all__ = ["scene"]  # a fixture


async def test_frames_in_place_lie_where_the_worker_wrote_them_until_they_are_released(scene: Scene) -> None:
    scene.hear(OPENED, frame(0, 0), frame(1, 2))
    source = FramesInPlace(scene.session)
    first = source.next_ready()
    assert isinstance(first, SharedFrame)
    assert np.shares_memory(first.pixels, scene.memory.segment.pixels)
    assert (first.position, int(first.pixels.max())) == (0, 0)
    second = await source.next()
    assert isinstance(second, SharedFrame)
    assert (second.position, int(second.pixels.max())) == (2, 1)
    assert source.next_ready() is None
    assert scene.worker.told == ["job 10 False"]
    first.release()
    assert scene.worker.told == ["job 10 False"], "nothing is decoded before it is asked for"
    assert source.next_ready() is None
    assert scene.worker.told[-1] == "free 0"


async def test_a_slot_goes_back_at_once_if_the_next_frame_is_waited_for(scene: Scene) -> None:
    scene.hear(OPENED, frame(0, 0))
    source = FramesInPlace(scene.session)
    first = await source.next()
    assert isinstance(first, SharedFrame)
    waiting = asyncio.create_task(source.next())
    await asyncio.sleep(0)
    first.release()
    assert scene.worker.told[-1] == "free 0"
    scene.hear(frame(0, 3))
    second = await waiting
    assert second is not None
    assert second.position == 3


async def test_whoever_listens_is_told_of_every_frame_and_of_the_end(scene: Scene) -> None:
    source, told = FramesInPlace(scene.session), []
    source.listen(lambda: told.append(source.next_ready()))
    scene.hear(OPENED, frame(0, 0))
    first, *_ = told
    assert first is not None
    assert source.ask()
    assert scene.worker.told == ["job 10 False"]
    first.release()
    assert scene.worker.told[-1] == "free 0", "the next frame is asked for"
    scene.hear(frame(0, 1), done())
    assert [found and found.position for found in told] == [0, 1, None]
    assert not source.ask()


async def test_whoever_asks_gets_a_further_place_while_the_first_is_being_read(scene: Scene) -> None:
    scene.session = make_session(scene, WorkerTimeouts(stall_seconds=30), slots=1)
    scene.session.start(scene.worker, scene.memory)
    source = FramesInPlace(scene.session)
    scene.hear(OPENED)
    assert source.ask()
    assert scene.worker.told[-1].startswith("job"), "the worker has a free slot"
    scene.hear(frame(0, 0))
    assert source.next_ready() is not None
    assert source.ask()
    assert scene.worker.told[-1] == "free 1"
    scene.hear(frame(1, 1))
    assert source.next_ready() is not None
    told = list(scene.worker.told)
    assert source.ask()
    assert scene.worker.told == told, "there are two slots in this memory"


async def test_asking_raises_what_ended_the_video(scene: Scene) -> None:
    source = FramesInPlace(scene.session)
    assert source.ask()
    scene.hear(done("undecodable", "nothing there"))
    with pytest.raises(Undecodable, match="nothing there"):
        source.ask()


async def test_a_worker_has_its_next_video_while_its_frames_wait(scene: Scene) -> None:
    scene.hear(OPENED, frame(0, 0), frame(1, 2))
    source = FramesInPlace(scene.session)
    first = source.next_ready()
    assert first is not None
    scene.hear(done())
    assert len(scene.ends) == 1
    second = source.next_ready()
    assert second is not None
    assert (second.position, int(second.pixels.max())) == (2, 1)
    first.release()
    assert scene.read == []
    second.release()
    assert scene.read == [scene.memory]
    assert await source.next() is None
    assert scene.worker.told == ["job 10 False"]


async def test_closing_keeps_the_memory_of_a_frame_that_was_not_released(scene: Scene) -> None:
    scene.hear(OPENED, frame(0, 0))
    first = FramesInPlace(scene.session).next_ready()
    assert first is not None
    scene.hear(done())
    await scene.session.close()
    assert scene.read == []
    first.release()
    first.release()
    assert scene.read == [scene.memory]


async def test_a_frame_outlives_the_arena(scene: Scene) -> None:
    scene.hear(OPENED, frame(1, 0))
    first = FramesInPlace(scene.session).next_ready()
    assert first is not None
    scene.memory.close()
    assert int(first.pixels.max()) == 1
    assert first.segment.retired


async def test_frames_smaller_than_their_places_cannot_be_read_in_place(scene: Scene) -> None:
    scene.hear(OPENED, frame(1, 0))
    scene.memory.crop += 1
    with pytest.raises(ValueError, match="pixels a side"):
        FramesInPlace(scene.session).next_ready()
    scene.memory.crop -= 1
