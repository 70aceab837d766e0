"""Several steps of one video in one batch: only what will run anyway, and the answer of one by one."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus.bundle.manifest import Manifest, OperatingPoint, Sampling
from adafocus.service.engine.request import EngineRequest, Outcome
from adafocus.service.engine.runners.fake import FakeRunner
from adafocus.service.errors import Internal
from adafocus.service.frame_memory import FrameSegment, SharedFrame
from tests.bundle.factory import make_manifest
from tests.service.engine.factory import (
    ALWAYS,
    CROP,
    NEVER,
    Frames,
    Recorder,
    make_engine,
    never_leave,
    running_batch,
)

pytestmark = pytest.mark.usefixtures("transport")

STEPS = 8


def manifest_of(steps: int) -> Manifest:
    full = OperatingPoint(name="full", thresholds=(None,) * steps, expected_gflops=0.02)
    sampling = Sampling(frames=steps, order=tuple(range(steps)))
    return make_manifest(steps=steps, sampling=sampling, operating_points=(full,), default_point="full")


PER_STEP = make_manifest().flops.per_step


async def held_until_decoded(
    request: EngineRequest, shades: list[int] | None = None, **runner: Any
) -> tuple[Outcome, list[int], Frames]:
    """The outcome of a video whose frames are decoded while the first step is held, and the rows of each batch."""
    gate = threading.Event()
    device = FakeRunner(3, gate=gate, **runner)
    async with make_engine(device, manifest_of(STEPS)) as (engine, recorder):
        frames = first_alone(shades or [120] * STEPS)
        task = asyncio.create_task(engine.classify(request, frames))
        await decoded_while_the_first_runs(device, recorder, frames)
        gate.set()
        return await task, device.batches, frames


def first_alone(shades: list[int]) -> Frames:
    """Frames of which only the first is there at once."""
    return Frames(shades, hold=asyncio.Event(), held_after=1)


async def decoded_while_the_first_runs(device: FakeRunner, recorder: Recorder, *videos: Frames) -> None:
    """Wait for the first batch, then hand out all further frames that are asked for."""
    await running_batch(device)
    for frames in videos:
        assert frames.hold is not None
        frames.hold.set()
    taken = -1
    while taken != sum(frames.taken for frames in videos):
        taken = sum(frames.taken for frames in videos)
        await recorder.settle()


async def test_the_steps_that_will_run_anyway_run_together_where_their_frames_are_there() -> None:
    outcome, batches, _ = await held_until_decoded(never_leave(STEPS), look_ahead=4)
    assert batches == [1, 4, 3]  # the first as soon as it could
    assert (outcome.reason, len(outcome.steps), outcome.frames_used) == ("all_steps", STEPS, STEPS)
    assert outcome.glance_flops + outcome.focus_flops == STEPS * PER_STEP
    assert [step.frame_index for step in outcome.steps] == [10 * position for position in range(STEPS)]


async def test_frames_that_are_certain_to_be_used_are_decoded_while_the_first_step_runs() -> None:
    gate = threading.Event()
    device = FakeRunner(3, gate=gate, look_ahead=4)
    async with make_engine(device, manifest_of(32)) as (engine, recorder):
        frames = first_alone([120] * 32)
        task = asyncio.create_task(engine.classify(never_leave(32), frames))
        await decoded_while_the_first_runs(device, recorder, frames)
        assert frames.taken == 32
        gate.set()
        await task
    assert device.batches[:2] == [1, 4]


@pytest.mark.parametrize(
    ("thresholds", "batches"),
    [
        ((0.99,) * 7, [1] * 8),  # it may leave after every step
        ((NEVER, NEVER, NEVER, 0.99, 0.99, 0.99, 0.99), [1, 3, 1, 1, 1, 1]),  # the first four are certain
    ],
)
async def test_a_step_after_which_the_video_may_leave_is_the_last_of_its_batch(
    thresholds: tuple[float, ...], batches: list[int]
) -> None:
    request = EngineRequest(thresholds=(*thresholds, ALWAYS))
    outcome, ran, _ = await held_until_decoded(request, look_ahead=4, gain=0.1)
    assert (outcome.reason, ran) == ("all_steps", batches)


async def test_a_cap_on_flops_is_kept() -> None:
    for steps in (1, 4, 6):
        request = never_leave(STEPS, max_flops=steps * PER_STEP + PER_STEP // 2)
        outcome, _, _ = await held_until_decoded(request, look_ahead=4)
        assert (outcome.reason, len(outcome.steps)) == ("max_gflops", steps)
        assert outcome.glance_flops + outcome.focus_flops == steps * PER_STEP


async def test_who_wants_to_hear_of_every_step_gets_one_by_one() -> None:
    _, batches, _ = await held_until_decoded(never_leave(STEPS, look_ahead=False), look_ahead=4)
    assert batches == [1] * STEPS


async def test_steps_share_the_time_of_their_batch() -> None:
    outcome, _, _ = await held_until_decoded(never_leave(STEPS), look_ahead=4)
    assert outcome.glance_seconds == pytest.approx(sum(step.glance_seconds for step in outcome.steps))
    assert len({step.glance_seconds for step in outcome.steps[1:5]}) == 1
    assert [step.queue_seconds for step in outcome.steps[2:5]] == [0.0] * 3


async def test_with_another_video_in_the_batch_nobody_looks_ahead() -> None:
    gate = threading.Event()
    device = FakeRunner(3, gate=gate, look_ahead=4)
    async with make_engine(device, manifest_of(STEPS)) as (engine, recorder):
        frames = [first_alone([120] * STEPS) for _ in range(2)]
        task = asyncio.gather(*(engine.classify(never_leave(STEPS), video) for video in frames))
        await decoded_while_the_first_runs(device, recorder, *frames)
        gate.set()
        outcomes = await task
    assert {outcome.reason for outcome in outcomes} == {"all_steps"}
    assert sum(device.batches) == 2 * STEPS
    assert 4 not in device.batches[:4]


async def test_a_batch_that_fails_is_its_videos_own_error() -> None:
    shades = [120] * 5 + [7] + [120] * 2
    with pytest.raises(Internal):
        await held_until_decoded(never_leave(STEPS), shades, look_ahead=4, fails_on=lambda frame: frame.mean() == 7)


async def test_a_client_that_leaves_while_several_steps_run_is_gone_with_them() -> None:
    gate = threading.Event()
    device = FakeRunner(3, gate=gate, look_ahead=4)
    async with make_engine(device, manifest_of(STEPS)) as (engine, recorder):
        frames = first_alone([120] * STEPS)
        task = asyncio.create_task(engine.classify(never_leave(STEPS), frames))
        await decoded_while_the_first_runs(device, recorder, frames)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        after = await engine.classify(never_leave(STEPS), Frames([10] * STEPS))
    assert int(after.last.logits.argmax()) == 0
    assert sum(device.batches) == 1 + STEPS


@settings(max_examples=25)
@given(
    shades=st.lists(st.integers(0, 255), min_size=STEPS, max_size=STEPS),
    never=st.lists(st.booleans(), min_size=STEPS - 1, max_size=STEPS - 1),
    turns=st.integers(0, 3),
)
def test_the_answer_is_that_of_one_by_one(shades: list[int], never: list[bool], turns: int) -> None:
    thresholds = (*(NEVER if skip else 0.8 for skip in never), ALWAYS)

    async def answer(look_ahead: int) -> Outcome:
        async with make_engine(FakeRunner(3, look_ahead=look_ahead), manifest_of(STEPS)) as (engine, _):
            return await engine.classify(EngineRequest(thresholds=thresholds), Frames(shades, turns))

    ahead, plain = (asyncio.run(answer(most)) for most in (4, 1))
    assert ahead.reason == plain.reason
    assert ahead.glance_flops == plain.glance_flops
    assert [step.frame_index for step in ahead.steps] == [step.frame_index for step in plain.steps]
    for mine, other in zip(ahead.steps, plain.steps, strict=True):
        assert mine.logits.tolist() == other.logits.tolist()


@dataclass
class WhereTheyLie:
    """Frames in a segment, and the places of those that may be written again."""

    segment: FrameSegment
    taken: int = 0
    released: list[int] = field(default_factory=list)

    async def next(self) -> SharedFrame:
        place = self.taken
        self.taken += 1
        return SharedFrame(place, 10 * place, None, self.segment, place, partial(self.released.append, place))


async def test_frames_of_a_lone_video_are_read_where_they_lie_and_stay_until_their_batch_is_done() -> None:
    gate = threading.Event()
    device = FakeRunner(3, gate=gate)
    frames = WhereTheyLie(FrameSegment.create(STEPS, CROP))
    async with make_engine(device, manifest_of(STEPS)) as (engine, recorder):
        task = asyncio.create_task(engine.classify(never_leave(STEPS), frames))
        await running_batch(device)
        await recorder.settle()
        assert frames.released == []
        gate.set()
        await task
    assert frames.released == list(range(STEPS))
