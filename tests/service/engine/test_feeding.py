"""How frames reach the core: at once where they are there, from memory shared with their decoder, and given back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest

from adafocus.service.engine.request import EngineRequest
from adafocus.service.engine.runners.fake import FakeRunner
from adafocus.service.frame_memory import FrameSegment, SharedFrame
from tests.service.engine.factory import ALWAYS, CROP, Frames, make_engine, make_frame, never_leave, running_batch

pytestmark = pytest.mark.usefixtures("transport")


@dataclass
class Decoder:
    """A source whose frames lie in shared memory, and are there at once."""

    segment: FrameSegment
    shades: list[int]
    taken: int = 0
    waited: int = 0
    lent: set[int] = field(default_factory=set)
    most_lent: int = 0

    async def next(self) -> SharedFrame | None:
        self.waited += 1
        return self.next_ready()

    def next_ready(self) -> SharedFrame | None:
        if self.taken == len(self.shades):
            return None
        place = next(place for place in range(len(self.segment.pixels)) if place not in self.lent)
        self.lent.add(place)
        self.most_lent = max(self.most_lent, len(self.lent))
        self.segment.pixels[place] = self.shades[self.taken]
        self.taken += 1
        return SharedFrame(self.taken - 1, self.taken - 1, None, self.segment, place, partial(self.lent.remove, place))


@dataclass
class Announced(Decoder):
    """A source whose frames come one by one when they are asked for, and which says so; the last call may fail."""

    error: Exception | None = None
    arrived: int = 0
    asked: int = 0
    changed: Callable[[], None] = lambda: None

    async def next(self) -> SharedFrame | None:
        raise AssertionError("nobody has to wait for a source that says when it has a frame")

    def next_ready(self) -> SharedFrame | None:
        return super().next_ready() if self.taken < self.arrived else None

    def listen(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    def ask(self) -> bool:
        if self.arrived == len(self.shades):
            if self.error is not None:
                raise self.error
            return False
        self.asked += 1
        asyncio.get_running_loop().call_soon(self.arrive)
        return True

    def arrive(self) -> None:
        self.arrived = min(self.arrived + 1, len(self.shades))
        self.changed()


async def test_a_source_that_says_when_it_has_a_frame_needs_no_task() -> None:
    source = Announced(FrameSegment.create(4, CROP), [10, 20, 250, 30])
    async with make_engine() as (engine, _):
        classifying = asyncio.create_task(engine.classify(never_leave(), source))
        await asyncio.sleep(0)
        known = asyncio.all_tasks()
        outcome = await classifying
        assert asyncio.all_tasks() <= known
    assert [int(step.logits.argmax()) for step in outcome.steps] == [0, 0, 2, 2]
    assert (source.asked, source.lent) == (4, set())
    source.changed()  # of no consequence any more


async def test_a_source_that_says_that_no_frame_is_left_ends_its_video() -> None:
    source = Announced(FrameSegment.create(4, CROP), [10, 20])
    async with make_engine() as (engine, _):
        outcome = await engine.classify(never_leave(), source)
    assert (outcome.reason, len(outcome.steps)) == ("end_of_video", 2)


async def test_the_error_of_a_source_that_is_asked_is_its_callers() -> None:
    for shades in ([], [10, 20]):
        source = Announced(FrameSegment.create(4, CROP), shades, error=ZeroDivisionError("no more"))
        async with make_engine() as (engine, _):
            with pytest.raises(ZeroDivisionError, match="no more"):
                await engine.classify(never_leave(), source)
        assert source.lent == set()


async def test_a_frame_is_read_where_its_decoder_wrote_it_and_given_back_once() -> None:
    for look_ahead, most_lent in ((True, 4), (False, 3)):
        decoder = Decoder(FrameSegment.create(most_lent, CROP), [10, 20, 250, 30])
        async with make_engine() as (engine, _):
            outcome = await engine.classify(never_leave(look_ahead=look_ahead), decoder)
        assert [int(step.logits.argmax()) for step in outcome.steps] == [0, 0, 2, 2]
        assert decoder.lent == set()
        assert decoder.most_lent <= most_lent
        assert decoder.waited == 0


async def test_frames_that_nobody_needs_any_more_are_given_back_too() -> None:
    gate = threading.Event()
    runner = FakeRunner(3, gate=gate)
    decoder = Decoder(FrameSegment.create(4, CROP), [10] * 4)
    async with make_engine(runner) as (engine, _):
        task = asyncio.create_task(engine.classify(never_leave(), decoder))
        await running_batch(runner)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert decoder.lent == set()
        gate.set()
    confident = Decoder(FrameSegment.create(4, CROP), [10] * 4)
    async with make_engine(FakeRunner(3, gain=5.0)) as (engine, _):
        outcome = await engine.classify(EngineRequest(thresholds=(0.9, 0.9, 0.9, ALWAYS)), confident)
    assert (outcome.reason, confident.lent) == ("confident", set())


async def test_a_source_that_ends_early_says_so_when_it_is_asked_to_wait() -> None:
    decoder = Decoder(FrameSegment.create(4, CROP), [10] * 2)
    async with make_engine() as (engine, _):
        outcome = await engine.classify(never_leave(), decoder)
    assert (outcome.reason, len(outcome.steps), decoder.waited) == ("end_of_video", 2, 1)


async def test_a_watcher_has_the_picture_of_its_step_though_its_place_is_used_again() -> None:
    decoder = Decoder(FrameSegment.create(2, CROP), [1, 2, 3, 4])
    seen: list[tuple[Callable[[], int], int]] = []
    async with make_engine() as (engine, _):
        request = never_leave(
            look_ahead=False,
            on_step=lambda step, frame: seen.append((lambda: int(frame.pixels.max()), step.frame_index)),
        )
        await engine.classify(request, decoder)
    assert [(shade(), index) for shade, index in seen] == [(1, 0), (2, 1), (3, 2), (4, 3)]


async def test_what_a_watcher_raises_is_its_callers_error() -> None:
    def refuse(*_: object) -> None:
        raise ZeroDivisionError

    async with make_engine() as (engine, _):
        with pytest.raises(ZeroDivisionError):
            await engine.classify(never_leave(on_step=refuse), Frames([10] * 4))
        assert (await engine.classify(never_leave(), Frames([10] * 4))).reason == "all_steps"


async def test_segments_whose_decoders_have_ended_are_forgotten() -> None:
    async with make_engine() as (engine, _):
        for shade in (10, 250, 10):
            decoder = Decoder(FrameSegment.create(4, CROP), [shade] * 4)
            outcome = await engine.classify(never_leave(), decoder)
            assert int(outcome.last.logits.argmax()) == (2 if shade == 250 else 0)
            decoder.segment.retired = True
        assert len(engine._client._segments) == 1


async def test_more_videos_than_slots_wait_for_one() -> None:
    async with make_engine(slots=1, max_batch=1) as (engine, _):
        videos = [engine.classify(never_leave(), Frames([shade] * 4)) for shade in (10, 120, 250) * 3]
        outcomes = await asyncio.gather(*videos)
    assert [int(outcome.last.logits.argmax()) for outcome in outcomes] == [0, 1, 2] * 3


async def test_a_source_that_goes_on_for_ever_is_not_asked_for_more_than_the_model_uses() -> None:
    frames = Frames([10] * 100)
    async with make_engine() as (engine, _):
        await engine.classify(never_leave(), frames)
    assert frames.taken == len(never_leave().thresholds)
    assert make_frame(0, 1).pixels.shape == (CROP, CROP, 3)
