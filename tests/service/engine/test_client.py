"""When the core is woken, and what it is told of a video without frames."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from adafocus.service.engine.client import EngineClient
from adafocus.service.engine.messages import Commands, Report
from adafocus.service.engine.request import EngineRequest
from adafocus.service.engine.transport import RunnerInfo
from adafocus.service.errors import DeadlinePassed
from adafocus.service.frame_memory import FrameSegment
from tests.bundle.factory import make_manifest
from tests.service.engine.factory import Recorder, make_frame, never_leave


@dataclass
class Core:
    """Stands for a transport: remembers what was posted, and whether the core was woken for it."""

    posted: list[tuple[Commands, bool]] = field(default_factory=list)
    woken: int = 0
    report: Callable[[Report], None] = lambda _: None
    runner: RunnerInfo = field(default_factory=lambda: RunnerInfo("fake", "fp32", 1))
    slots: int = 2
    first_slot: int = 0
    pid: int = 0
    alive: bool = True
    returns: bool = False

    async def back(self) -> None:
        raise AssertionError("it is never lost")

    async def start(self, report: Callable[[Report], None]) -> None:
        self.report = report

    def post(self, commands: Commands, *, wake: bool = True) -> None:
        self.posted.append((commands, wake))

    def wake(self) -> None:
        self.woken += 1

    def attach(self, segment: FrameSegment) -> None:
        pass

    def detach(self, segment: FrameSegment) -> None:
        pass

    async def close(self) -> None:
        self.alive = False


async def make_client() -> tuple[EngineClient, Core]:
    core = Core()
    client = EngineClient(make_manifest(), core, Recorder())
    await client.start()
    return client, core


async def test_the_core_is_not_woken_for_a_frame_before_the_step_before_it_has_finished() -> None:
    client, core = await make_client()
    video = await client.submit(never_leave(look_ahead=False))
    for position in range(2):
        client.frame_ready(video, make_frame(position, 10))
        await asyncio.sleep(0)
    assert [wake for _, wake in core.posted] == [True, False]
    core.report(Report(stepped=[([video.slot], [1])]))
    assert core.woken == 1, "the second frame may lie there unseen"
    core.report(Report(stepped=[([video.slot], [2])]))
    assert core.woken == 1
    client.frame_ready(video, make_frame(2, 10))
    await asyncio.sleep(0)
    assert core.posted[-1][1], "the core waits for it"
    await client.close()


async def test_a_step_that_finishes_before_a_frame_is_sent_makes_it_urgent() -> None:
    client, core = await make_client()
    video = await client.submit(never_leave(look_ahead=False))
    client.frame_ready(video, make_frame(0, 10))
    await asyncio.sleep(0)
    client.frame_ready(video, make_frame(1, 10))
    core.report(Report(stepped=[([video.slot], [1])]))
    await asyncio.sleep(0)
    assert [wake for _, wake in core.posted] == [True, True]
    await client.close()


async def test_the_core_learns_of_a_video_with_its_first_frame_or_with_its_end() -> None:
    client, core = await make_client()
    first, second = await client.submit(never_leave()), await client.submit(never_leave())
    await asyncio.sleep(0)
    assert core.posted == []
    client.frame_ready(first, make_frame(0, 10))
    client.no_more_frames(second)
    await asyncio.sleep(0)
    ((commands, wake),) = core.posted
    assert [told.slot for told in commands.submitted] == [first.slot, second.slot]
    assert (commands.drained, wake) == ([second.slot], True)
    await client.close()


async def test_a_video_that_never_had_a_frame_gives_its_slot_back_at_once() -> None:
    client, core = await make_client()
    videos = [await client.submit(never_leave()) for _ in range(2)]
    client.cancel(videos[0])
    client.frame_ready(videos[0], make_frame(0, 10))  # comes too late
    again = await client.submit(never_leave())
    assert again.slot == videos[0].slot
    await asyncio.sleep(0)
    assert core.posted == []
    await client.close()


async def test_the_deadline_of_a_video_without_frames_is_kept() -> None:
    client, core = await make_client()
    video = await client.submit(EngineRequest(never_leave().thresholds, deadline=time.monotonic()))
    with pytest.raises(DeadlinePassed):
        await video.finished
    assert core.posted == []
    await client.close()
